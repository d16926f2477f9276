"""A running QEMU: its command line, its life, its console, its registers."""

from hostwalk.machine.accel import Accel, choose
from hostwalk.machine.console import Console
from hostwalk.machine.frozen import Frozen, freeze
from hostwalk.machine.launch import launch, thaw
from hostwalk.machine.machine import Machine, Plan
from hostwalk.machine.qmp import Event, Qmp, QmpCommandError
from hostwalk.machine.registers import Registers
from hostwalk.machine.reports import Report, find_reports
from hostwalk.machine.rewind import Rewinder

__all__ = [
    "Accel",
    "Console",
    "Event",
    "Frozen",
    "Machine",
    "Plan",
    "Qmp",
    "QmpCommandError",
    "Registers",
    "Report",
    "Rewinder",
    "choose",
    "find_reports",
    "freeze",
    "launch",
    "thaw",
]
