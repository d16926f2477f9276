"""Recording what a user does by hand: a small program, or a prompt with subject and witness in hand."""

from __future__ import annotations

import ast
import code
import contextlib
import linecache
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hostwalk.errors import HostwalkError, UsageError
from hostwalk.repro.record import Draft, Recorded, Source, drafts, save
from hostwalk.repro.recorder import Recorder
from hostwalk.repro.run import Stage, found_after
from hostwalk.repro.script import checking, checks
from hostwalk.witness import Witness

BANNER = """\
subject, witness and agent are at hand; the first assertion that fails ends the session and becomes a script.
    area = subject.mmap(pages=4).touch()
    assert witness.pages(area).refcounts == 2"""
Program = Callable[[dict[str, Any]], None]


@dataclass
class Prompt:
    """A Python prompt whose assertions tell both their sides."""

    names: dict[str, Any]
    failed: BaseException | None = None
    _inputs: int = 0

    def run(self) -> None:
        """Read and do until the input ends, or something fails that a script can show; raises that."""
        console = _Console(self.names, self)
        with contextlib.suppress(SystemExit):
            console.interact(banner=BANNER, exitmsg="")
        if self.failed is not None:
            raise self.failed

    def compiled(self, source: str) -> Any:
        """Return an input as code that has a source to look at."""
        self._inputs += 1
        name = f"<prompt {self._inputs}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        return compile(checking(source, name, "single"), name, "single")


class _Console(code.InteractiveConsole):
    def __init__(self, names: dict[str, Any], prompt: Prompt) -> None:
        super().__init__(names)
        self._prompt = prompt

    def runsource(self, source: str, filename: str = "<input>", symbol: str = "single") -> bool:
        try:
            if self.compile(source, filename, symbol) is None:
                return True
        except (OverflowError, SyntaxError, ValueError):
            self.showsyntaxerror(filename)
            return False
        self.runcode(self._prompt.compiled(source))
        return False

    def runcode(self, code: Any) -> None:
        try:
            exec(code, self.locals)  # noqa: S102 (a prompt is for that)
        except AssertionError as failed:
            self._prompt.failed = failed
            raise SystemExit from failed
        except HostwalkError as error:
            if self._is_gone():
                self._prompt.failed = error
                raise SystemExit from error
            self.write(f"{error}\n")
        except Exception:  # what the user typed is wrong, and the prompt goes on
            self.showtraceback()

    def _is_gone(self) -> bool:
        witness = self._prompt.names["witness"]
        return bool(witness.cell.broken)


def program(path: Path) -> Program:
    """Return what a small program does; raises UsageError when it is no Python."""
    try:
        source = path.read_text(encoding="utf-8")
        made = compile(checking(source, str(path)), str(path), "exec")
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise UsageError(f"{path} cannot be run: {error}", remedy="give a Python file") from error

    def run(names: dict[str, Any]) -> None:
        exec(made, names)  # noqa: S102 (its user asks for it)

    return run


def has_tests(path: Path) -> bool:
    """Whether a file defines tests of pytest."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as Python: {error}", remedy="give a Python file") from error
    return any(isinstance(node, ast.FunctionDef) and node.name.startswith("test") for node in tree.body)


def prompt(names: dict[str, Any]) -> None:
    """Talk to the user."""
    Prompt(names).run()


@dataclass
class Taken:
    """What was recorded of a session, and the error that ended it, if any."""

    recorder: Recorder
    roots: tuple[tuple[object, str], ...]
    page_size: int
    error: BaseException | None = field(default=None)


def take(stage: Stage, run: Program) -> Taken:
    """Run a program or a prompt on a fresh machine and record it."""
    cell = stage.fresh()
    witness = Witness(cell)
    with cell.agent.spawn() as subject:
        roots = ((subject, "subject"), (witness, "witness"), (cell.agent, "agent"))
        names = {name: each for each, name in roots} | checks() | {"__name__": "hostwalk_user"}
        taken = Taken(Recorder(cell.agent), roots, cell.agent.page_size)
        try:
            with taken.recorder.listening():
                run(names)
            witness.check_console(None)
        except (AssertionError, HostwalkError) as error:
            taken.error = found_after(error, witness)
        except pytest.skip.Exception as skipped:
            raise UsageError(f"it says nothing here: {skipped.msg}") from skipped
    return taken


def record(stage: Stage, run: Program, name: str, path: Path) -> Recorded:
    """Record a session and write its script; raises UsageError when nothing failed, UnspeakableError."""
    taken = take(stage, run)
    if taken.error is None:
        raise UsageError("nothing failed: there is nothing to show", remedy="assert what is promised")
    source = Source(name, f"Recorded from {name}.", taken.roots, taken.page_size)

    def where(draft: Draft) -> Path:
        return path / f"{draft.name}.py" if path.is_dir() or not path.suffix else path

    return save(drafts(source, taken.recorder, taken.error, stage.pin), where, stage.run)
