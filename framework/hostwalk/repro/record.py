"""Making a script of what was recorded: its text, its file, and whether it reproduces."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hostwalk.errors import HostwalkError, UsageError
from hostwalk.guest import AccessFaulted, SyscallFailed
from hostwalk.repro.assertion import (
    Assertion,
    compared_assertion,
    failed_assertion,
    spots,
    wishes,
)
from hostwalk.repro.failure import CheckFailed, Failure, compared, failure_of
from hostwalk.repro.names import Speaker, UnspeakableError
from hostwalk.repro.pin import Pin
from hostwalk.repro.recorder import Recorder
from hostwalk.repro.run import Outcome, Result
from hostwalk.repro.script import Script, parse
from hostwalk.repro.write import INDENT, Writer, double_quoted, finished

TRIES = 5
WIDTH = 100
Comparison = tuple[str, object, object]


@dataclass(frozen=True)
class Source:
    """What a script is about: the claim or test, its words, and the objects that it is given by name."""

    name: str
    about: str
    roots: tuple[tuple[object, str], ...]
    page_size: int


@dataclass(frozen=True)
class Draft:
    """A script as text that has not been run yet; ``shows`` is the failure that it was recorded for."""

    name: str
    text: str
    shows: Failure


@dataclass(frozen=True)
class Recorded:
    """A script that was written and run: ``held`` of ``tries`` runs reproduced the failure."""

    path: Path
    outcome: Outcome
    held: int
    tries: int

    def __str__(self) -> str:
        if self.held == self.tries:
            return f"repro script: {self.path} (reproduces)"
        return (
            f"repro script: {self.path} did not reproduce at once: {self.held} of {self.tries} runs did"
            f" ({self.outcome.result}{f': {self.outcome.said}' if self.outcome.said else ''})"
        )


def drafts(
    source: Source, recorder: Recorder, error: BaseException, pin: Pin, comparison: Comparison | None = None
) -> Iterator[Draft]:
    """Yield scripts that may show a failure again, the most readable first.

    ``comparison`` is what the failed assertion compared, where that is known. Raises UnspeakableError when what was
    done cannot be said at all, or the error is no failure of the kernel's.
    """
    cause = error.__cause__ if isinstance(error.__cause__, SyscallFailed | AccessFaulted) else None
    failure = failure_of(cause or error)
    found = spots(error.__traceback__)
    writer = Writer(recorder, Speaker(source.roots, source.page_size), wishes(found), failed=cause or error)
    lines = writer.write()
    if failure is not None and not isinstance(error, CheckFailed):
        yield _draft(source, pin, failure, finished(lines, ""))
        return
    if not isinstance(error, AssertionError):
        raise UnspeakableError(f"{type(error).__name__} is no failure that a script can show")
    unsaid: UnspeakableError | None = None
    said = False
    for make in _assertions(error, recorder, writer, comparison):
        try:
            assertion = make()
        except UnspeakableError as unspeakable:
            unsaid = unspeakable
            continue
        said, shows = True, _shown(assertion, error, comparison)
        body = finished([replace(line) for line in lines], str(assertion), assertion.again)
        yield _draft(source, pin, shows, [*body, INDENT * len(writer.open) + str(assertion)])
    if unsaid is not None and not said:
        raise unsaid


def _assertions(
    error: BaseException, recorder: Recorder, writer: Writer, comparison: Comparison | None
) -> Iterator[Callable[[], Assertion]]:
    for spot in reversed(spots(error.__traceback__)):
        yield lambda spot=spot: failed_assertion(spot, recorder, writer.speaker, writer.names)  # type: ignore[misc]
    if comparison is not None:
        yield lambda: compared_assertion(*comparison, writer.speaker)


def _shown(assertion: Assertion, error: BaseException, comparison: Comparison | None) -> Failure:
    if isinstance(error, CheckFailed):
        return Failure("assertion", assertion.test, error.failure.seen)
    seen = compared(*comparison) if comparison is not None else ()
    return Failure("assertion", assertion.test, seen)


def _draft(source: Source, pin: Pin, shows: Failure, body: Sequence[str]) -> Draft:
    name = re.sub(r"\W+", "_", source.name).strip("_").removeprefix("test_")
    given = ", ".join(root for _, root in source.roots if _uses(root, body)) or "subject"
    text = "\n".join(
        [
            _docstring(source, shows), "", "from hostwalk.repro import Failure, Pin, repro", "",
            "PIN = Pin(", *(f"{INDENT}{line}" for line in pin.lines()), ")", *_failure(shows), "", "",
            "@repro(PIN, SHOWS)", f"def test_{name}({given}):", *(textwrap.indent(line, INDENT) for line in body), "",
            "", 'if __name__ == "__main__":', f"{INDENT}from hostwalk.cli.repro import main", "",
            f"{INDENT}main(__file__)", "",
        ]
    )  # fmt: skip
    return Draft(name, double_quoted(text), shows)


def _uses(root: str, body: Sequence[str]) -> bool:
    return any(re.search(rf"\b{root}\b", line) for line in body)


def _docstring(source: Source, shows: Failure) -> str:
    about = textwrap.fill(_plain(source.about), WIDTH)
    how = f"It {_plain(str(shows))}" if shows.kind == "assertion" else _plain(str(shows)).capitalize()
    run = "hostwalk repro run FILE: 1 it reproduces, 0 it does not, 3 nothing proven, 125 could not build or boot."
    return f'"""{about}\n\n{textwrap.fill(how, WIDTH)}\n{run}\n"""'


def _plain(text: str) -> str:
    return text.replace("\\", "/").replace('"""', "'''").rstrip('"')


