"""The command line: one module for each verb, with ``arguments(parser)`` and ``run(args) -> exit status``."""
