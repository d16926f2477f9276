"""From steps to the lines of a script: calls in the order in which they were made, blocks as blocks."""

from __future__ import annotations

import io
import keyword
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hostwalk.guest import AccessFaulted, Area, Inserted, Pins, Subject, SyscallFailed
from hostwalk.guest.process import Reply
from hostwalk.readings import Reading
from hostwalk.repro.names import Speaker, UnspeakableError
from hostwalk.repro.recorder import Block, Edge, Recorder, Step

INDENT = "    "
WIDTH = 100
EXPECTING = ("refuses", "faults")
RAW = (
    "call",
    "syscall",
    "start_syscall",
    "load",
    "store",
    "peek",
    "poke",
    "start_execute",
    "execute",
    "must",
)
PURE = ("layout", "protection", "area", "returning", "note", "receive", "insert_result")
CHAINED = ("touch", "load", "store")
_NAMES = {
    "open": "fd", "memfd": "fd", "open_exerciser": "fd", "pkey_alloc": "pkey", "astride_tables": "address",
    "fork": "child", "thread": "thread", "spawn": "other", "alloc_pages": "own_pages", "pages": "seen",
    "across_tables": "area", "apart": "area", "mmap": "area", "mremap": "moved", "code": "code",
}  # fmt: skip
_KINDS: tuple[tuple[type, str], ...] = (
    (Area, "area"), (Pins, "pins"), (Subject, "other"), (Inserted, "inserted"), (Reply, "reply"),
)  # fmt: skip


@dataclass
class Line:
    """A line of the script; ``target`` is the name that its value gets, if anything uses it."""

    depth: int
    text: str
    target: str = ""
    block: bool = False
    pure: bool = False
    step: Step | None = None
    claims: str = ""

    def __str__(self) -> str:
        if self.block:
            return INDENT * self.depth + f"with {self.text}{f' as {self.target}' if self.target else ''}:"
        return INDENT * self.depth + (f"{self.target} = " if self.target else "") + self.text


@dataclass
class Writer:
    """Writes the steps of a recorder; ``wishes`` are names that objects had in the test, by their id.

    ``failed`` is the error that is the failure itself: nothing expects it.
    """

    recorder: Recorder
    speaker: Speaker
    wishes: Mapping[int, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    open: list[Step] = field(default_factory=list)
    failed: BaseException | None = None
    _last: Step | None = None
    _claim: str = ""

    def write(self) -> list[Line]:
        """Return the lines of all that was heard, up to the failure; raises UnspeakableError."""
        for event in _until_failure(self.recorder.events):
            if isinstance(event, Edge) and event.begins:
                self._begin(event.step)
                self._say_claim()
                continue
            self._say_claim()
            if isinstance(event, Step):
                self._step(event)
            else:
                self._end(event.step)
        self._say_claim()
        self._fill()
        return self.lines

    def _step(self, step: Step) -> None:
        wrapped = self._expectation(step)
        if wrapped:
            self.lines.append(Line(len(self.open), wrapped, block=True))
        if not self._chains(step):
            line = Line(len(self.open) + bool(wrapped), self.call(step), pure=step.method in PURE, step=step)
            self.lines.append(line)
            if step.result is not None and not isinstance(step.result, Block):
                line.target = self._name(step, step.result)
                self._claim = self._claimed(step, line.target)
        self._last = step

    def _claimed(self, step: Step, name: str) -> str:
        """Return what the guest said of a call whose result is more than success, as an expression."""
        match step.result:
            case Pins(errno=None) as pins:
                return f"{name}.returned == {self._how_many(pins, step)}"
            case Pins(errno=str() as errno) | Inserted(errno=str() as errno):
                return f"{name}.errno == {errno!r}"
            case Inserted():
                return f"{name}.errno is None"
        return ""

    def _how_many(self, pins: Pins, step: Step) -> str:
        """Return the number of pages that came back, as the area's where these are all."""
        area = next((arg for arg in step.call.args if isinstance(arg, Area)), None)
        if area is not None and area.pages == pins.returned > 0:
            return f"{self.speaker.say(area)}.pages"
        return str(pins.returned)

    def _say_claim(self) -> None:
        """Assert what the guest claimed before anything else is done: else what follows proves nothing."""
        if self._claim:
            self.lines.append(Line(len(self.open), f"assert {self._claim}", claims=self._claim.split(".")[0]))
        self._claim = ""

    def _chains(self, step: Step) -> bool:
        """Put a call on the area that the call before gave behind that call."""
        last = self._last
        if last is None or step.method not in CHAINED or not isinstance(step.call.owner, Area):
            return False
        if last.result is not step.call.owner or not self.lines or not self.lines[-1].target or step.error:
            return False
        self.lines[-1].text += f".{step.method}({self._arguments(step)})"
        return True

    def _expectation(self, step: Step) -> str:
        """Return what an error that the test went on from is expected by, where no block says so."""
        if step.error is self.failed or (self.open and self.open[-1].method in EXPECTING):
            return ""
        who = (
            step.call.owner
            if isinstance(step.call.owner, Subject)
            else getattr(step.call.owner, "subject", None)
        )
        if isinstance(step.error, SyscallFailed):
            return f"{self.speaker.say(who)}.refuses({step.error.errno!r})"
        if isinstance(step.error, AccessFaulted):
            fault = step.error.fault
            return f"{self.speaker.say(who)}.faults({fault.signal!r}, {fault.code!r})"
        return ""

    def _begin(self, step: Step) -> None:
        value = step.result.value if isinstance(step.result, Block) else step.result
        adjacent = self._last is step and bool(self.lines) and not self.lines[-1].block
        if adjacent:
            line = self.lines.pop()
            line.block, line.depth = True, len(self.open)
        else:
            line = Line(len(self.open), self.speaker.say(step.result), block=True)
        if isinstance(step.result, Block) and value is not None:
            line.target = self._name(step, value)
        self.lines.append(line)
        self.open.append(step)
        self._last = None

    def _end(self, step: Step) -> None:
        if not self.open or self.open[-1] is not step:
            raise UnspeakableError(f"the block of {step.method}() does not end where the last one does")
        self._fill()
        self.open.pop()
        self._last = None

    def _fill(self) -> None:
        """Give a block in which nothing is done a body."""
        if self.lines and self.lines[-1].block:
            self.lines.append(Line(self.lines[-1].depth + 1, "pass"))

    def call(self, step: Step) -> str:
        """Return a call as text."""
        return f"{self.speaker.say(step.call.owner)}.{step.method}({self._arguments(step)})"

    def _arguments(self, step: Step) -> str:
        raw = step.method in RAW
        said = [self.speaker.say(arg, raw=raw or isinstance(arg, tuple)) for arg in step.call.args]
        named = [f"{name}={self._named(step, name, arg, raw=raw)}" for name, arg in step.call.kwargs.items()]
        return ", ".join([*said, *named])

    def _named(self, step: Step, name: str, arg: object, *, raw: bool) -> str:
        """Return an argument that has a name; the exerciser's file, which was opened on the way, by its own."""
        who = step.call.owner
        is_file = name == "fd" and isinstance(who, Subject) and arg == who._exerciser_fd
        if is_file and self.speaker.name_of(arg) is None:
            return f"{self.speaker.say(who)}.exerciser"
        return self.speaker.say(arg, raw=raw or name == "offset")

    def _name(self, step: Step, value: object) -> str:
        known = self.speaker.name_of(value)
        if known is not None:
            return ""
        wish = self.wishes.get(id(value)) or _NAMES.get(step.method) or _by_kind(value) or step.method
        name = self._free(wish)
        self.names[id(step)] = name
        self.speaker.name(value, name)
        return name

    def _free(self, wish: str) -> str:
        taken = {*self.names.values(), *(name for _, name in self.speaker.roots), "pages_of"}
        base = wish if wish.isidentifier() and not keyword.iskeyword(wish) else "value"
        numbers = (f"{base}{number}" if number > 1 else base for number in range(1, len(taken) + 2))
        return next(name for name in numbers if name not in taken)


def _by_kind(value: object) -> str:
    if isinstance(value, Reading):
        return value.kind
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "")


