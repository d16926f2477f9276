"""``hostwalk test``: the project's own tests, through tox."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.text import Text

from hostwalk import doctor, process
from hostwalk.cli import output, signals
from hostwalk.cli.progress import busy, showing
from hostwalk.cli.question import asker
from hostwalk.errors import HostwalkError, UsageError
from hostwalk.report.model import Verdict
from hostwalk.report.words import STYLES, duration, signs
from hostwalk.target import Arch

READING = ("lint", "types")
FAST = (*READING, "unit")
ALL = (*FAST, "system", "contract")
MORE = ("benchmarks", "building")
PATIENCE = 5400.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "Run the environments of tox.ini on what is installed here; nothing else is downloaded for it."
    )
    parser.add_argument(
        "envs", nargs="*", metavar="ENV", help=f"default: {', '.join(ALL)}; also: {', '.join(MORE)}"
    )
    parser.add_argument("--fast", action="store_true", help=f"only what needs no machine: {', '.join(FAST)}")


def run(args: argparse.Namespace) -> int:
    """Run the environments in order; return 0 when all pass, else 1."""
    top = checkout()
    envs = tuple(args.envs) or (FAST if args.fast else ALL)
    if unknown := set(envs) - {*ALL, *MORE}:
        raise UsageError(f"no test environment {min(unknown)!r}", remedy=f"use {', '.join((*ALL, *MORE))}")
    if set(envs) - set(READING):
        with showing(output.err()) as progress:
            doctor.ensure((*doctor.needed(Arch), *doctor.TESTING), ask=asker(), busy=busy(progress))
    began = time.monotonic()
    passed = _tox(top, envs)
    signals.check()
    _close(envs, passed, time.monotonic() - began)
    return 0 if passed == set(envs) else 1


def checkout() -> Path:
    """Return the top directory of the checkout that hostwalk runs from; raises UsageError without one."""
    top = Path(__file__).resolve().parents[3]
    if not (top / "tox.ini").is_file():
        raise UsageError(
            "the tests are not installed with hostwalk", remedy="run ./hostwalk test in a checkout"
        )
    return top


def _tox(top: Path, envs: Sequence[str]) -> set[str]:
    """Run tox, return what passed; its environments use this interpreter and what is installed for it."""
    with tempfile.TemporaryDirectory(prefix="hostwalk-test-") as directory:
        results = Path(directory, "results.json")
        tox = (sys.executable, "-m", "tox", "run", "-c", str(top / "tox.ini"), "--result-json", str(results))
        _to_the_end((*tox, "--skip-pkg-install", "-e", ",".join(envs)), top)
        return _passed(results)


def _to_the_end(argv: Sequence[str], top: Path) -> None:
    env = {**os.environ, "HOSTWALK_PYTHON": sys.executable}
    running = process.spawn(argv, stdout=None, stderr=None, cwd=top, env=env)
    try:
        running.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise HostwalkError(f"the tests did not end within {duration(PATIENCE)}") from None
    finally:
        process.kill(running)


def _passed(results: Path) -> set[str]:
    try:
        envs = json.loads(results.read_text())["testenvs"]
    except (OSError, ValueError, KeyError) as error:
        raise HostwalkError("tox ended before it ran a test", remedy="see what it says above") from error
    return {name for name, env in envs.items() if (env.get("result") or {}).get("success")}


def _close(envs: Sequence[str], passed: Collection[str], seconds: float) -> None:
    failed = [name for name in envs if name not in passed]
    verdict = Verdict.BROKEN if failed else Verdict.KEPT
    outcome = f"failed: {', '.join(failed)}" if failed else f"passed: {', '.join(envs)}"
    console = output.out()
    line = f"{signs(console.encoding)[verdict]} hostwalk test {outcome} in {duration(seconds)}"
    console.print(Text(line, STYLES[verdict]), soft_wrap=True)