def _failure(shows: Failure) -> list[str]:
    seen = f", {shows.seen!r}" if shows.seen else ""
    line = f"SHOWS = Failure({shows.kind!r}, {shows.what!r}{seen})"
    if len(line) <= WIDTH:
        return [line]
    parts = [repr(shows.kind), repr(shows.what), *([repr(shows.seen)] if shows.seen else [])]
    return ["SHOWS = Failure(", *(f"{INDENT}{part}," for part in parts), ")"]


def _shows(failure: Failure) -> str:
    return double_quoted("\n".join(_failure(failure)))


def save(
    candidates: Iterator[Draft], path_of: Callable[[Draft], Path], run: Callable[[Script], Outcome]
) -> Recorded:
    """Write the first script that reproduces its failure at once; else the first, run some times.

    Raises UnspeakableError, UsageError for a file that cannot be written.
    """
    tried: list[tuple[Draft, Outcome]] = []
    unsaid: UnspeakableError | None = None
    try:
        for draft in candidates:
            outcome, text = _try(draft, path_of(draft), run)
            if outcome.result is Result.REPRODUCES:
                write(path_of(draft), text)
                return Recorded(path_of(draft), outcome, 1, 1)
            tried.append((draft, outcome))
    except UnspeakableError as unspeakable:
        unsaid = unspeakable
    if not tried:
        raise unsaid or UnspeakableError("there is nothing to record")
    draft, outcome = tried[0]
    path = path_of(draft)
    write(path, draft.text)
    script = parse(draft.text, path)
    held = sum(run(script).result is Result.REPRODUCES for _ in range(TRIES - 1))
    return Recorded(path, outcome, held, TRIES)


def _try(draft: Draft, path: Path, run: Callable[[Script], Outcome]) -> tuple[Outcome, str]:
    """Run a draft; where what the assertion saw was not known, it becomes what the script sees."""
    script = parse(draft.text, path)
    outcome = run(script)
    with suppress(HostwalkError):
        seen = outcome.failure
        if outcome.result is Result.OTHER and seen and not draft.shows.seen and seen.kind == draft.shows.kind:
            text = draft.text.replace(_shows(draft.shows), _shows(seen))
            return Outcome(Result.REPRODUCES, seen, outcome.said, outcome.story), text
    return outcome, draft.text


def write(path: Path, text: str) -> None:
    """Write a script; raises UsageError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", remedy="choose another directory"
        ) from error
