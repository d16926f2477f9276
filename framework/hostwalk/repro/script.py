"""A script: one Python file that does what was done, and asserts what was promised."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hostwalk.errors import UsageError
from hostwalk.repro.failure import COMPARISONS, CheckFailed, Failure
from hostwalk.repro.pin import Pin

Test = TypeVar("Test", bound=Callable[..., object])
MARK = "repro"
FIXTURES = ("subject", "witness", "agent")
LARGEST = 1 << 20
_CHECK = "__hostwalk_check__"
_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip


def repro(pin: Pin, shows: Failure) -> Callable[[Test], Test]:
    """Mark a function as a repro script: on ``pin`` it ended with the failure ``shows``."""

    def mark(test: Test) -> Test:
        marked: Test = pytest.mark.repro(pin, shows)(test)
        return marked

    return mark


@dataclass(frozen=True)
class Script:
    """A script that was read; ``tree`` is its source, ``test`` the name of its function."""

    path: Path
    text: str = field(repr=False)
    tree: ast.Module
    test: str
    pin: Pin
    shows: Failure

    @property
    def title(self) -> str:
        """The first paragraph of its docstring."""
        return " ".join((ast.get_docstring(self.tree) or self.path.name).split("\n\n")[0].split())

    @property
    def function(self) -> ast.FunctionDef:
        """The function as it is written."""
        return _function(self.tree, self.path)

    @property
    def fixtures(self) -> tuple[str, ...]:
        """What it is given."""
        return tuple(arg.arg for arg in self.function.args.args)

    def compiled(self) -> Callable[..., object]:
        """Return the function, its assertions made to tell both their sides."""
        return _compiled(self.tree, self.path)[self.test]  # type: ignore[no-any-return]

    def with_function(self, made: ast.FunctionDef) -> Script:
        """Return the script with another function in place of its own; ``text`` stays what it was."""
        function = self.function
        statements = [made if node is function else node for node in self.tree.body]
        return replace(self, tree=ast.fix_missing_locations(ast.Module(statements, [])))


def load(path: Path) -> Script:
    """Read a script; raises UsageError for a file that cannot be read, is not whole, or is none."""
    return parse(_text(path), path)


def parse(text: str, path: Path) -> Script:
    """Return the script of a text; raises UsageError."""
    try:
        tree = ast.parse(text, str(path))
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UsageError(
            f"{path}{where} is no Python ({getattr(error, 'msg', error)}): it may be cut short",
            remedy="get the whole file again",
        ) from error
    function = _function(tree, path)
    _check_fixtures(function, path)
    pin, shows = _marks(_compiled(tree, path)[function.name], path)
    return Script(path, text, tree, function.name, pin, shows)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} is too large for a repro script", remedy="give a script of hostwalk's")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(
            f"{path} cannot be read: {why}", remedy="give a file that hostwalk has recorded"
        ) from error


def _function(tree: ast.Module, path: Path) -> ast.FunctionDef:
    found = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any(map(_is_mark, node.decorator_list))
    ]
    if len(found) != 1:
        what = "more than one function" if found else "no function"
        raise UsageError(
            f"{path} is no repro script: it has {what} marked with @repro(PIN, FAILURE)",
            remedy="give a file that hostwalk has recorded; it may be cut short",
        )
    return found[0]


def _is_mark(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == MARK


def _check_fixtures(function: ast.FunctionDef, path: Path) -> None:
    unknown = [arg.arg for arg in function.args.args if arg.arg not in FIXTURES]
    if unknown:
        raise UsageError(f"{path}: a repro script is given {', '.join(FIXTURES)}, but no {unknown[0]}")


def _marks(function: Any, path: Path) -> tuple[Pin, Failure]:
    marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == MARK]
    if not marks or len(marks[0].args) != 2:
        raise UsageError(f"{path}: @repro takes a Pin and a Failure")
    pin, shows = marks[0].args
    if not isinstance(pin, Pin) or not isinstance(shows, Failure):
        raise UsageError(f"{path}: @repro takes a Pin and a Failure")
    return pin, shows


def _compiled(tree: ast.Module, path: Path) -> dict[str, Any]:
    """Run a module's definitions; raises UsageError where they fail."""
    checked = checking(ast.unparse(tree), str(path))
    names: dict[str, Any] = {"__name__": "hostwalk_script", "__file__": str(path), _CHECK: check}
    try:
        exec(compile(checked, str(path), "exec"), names)  # noqa: S102 (a script is run because its user asks for it)
    except (ImportError, NameError, TypeError, AttributeError, ValueError, UsageError) as error:
        raise UsageError(
            f"{path} does not load: {type(error).__name__}: {error}",
            remedy="it may be of another version of hostwalk, or changed",
        ) from error
    return names


class _Checking(ast.NodeTransformer):
    """Turns assert statements into calls that tell what was compared."""

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        """One comparison gives both its sides, anything else its value."""
        test, op = node.test, ""
        sides: list[ast.expr] = [test, ast.Constant(None)]
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            op, sides = _OPERATORS[type(test.ops[0])], [test.left, test.comparators[0]]
        message = ast.Lambda(ast.arguments([], [], None, [], [], None, []), node.msg or ast.Constant(""))
        words = [ast.Constant(ast.unparse(test)), ast.Constant(op)]
        called = ast.Expr(ast.Call(ast.Name(_CHECK, ast.Load()), [*words, *sides, message], []))
        return ast.copy_location(called, node)


def checking(source: str, name: str, mode: str = "exec") -> ast.Module | ast.Interactive:
    """Return a source whose assertions tell both their sides; it needs ``checks()`` among its names."""
    tree = compile(source, name, mode, ast.PyCF_ONLY_AST)
    assert isinstance(tree, ast.Module | ast.Interactive)
    _Checking().visit(tree)
    return ast.fix_missing_locations(tree)


def checks() -> dict[str, Any]:
    """Return the names that a source of :func:`checking` needs."""
    return {_CHECK: check}


def check(what: str, op: str, left: object, right: object, said: Callable[[], object]) -> None:
    """Raise CheckFailed unless the comparison holds."""
    if COMPARISONS[op](left, right) if op else left:
        return
    raise CheckFailed(what, op, left, right, str(said()))
