"""Two kernels under the same claims: where the two sides come from, and what differs between their runs."""
