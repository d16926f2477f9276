"""The assertion that failed, in the words of a script: as it stands in the test, its names replaced by the script's."""

from __future__ import annotations

import ast
import builtins
import copy
import linecache
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, TracebackType

from hostwalk.column import Column
from hostwalk.readings import Frames, Reading
from hostwalk.repro.names import Speaker, UnspeakableError
from hostwalk.repro.recorder import Recorder, Step

NOT_TESTS = ("hostwalk", "_pytest", "pluggy", "contextlib", "pytest", "code", "runpy")
LOOPS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


@dataclass(frozen=True)
class Spot:
    """The frame and the line in which a test failed."""

    frame: FrameType
    line: int


@dataclass(frozen=True)
class Assertion:
    """``test`` is the asserted expression, ``message`` what the test says about it, or empty.

    ``again`` are the steps that the expression itself does again.
    """

    test: str
    message: str = ""
    again: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return f"assert {self.test}{f', {self.message}' if self.message else ''}"


def spots(trace: TracebackType | None) -> list[Spot]:
    """Return where in tests an exception came through, the innermost last."""
    found = []
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0]
        if module not in NOT_TESTS:
            found.append(Spot(trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return found


def wishes(found: list[Spot]) -> dict[int, str]:
    """Return the names that objects had in the frames of a test, by their id; the outermost frame's go first."""
    named: dict[int, str] = {}
    for spot in found:
        for name, value in spot.frame.f_locals.items():
            if not name.startswith(("_", "@")):
                named.setdefault(id(value), name)
    return named


def failed_assertion(spot: Spot, recorder: Recorder, speaker: Speaker, names: Mapping[int, str]) -> Assertion:
    """Return the assertion on a line of a test, in the script's words; raises UnspeakableError."""
    tree = _source(spot.frame)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Assert) and _covers(node, spot.line)]
    if not found:
        raise UnspeakableError("the failed assertion is no assert statement of the test's own")
    rewriter = _Rewriter(spot, recorder, speaker, names, tree, _codes(spot.frame.f_code))
    test = ast.unparse(rewriter.visit(copy.deepcopy(found[-1].test)))
    try:
        message = ast.unparse(rewriter.visit(copy.deepcopy(found[-1].msg))) if found[-1].msg else ""
    except UnspeakableError:
        message = ""
    return _speaking(Assertion(test, message, tuple(rewriter.again)), speaker)


def _speaking(assertion: Assertion, speaker: Speaker) -> Assertion:
    """Return an assertion that speaks of something that was done or seen: else it could never hold, or never fail."""
    known = {name.split(".")[0] for _, name in (*speaker.roots, *speaker.known)}
    spoken = {node.id for node in ast.walk(ast.parse(assertion.test)) if isinstance(node, ast.Name)}
    if not known & spoken:
        raise UnspeakableError(f"what was compared cannot be said by what was done: {assertion.test}")
    return assertion


