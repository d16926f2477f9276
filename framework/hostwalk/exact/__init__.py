"""Executions of repro scripts that are recorded and replayed instruction by instruction, and who wrote what in them."""
