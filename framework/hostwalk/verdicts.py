"""From the way a claim's test ended to a verdict."""

from __future__ import annotations

import os
import re
import shlex
import textwrap
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostwalk import resources
from hostwalk.claim import Claim
from hostwalk.errors import UNTESTABLE, GuestCrashError, HostwalkError
from hostwalk.guest import NotExported
from hostwalk.options import CheckOptions, command
from hostwalk.report.model import Verdict
from hostwalk.target import DEFAULT_FORMATS, DEFAULT_KERNEL, Target

_PLAIN_ERRORS = "AssertionError|OutcomeError|WarnedError|BreachedError|UnnoticedError"
_OTHERS = frozenset({"_pytest", "pluggy"})


class UnnoticedError(AssertionError):
    """A sabotage was done and the claim was still kept."""


@dataclass(frozen=True)
class Ending:
    """A verdict with its reason (n/a, unproven, departs) or its detail (broken)."""

    verdict: Verdict
    reason: str = ""
    detail: str = ""
    crashed: bool = False
    untestable: bool = False


def judge(claim: Claim, code: int, error: BaseException | None, detail: str) -> Ending:
    """Return the verdict on a claim whose test ended with ``error`` (None: it ran to its end).

    ``code`` is the kernel's LINUX_VERSION_CODE, ``detail`` the failed assertion as pytest explains it.
    """
    match error:
        case None:
            return Ending(Verdict.KEPT)
        case NotExported():
            return Ending(Verdict.NOT_APPLICABLE, error.message)
        case pytest.skip.Exception():
            return Ending(Verdict.NOT_APPLICABLE, str(error.msg))
        case UnnoticedError():
            return Ending(Verdict.BROKEN, detail=detail)
        case AssertionError() | pytest.fail.Exception():
            return _broken(claim, code, str(error), detail)
        case HostwalkError():
            return judge_error(error)
    return Ending(Verdict.UNPROVEN, f"{type(error).__name__}: {error}", _where(error))


def judge_error(error: HostwalkError) -> Ending:
    """Return the verdict where an error ended the claim: broken by the kernel if it crashed, else unproven."""
    if error.exit_status == UNTESTABLE:
        return Ending(Verdict.UNPROVEN, f"{error.phase}: {error.message}", str(error), untestable=True)
    if isinstance(error, GuestCrashError):
        return Ending(Verdict.BROKEN, "the guest kernel crashed", str(error), crashed=True)
    return Ending(Verdict.UNPROVEN, f"{error.phase}: {error.message}", str(error))


def said(explained: str) -> str:
    """Return a failure as pytest explains it, without the names of errors that say nothing."""
    lines = [line[4:].rstrip() for line in explained.splitlines() if line.startswith("E ")]
    return re.sub(rf"\A(?:[\w.]+\.)?(?:{_PLAIN_ERRORS}): ", "", textwrap.dedent("\n".join(lines)))


def _where(error: BaseException) -> str:
    """Return the traceback of a defect in a test or in hostwalk, without the frames of pytest."""
    told = traceback.TracebackException.from_exception(error)
    own = [frame for frame in told.stack if not _OTHERS & set(Path(frame.filename).parts)]
    told.stack = traceback.StackSummary.from_list(own)
    return "".join(told.format())


def _broken(claim: Claim, code: int, failure: str, detail: str) -> Ending:
    if claim.departs is not None and claim.departs.explains(failure, code):
        return Ending(Verdict.DEPARTS, str(claim.departs), detail)
    return Ending(Verdict.BROKEN, detail=detail)


def rerun_command(claim: Claim, target: Target, options: CheckOptions, nodeid: str = "") -> str:
    """Return the command line that repeats one claim on one target; ``nodeid``: of a claim that is not ours."""
    words = ["--arch", str(target.arch)]
    if target.format != DEFAULT_FORMATS[target.arch]:
        words += ["--format", target.format]
    if target.kernel != DEFAULT_KERNEL:
        words += ["--kernel", target.kernel]
    if target.cpus != 1:
        words += ["--smp", str(target.cpus)]
    words += _remaining(options)
    if nodeid:
        prefixed = (f"--hostwalk-{word[2:]}" if word.startswith("--") else word for word in words)
        return shlex.join(["pytest", nodeid, *prefixed])
    return shlex.join([command(), "check", *words, "-k", claim.id])


def run_command(config: pytest.Config, options: CheckOptions, *, ours: bool) -> str:
    """Return the command line that repeats a run, of ``hostwalk check`` (``ours``) or of pytest."""
    if ours:
        return f"{command()} check {options.request}".rstrip()
    return shlex.join(["pytest", *map(str, config.invocation_params.args)])


def foreign(item: pytest.Item) -> str:
    """Return the place of a test that is not of the contract, as pytest takes it; empty for our own."""
    if resources.contract() in item.path.parents:
        return ""
    file = os.path.relpath(item.path, item.config.invocation_params.dir)
    return "::".join([file, *item.nodeid.split("::")[1:]])


def _remaining(options: CheckOptions) -> list[str]:
    """Return the options that belong to no single target, where they are not the default."""
    default = CheckOptions()
    names = ("accel", "memory", "mirror", "headers", "symbols", "isolation")
    values = {name: getattr(options, name) for name in names}
    words = [f"--{name}={value}" for name, value in values.items() if value != getattr(default, name)]
    return [*words, *(["--sabotage"] if options.sabotage else []), *([] if options.audit else ["--no-audit"])]
