"""The reports on a comparison of two kernels, each in a module of its own."""