def _until_failure(events: Sequence[Step | Edge]) -> list[Step | Edge]:
    """Leave out the ends of blocks that the failure itself went through, and the end of the block that it was."""
    kept = list(events)
    while kept and isinstance(kept[-1], Edge) and (kept[-1].unwound or kept[-1].error is not None):
        kept.pop()
    return kept


def finished(lines: Sequence[Line], after: str, again: Sequence[Step] = ()) -> list[str]:
    """Return the lines as text, without names that nothing uses (``after`` uses some too) and calls without use.

    ``again`` are steps that ``after`` does itself.
    """
    kept: list[Line] = []
    used = after
    for line in reversed(lines):
        if line.target and not re.search(rf"(?<![.\w]){line.target}\b", used):
            line.target = ""
        if line.claims and re.search(rf"(?<![.\w]){line.claims}\.(errno|returned|filled|area)\b", after):
            continue
        if not line.target and (line.pure or any(line.step is step for step in again)):
            continue
        used += f"\n{line.text}"
        kept.append(line)
    return [wrapped(str(line)) for line in reversed(kept)]


def wrapped(line: str) -> str:
    """Return a line that is too long in three: the arguments of its outermost call on one of their own."""
    if len(line) <= WIDTH or "(" not in line:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    first = line.index("(")
    last = line.rindex(")")
    if last <= first + 1 or "\n" in line:
        return line
    return f"{line[: first + 1]}\n{indent}{INDENT}{line[first + 1 : last]}\n{indent}{line[last:]}"


def double_quoted(text: str) -> str:
    """Return source text with double quotes around strings, as far as there are none in them."""
    lines = text.splitlines(keepends=True)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if _is_single(token)]
    for token in reversed(tokens):
        (row, start), (_, end) = token.start, token.end
        line = lines[row - 1]
        lines[row - 1] = line[:start] + token.string.replace("'", '"') + line[end:]
    return "".join(lines)


def _is_single(token: tokenize.TokenInfo) -> bool:
    inside = token.string.strip("bfr")
    plain = token.type == tokenize.STRING and len(inside) > 1 and inside[0] == inside[-1] == "'"
    return plain and not set(inside[1:-1]) & set("\"'\\")
