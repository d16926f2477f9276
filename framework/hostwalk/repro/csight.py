"""Readings of the witness, as far as a process can see the same of itself, and what is asserted of them."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from hostwalk.repro.ctext import COLUMNS, STATUS, VM_FLAGS, quoted
from hostwalk.repro.cvalues import OPERATORS, Place, Values, method_of

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


class Unseen(Exception):  # noqa: N818
    """A process cannot see it."""


@dataclass
class Look:
    """How a program looks at something: what it declares, what it does, which helpers it needs."""

    variable: str
    declaration: str
    lines: list[str]
    helpers: set[str]


@dataclass
class Sight:
    """What was read so far, and the variables in which the program keeps what it saw."""

    values: Values
    columns: dict[str, Place] = field(default_factory=dict)
    seen: dict[tuple[str, str], str] = field(default_factory=dict)

    def looks(self, call: ast.Call, name: str, attributes: set[str]) -> list[Look]:
        """Return how to see those attributes of a reading that a process can see."""
        kind, found = method_of(call), []
        if call.keywords or kind not in ("pages", "vma", "mm"):
            return []
        place = self.values.place(call.args[0]) if kind != "mm" else None
        for attr in sorted(attributes):
            look = self._look(f"{name}_{attr}", kind, place, attr)
            if look is not None:
                self.seen[name, attr] = look.variable
                found.append(look)
        if kind == "pages" and place is not None:
            self.columns[name] = place
        return found

    def _look(self, variable: str, kind: str, place: Place | None, attr: str) -> Look | None:
        if kind == "mm" and attr in STATUS:
            line = f"{variable} = status_pages({quoted(STATUS[attr])});"
            return Look(variable, f"long long {variable};", [line], {"status"})
        if kind == "vma" and attr == "flags" and place is not None:
            line = f"vm_flags({place.start}, {variable}, sizeof({variable}));"
            return Look(variable, f"char {variable}[256];", [line], {"vmflags"})
        if kind == "pages" and attr in COLUMNS and place is not None:
            return _column(variable, place, attr)
        return None

    def variables(self, node: ast.AST) -> list[str]:
        """Return the variables of what was seen in an expression."""
        return sorted({found for part in ast.walk(node) if (found := self._seen(part)) is not None})

    def condition(self, test: ast.expr) -> tuple[int | None, str]:
        """Return the number of pages (None: no column) and the condition for page i; raises Unseen."""
        if not isinstance(test, ast.Compare) or len(test.ops) != 1:
            raise Unseen
        op, left, right = test.ops[0], test.left, test.comparators[0]
        if isinstance(op, ast.Eq) and isinstance(left, ast.Tuple) and isinstance(right, ast.Tuple):
            return self._each(left.elts, right.elts)
        if isinstance(op, ast.In | ast.NotIn):
            return None, self._flag(op, left, right)
        if type(op) not in _COMPARISONS:
            raise Unseen
        lengths = {length for length in (self._length(left), self._length(right)) if length is not None}
        if len(lengths) > 1 or (lengths and isinstance(op, ast.NotEq)):
            raise Unseen
        condition = f"{self._value(left)} {_COMPARISONS[type(op)]} {self._value(right)}"
        return (lengths.pop() if lengths else None), condition

    def _each(self, left: list[ast.expr], right: list[ast.expr]) -> tuple[int | None, str]:
        """Return the condition that several values are all as they should be; raises Unseen if one is not seen."""
        pairs = zip(left, right, strict=False)
        made = [self.condition(ast.Compare(one, [ast.Eq()], [other])) for one, other in pairs]
        lengths = {length for length, _ in made if length is not None}
        if len(left) != len(right) or len(lengths) > 1:
            raise Unseen
        return (lengths.pop() if lengths else None), " && ".join(f"({condition})" for _, condition in made)

    def _flag(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> str:
        variable = self._seen(right)
        if variable is None or not isinstance(left, ast.Constant) or left.value not in VM_FLAGS:
            raise Unseen
        no = "!" if isinstance(op, ast.NotIn) else ""
        return f"{no}has_flag({variable}, {quoted(VM_FLAGS[str(left.value)])})"

    def _seen(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return self.seen.get((node.value.id, node.attr))
        return None

    def _length(self, node: ast.expr) -> int | None:
        """Return how many pages a column in an expression has."""
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and self._seen(part):
                place = self.columns.get(part.value.id)
                if place is not None:
                    return place.pages
        return None

    def _value(self, node: ast.expr) -> str:
        variable = self._seen(node)
        if variable is not None:
            return f"{variable}[i]" if self._length(node) is not None else variable
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in self.values.pins:
                return self._claimed(name, attr)
            case ast.Attribute(value=ast.Name(id=name), attr="pages") if name in self.values.areas:
                return str(self.values.areas[name].pages)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return f"{self._value(left)} {OPERATORS[type(op)]} {self._value(right)}"
            case ast.Constant(value=str() as text) if text.startswith("E"):
                return f"-{text}"
            case ast.UnaryOp() | ast.Constant(value=int()):
                return self.values.number(node)
        raise Unseen

    def _claimed(self, name: str, attr: str) -> str:
        ways = {
            "returned": f"{name}.ret",
            "errno": f"{name}.ret",
            "filled": f"{name}.filled",
            "pfns": f"(long long){name}.pfn[i]",
        }
        if attr not in ways:
            raise Unseen
        return ways[attr]


def _column(variable: str, place: Place, attr: str) -> Look:
    counts = attr == "refcounts"
    lines = ["settle();"] if counts else []
    lines += [
        f"for (long i = 0; i < {place.pages}; i++)",
        f"\t{variable}[i] = {COLUMNS[attr]}({place.start} + i * page);",
    ]
    helpers = {"refcount", "settle"} if counts else {COLUMNS[attr].removeprefix("pagemap_")}
    return Look(variable, f"long long {variable}[{place.pages}];", lines, helpers)
