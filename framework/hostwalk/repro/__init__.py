"""Repro scripts: one file that does again what was done, and asserts what was promised."""

from hostwalk.repro.failure import Failure
from hostwalk.repro.pin import Pin
from hostwalk.repro.script import repro

__all__ = ["Failure", "Pin", "repro"]
