"""hostwalk: boots Linux in QEMU and judges its memory management from the host."""

__version__ = "0.1.0"
