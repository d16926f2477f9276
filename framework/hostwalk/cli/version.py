"""``hostwalk version``."""

from __future__ import annotations

import argparse
import platform

import hostwalk
from hostwalk import doctor
from hostwalk.cli.output import out


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb: none."""
    parser.description = "Say which hostwalk, Python and QEMU this is: the lines to put into a bug report."


def run(_args: argparse.Namespace) -> int:
    """Print the versions."""
    console = out()
    console.print(f"hostwalk {hostwalk.__version__}")
    console.print(f"Python {platform.python_version()}, Linux {platform.release()} {platform.machine()}")
    for tool in doctor.QEMUS:
        console.print(f"{tool.name} {doctor.version_of(tool) or 'is not installed'}")
    return 0
