"""Reports: what a run of the contract found, for people and for machines."""
