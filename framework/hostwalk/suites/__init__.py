"""Other people's test suites: what they print, what it means, and running them in a guest."""
