"""Values of a script as expressions of C: areas, addresses, lengths, protections."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

from hostwalk.errors import UsageError
from hostwalk.repro.cinsertions import OwnPages

OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.BitOr: "|", ast.LShift: "<<", ast.FloorDiv: "/", ast.Mod: "%",
}  # fmt: skip
_PROT = {"r": "PROT_READ", "w": "PROT_WRITE", "x": "PROT_EXEC"}
_SMALL = 1 << 31
_REMEDY = "shrink the script first, or send the script itself"


@dataclass(frozen=True)
class Place:
    """An area in C: where it starts, and how many pages it has; the module has mapped them if ``is_inserted``."""

    start: str
    pages: int
    is_inserted: bool = False


@dataclass
class Values:
    """What has a name so far: areas, numbers, texts, and by their call's number what the module's calls gave.

    ``own`` are the module's pages, ``inserted`` the mappings that it made of them, ``results`` what it told of them,
    ``devices`` the files of the exerciser, in whose place the module's is.
    """

    script: Path
    areas: dict[str, Place] = field(default_factory=dict)
    numbers: set[str] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    pins: dict[str, int] = field(default_factory=dict)
    own: dict[str, OwnPages] = field(default_factory=dict)
    inserted: dict[str, Place] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)

    def no(self, node: ast.AST) -> UsageError:
        """Return the error for what has no counterpart."""
        line = getattr(node, "lineno", 0)
        return UsageError(
            f"{self.script}, line {line}: this step has no counterpart in C: {said(node)}",
            remedy=_REMEDY,
        )

    def place(self, node: ast.expr) -> Place:
        """Return an area; raises UsageError."""
        match node:
            case ast.Name(id=name) if name in self.areas:
                return self.areas[name]
            case ast.Attribute(value=ast.Name(id=name), attr="area") if name in self.inserted:
                return self.inserted[name]
            case ast.Subscript(value=inner, slice=ast.Slice(lower=lower, upper=upper)):
                first, last, _ = slice(_index(lower), _index(upper)).indices(self.place(inner).pages)
                return self._within(self.place(inner), first, max(0, last - first))
            case ast.Subscript(value=inner, slice=index):
                return self._within(self.place(inner), int_of(index) % self.place(inner).pages, 1)
            case ast.Call(args=[start, pages]) if method_of(node) == "area":
                return Place(f"(char *)({self.number(start)})", int_of(pages))
        raise self.no(node)

    def place_at(self, node: ast.expr) -> Place:
        """Return an area, or the page at an address; raises UsageError."""
        match node:
            case ast.Subscript() | ast.Call() | ast.Attribute(attr="area"):
                return self.place(node)
            case ast.Name(id=name) if name in self.areas:
                return self.place(node)
        return Place(f"(char *)({self.number(node)})", 1)

    def _within(self, of: Place, first: int, pages: int) -> Place:
        return replace(of, start=f"{of.start} + {first} * page" if first else of.start, pages=pages)

    def number(self, node: ast.expr) -> str:
        """Return a number; raises UsageError."""
        match node:
            case ast.Constant(value=int() as value):
                return f"{int(value):#x}UL" if value >= _SMALL else str(int(value))
            case ast.Name(id=name) if name in self.devices:
                return "device()"
            case ast.Name(id=name) if name in self.numbers:
                return name
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"-{self.number(operand)}"
            case ast.BinOp(left=left, right=right) if ast.unparse(right) in ("1 << 64", "(1 << 64)"):
                return self.number(left)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return f"({self.number(left)} {OPERATORS[type(op)]} {self.number(right)})"
            case ast.Attribute(attr=attr):
                plain = {"page_size": "page", "scratch": "(long)scratch", "exerciser": "device()"}
                return plain[attr] if attr in plain else self._edge(node)
            case ast.Call():
                return self._called(node)
        raise self.no(node)

    def _edge(self, node: ast.Attribute) -> str:
        place = self.place(node.value)
        ways = {
            "length": f"({place.pages} * page)", "pages": str(place.pages), "start": f"(long)({place.start})",
            "end": f"(long)({place.start} + {place.pages} * page)",
        }  # fmt: skip
        if node.attr not in ways:
            raise self.no(node)
        return ways[node.attr]

    def _called(self, node: ast.Call) -> str:
        if method_of(node) == "protection":
            return self.prot(node.args[0])
        if method_of(node) != "address" or not isinstance(node.func, ast.Attribute):
            raise self.no(node)
        place = self.place(node.func.value)
        offset = f" + {self.number(node.args[1])}" if len(node.args) > 1 else ""
        return f"(long)({place.start} + {int_of(node.args[0]) % place.pages} * page{offset})"

    def text(self, node: ast.expr) -> str:
        """Return a plain text, or one that begins with a text that has a name; raises UsageError."""
        match node:
            case ast.Name(id=name) if name in self.texts:
                return self.texts[name]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.text(left) + self.text(right)
        return text_of(node)

    def prot(self, node: ast.expr | None) -> str:
        """Return a protection in PROT_ words; the default is read and write."""
        text = text_of(node) if node is not None else "rw"
        return "PROT_NONE" if text in ("none", "") else " | ".join(_PROT[letter] for letter in text)

    def span(self, node: ast.expr) -> str:
        """Return an area, or a pair of address and bytes, as two arguments."""
        if isinstance(node, ast.Tuple):
            return f"(char *)({self.number(node.elts[0])}), {self.number(node.elts[1])}"
        place = self.place(node)
        return f"{place.start}, {place.pages} * page"


class Renaming(ast.NodeTransformer):
    """Gives values other names, whose own mean something in C; :func:`said` still says the own."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Rename it, if its name is one of those."""
        if node.id not in self._names:
            return node
        made = ast.copy_location(ast.Name(f"{node.id}_", node.ctx), node)
        made._own = node.id  # type: ignore[attr-defined]
        return made


class _Own(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(getattr(node, "_own", node.id), node.ctx)


def said(node: ast.AST) -> str:
    """Return a part of a script as it is written there."""
    return ast.unparse(_Own().visit(copy.deepcopy(node)))


def arguments(call: ast.Call, names: tuple[str, ...]) -> dict[str, ast.expr]:
    """Return a call's arguments by name; ``names`` are those that have none of their own."""
    given = dict(zip(names, call.args, strict=False))
    return given | {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def method_of(call: ast.AST) -> str:
    """Return the name of the method that is called, or nothing."""
    return call.func.attr if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else ""


def owner_of(call: ast.Call) -> str:
    """Return the name of what a method is called of, or nothing."""
    value = call.func.value if isinstance(call.func, ast.Attribute) else None
    return value.id if isinstance(value, ast.Name) else ""


def _literal(node: ast.AST | None) -> object:
    return ast.literal_eval(node) if isinstance(node, ast.Constant | ast.UnaryOp) else None


def int_of(node: ast.AST) -> int:
    """Return a plain number; raises UsageError."""
    value = _literal(node)
    if not isinstance(value, int):
        raise UsageError(f"not a plain number: {ast.unparse(node)}", remedy=_REMEDY)
    return value


def _index(node: ast.expr | None) -> int | None:
    return None if node is None else int_of(node)


def text_of(node: ast.AST) -> str:
    """Return a plain text; raises UsageError."""
    value = _literal(node)
    if not isinstance(value, str):
        raise UsageError(f"not a plain text: {ast.unparse(node)}", remedy=_REMEDY)
    return value


def is_on(node: ast.expr | None) -> bool:
    """Whether an option is given and true."""
    return bool(_literal(node))
