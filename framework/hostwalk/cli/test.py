"""``hostwalk test``: the project's own tests, through tox."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from hostwalk import doctor, process
from hostwalk.cli import output
from hostwalk.cli.progress import busy, showing
from hostwalk.cli.question import asker
from hostwalk.errors import HostwalkError, UsageError
from hostwalk.report.model import Verdict
from hostwalk.report.words import STYLES, duration, signs
from hostwalk.target import Arch

FAST = ("lint", "types", "unit")
ALL = (*FAST, "system", "contract")
PATIENCE = 5400.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "Run the environments of tox.ini on what is installed here; nothing else is downloaded for it."
    )
    parser.add_argument("envs", nargs="*", metavar="ENV", help=f"default: {', '.join(ALL)}; also: benchmarks")
    parser.add_argument("--fast", action="store_true", help=f"only what needs no machine: {', '.join(FAST)}")


def run(args: argparse.Namespace) -> int:
    """Run the environments in order; return 0 when all pass, else 1."""
    top = checkout()
    envs = tuple(args.envs) or (FAST if args.fast else ALL)
    if set(envs) - set(FAST):
        with showing(output.err()) as progress:
            doctor.ensure(doctor.needed(Arch), ask=asker(), busy=busy(progress))
    began = time.monotonic()
    status = _tox(top, envs)
    _close(envs, status, time.monotonic() - began)
    return 0 if status == 0 else 1


def checkout() -> Path:
    """Return the top directory of the checkout that hostwalk runs from; raises UsageError without one."""
    top = Path(__file__).resolve().parents[3]
    if not (top / "tox.ini").is_file():
        raise UsageError(
            "the tests are not installed with hostwalk", remedy="run ./hostwalk test in a checkout"
        )
    return top


def _tox(top: Path, envs: Sequence[str]) -> int:
    """Run tox; its environments use this interpreter, in which the project is installed editable."""
    tox = (sys.executable, "-m", "tox", "run", "-c", str(top / "tox.ini"))
    argv = (*tox, "--skip-pkg-install", "-e", ",".join(envs))
    env = {**os.environ, "HOSTWALK_PYTHON": sys.executable}
    running = process.spawn(argv, stdout=None, stderr=None, cwd=top, env=env)
    try:
        return running.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise HostwalkError(f"the tests did not end within {duration(PATIENCE)}") from None
    finally:
        process.kill(running)


def _close(envs: Sequence[str], status: int, seconds: float) -> None:
    console = output.out()
    verdict = Verdict.BROKEN if status else Verdict.KEPT
    outcome = "failed" if status else "passed"
    sign = signs(console.encoding)[verdict]
    line = f"{sign} hostwalk test {outcome}: {', '.join(envs)} in {duration(seconds)}"
    console.print(Text(line, STYLES[verdict]), soft_wrap=True)
