"""Recording an execution: the very session of a script, with all that the host says to the guest in QEMU's log."""

from __future__ import annotations

import ast
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

from hostwalk.cell import Cell, Prepared, boot
from hostwalk.deadline import Deadline
from hostwalk.errors import HostwalkError, UsageError
from hostwalk.exact.recording import Cost, Recording
from hostwalk.machine import Machine, launch
from hostwalk.machine.command import Payload, Wiring, exact_args, kernel_cmdline, qemu_args
from hostwalk.machine.course import Recorded
from hostwalk.machine.qemu import find_qemu
from hostwalk.repro.pin import Pin
from hostwalk.repro.run import Outcome, Result, perform
from hostwalk.repro.script import Script
from hostwalk.target import Target

TRIES = 3
BOOT, VERDICT, END = "boot", "verdict", "end"
OPERATION_SECONDS = 60.0
END_SECONDS = 60.0
HEADER_BYTES = 4
LIMIT = 256 << 20


def record(script: Script, prepared: Prepared, limit: int = LIMIT) -> Recording:
    """Run a script plainly, then record it, on a target of TCG; a failure that does not always come has three tries.

    Raises HostwalkError when it does not reproduce or QEMU has not finished its log, UsageError for a large log and
    what :func:`require_recordable` refuses, and what a boot raises.
    """
    require_recordable(prepared.target)
    seconds, outcome = _timed(lambda: boot(prepared), script)
    _require(outcome, "on a plain machine")
    for _ in range(TRIES):
        made, outcome = _recorded(script, prepared, limit, seconds)
        if isinstance(outcome.error, UsageError):
            raise outcome.error
        if outcome.result is Result.REPRODUCES:
            break
    _require(outcome, f"while it is recorded, in {TRIES} tries")
    _require_whole(made.log)
    return made


def require_recordable(target: Target) -> None:
    """Raise UsageError for a machine of more than one processor.

    QEMU's log does not say which of them executed, so it refuses to record (qemu_apply_machine_options, softmmu/vl.c).
    """
    if target.cpus > 1:
        raise UsageError(
            f"the script is of a machine of {target.cpus} processors, and QEMU records no more than one",
            remedy="give it one: --smp 1; see first that it reproduces so: hostwalk repro run FILE --smp 1",
        )


def _require(outcome: Outcome, where: str) -> None:
    if outcome.result is Result.REPRODUCES:
        return
    said = f": {outcome.said}" if outcome.said else ""
    error = HostwalkError(
        f"the script {outcome.result} {where}{said}",
        remedy="see first that it does: hostwalk repro run FILE --tries 10",
    )
    if outcome.error is not None:
        error.evidence = outcome.error.evidence
    raise error


def _timed(
    make: Callable[[], Cell], script: Script, ending: Callable[[Cell, str], None] = lambda _cell, _what: None
) -> tuple[float, Outcome]:
    """Run a script; return the seconds up to its end and the outcome. ``ending`` is told of the verdict and the end."""
    start = time.monotonic()
    cell = make()
    try:
        cell.agent.seconds = OPERATION_SECONDS
        outcome = perform(script, cell, lambda _failed: ending(cell, VERDICT))
        seconds = time.monotonic() - start
        ending(cell, END)
        return seconds, outcome
    finally:
        cell.close()


def _recorded(script: Script, prepared: Prepared, limit: int, plain: float) -> tuple[Recording, Outcome]:
    log = os.memfd_create("hostwalk-log")
    try:
        course = Recorded(log, limit, lambda: statement(script))

        @contextmanager
        def start(what: Prepared, deadline: Deadline) -> Iterator[Machine]:
            with launch(
                what.target, what.kernel, what.image, deadline=deadline, log=log,
                extra=exact_args(log, replay=False),
            ) as machine:  # fmt: skip
                machine.course = course
                try:
                    yield machine
                finally:
                    _finish(machine)

        def ending(cell: Cell, what: str) -> None:
            course.what = lambda: what
            with cell.machine.stopped():
                pass

        seconds, outcome = _timed(lambda: boot(prepared, start=start), script, ending)
        data = _whole(log)
    finally:
        os.close(log)
    made = Recording(
        Pin.of(prepared, "tcg"), script, command(prepared), tuple(course.marks), outcome.said,
        Cost(plain, seconds, len(data)), dict(prepared.image.layout), dict(prepared.image.abi), data,
        prepared.image.initramfs.read_bytes(),
    )  # fmt: skip
    return made, outcome


def _finish(machine: Machine) -> None:
    """Have QEMU end by itself, even where its guest has crashed: only then is the log whole."""
    with suppress(HostwalkError):
        machine.qmp.execute("quit")
        machine.ending(END_SECONDS)


def _require_whole(log: bytes) -> None:
    """Refuse a log without its header: QEMU writes that last (replay/replay.c, replay_finish)."""
    if not any(log[:HEADER_BYTES]):
        raise HostwalkError(
            f"the log is not whole: QEMU did not end within {END_SECONDS:.0f} s after the recording",
            remedy="record it again on a host that is less busy",
        )


def _whole(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def command(prepared: Prepared) -> str:
    """Return QEMU's command line without what differs from run to run; it tells machines apart."""
    target, image = prepared.target, prepared.image
    payload = Payload(Path("kernel"), Path("initramfs"), kernel_cmdline(target, image.cmdline))
    qemu = replace(find_qemu(target.arch), path=Path("qemu"))
    words = qemu_args(target, qemu, "tcg", payload, Wiring(0, 0, 0, 0))
    return "\0".join((*words, *exact_args(0, replay=False)))


def statement(script: Script) -> str:
    """Return the statement of a script that is being done, "boot" before it has begun."""
    frame = _frame(sys._getframe(1), script)
    if frame is None:
        return BOOT
    lines = ast.unparse(script.tree).splitlines()
    return lines[frame.f_lineno - 1].strip() if frame.f_lineno <= len(lines) else ""


def _frame(frame: FrameType | None, script: Script) -> FrameType | None:
    while frame is not None and (frame.f_code.co_filename, frame.f_code.co_name) != (
        str(script.path),
        script.test,
    ):
        frame = frame.f_back
    return frame


def names_at_failure(script: Script, failed: BaseException | None) -> dict[str, object]:
    """Return the names that a script had when ``failed`` was raised; none where nothing was."""
    trace = failed.__traceback__ if failed is not None else None
    while trace is not None:
        if _frame(trace.tb_frame, script) is trace.tb_frame:
            return dict(trace.tb_frame.f_locals)
        trace = trace.tb_next
    return {}