def _codes(code: CodeType) -> tuple[CodeType, ...]:
    """Return a function's code and that of the comprehensions in it."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType) and each.co_name.startswith("<"))
    return (code, *(below for each in inner for below in _codes(each)))


def compared_assertion(op: str, left: object, right: object, speaker: Speaker) -> Assertion:
    """Return an assertion that compares what was compared, if that is a column of a reading and all can be said."""
    if not isinstance(left, Column) and not isinstance(right, Column):
        raise UnspeakableError("what was compared is what the test itself has made of what it read")
    return _speaking(Assertion(f"{_side(left, speaker)} {op} {_side(right, speaker)}"), speaker)


def _side(value: object, speaker: Speaker) -> str:
    if isinstance(value, Column):
        for known, name in reversed(speaker.known):
            if isinstance(known, Frames) and value.name and getattr(known, value.name, None) == value:
                return f"{name}.{value.name}"
    return speaker.say(value)


def _source(frame: FrameType) -> ast.Module:
    path = frame.f_code.co_filename
    text = "".join(linecache.getlines(path)) or (Path(path).read_text() if Path(path).is_file() else "")
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise UnspeakableError(f"{path} has changed since it was run") from error


def _covers(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


@dataclass
class _Rewriter(ast.NodeTransformer):
    """Replaces calls that were recorded, and local names, by what the script calls them."""

    spot: Spot
    recorder: Recorder
    speaker: Speaker
    names: Mapping[int, str]
    tree: ast.Module
    codes: tuple[CodeType, ...]
    again: list[Step] = field(default_factory=list)
    _bound: list[str] = field(default_factory=list)
    _inlined: bool = False

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Replace a call that was made once by its result; in a loop, or of a built-in, it stays a call."""
        steps = [step for step in self._steps() if self._is_at(step, node)]
        if len(steps) == 1 and id(steps[0]) in self.names:
            return _parsed(self.names[id(steps[0])])
        if steps and self._inlined:
            raise UnspeakableError(f"{ast.unparse(node.func)}() was called more than once")
        self.again += steps
        known = isinstance(node.func, ast.Name) and hasattr(builtins, node.func.id)
        if steps or known or isinstance(node.func, ast.Attribute):
            return self.generic_visit(node)
        raise UnspeakableError(f"{ast.unparse(node.func)}() is the test's own")

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Replace a local name by the script's, or by its value."""
        if node.id in self._bound:
            return node
        if node.id in self.spot.frame.f_locals:
            return self._value(node.id, self.spot.frame.f_locals[node.id])
        if node.id in self.spot.frame.f_globals:
            return _parsed(self.speaker.say(self.spot.frame.f_globals[node.id]))
        if hasattr(builtins, node.id):
            return node
        raise UnspeakableError(f"{node.id} is not known any more")

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Names that a comprehension binds stay as they are."""
        if not isinstance(node, LOOPS):
            return super().generic_visit(node)
        before = list(self._bound)
        for generator in node.generators:
            self._bound += [each.id for each in ast.walk(generator.target) if isinstance(each, ast.Name)]
        visited = super().generic_visit(node)
        self._bound[:] = before
        return visited

    def _value(self, name: str, value: object) -> ast.AST:
        known = self.speaker.name_of(value)
        if known is not None:
            return _parsed(known)
        if isinstance(value, list | tuple) and not all(isinstance(each, int) for each in value):
            return _parsed(self.speaker.say(value))
        assigned = self._assigned(name)
        if assigned is not None:
            return self._inline(assigned)
        if self._is_computed(name):
            raise UnspeakableError(f"{name} is what the test itself has made of what it read")
        if isinstance(value, Reading | Column):
            return _parsed(_side(value, self.speaker))
        return _parsed(self.speaker.say(value))

    def _inline(self, expression: ast.expr) -> ast.AST:
        before, self._inlined = self._inlined, True
        try:
            visited: ast.AST = self.visit(copy.deepcopy(expression))
        finally:
            self._inlined = before
        return ast.fix_missing_locations(visited)

    def _assigned(self, name: str) -> ast.expr | None:
        """Return what was assigned last to a local name, if that is plain to see."""
        found = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Assign)
            and self.spot.frame.f_code.co_firstlineno <= node.lineno < self.spot.line
            and len(node.targets) == 1
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == name
        ]
        return max(found, key=lambda node: node.lineno).value if found else None

    def _is_computed(self, name: str) -> bool:
        """Whether a local name got its value in a way that is not followed: by unpacking, or by and by."""
        stored = (
            each
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Assign | ast.AugAssign | ast.NamedExpr)
            and self.spot.frame.f_code.co_firstlineno <= node.lineno <= self.spot.line
            for each in ast.walk(node)
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        )
        return any(each.id == name for each in stored)

    def _steps(self) -> Iterator[Step]:
        return (event for event in self.recorder.events if isinstance(event, Step))

    def _is_at(self, step: Step, node: ast.expr) -> bool:
        place = step.place
        return (
            place is not None
            and place.code in self.codes
            and (
                (place.line, place.column) == (node.lineno, node.col_offset)
                and (place.end_line, place.end_column) == (node.end_lineno, node.end_col_offset)
            )
        )


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
