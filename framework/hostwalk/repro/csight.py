"""Readings of the witness, as far as a process can see the same of itself, and what is asserted of them."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from hostwalk.repro.ctext import COLUMNS, STATUS, VM_FLAGS, quoted, taken
from hostwalk.repro.cvalues import OPERATORS, Place, Values, int_of, method_of, said, text_of

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_FAULTS = {"VM_FAULT_OOM": 1, "VM_FAULT_SIGBUS": 2, "VM_FAULT_NOPAGE": 0x100, "VM_FAULT_LOCKED": 0x200}
_EACH = "[i]"
_INDEX = re.compile(r"\[i(?: \+ (\d+))?\]")
_MOST = 64


class Unseen(Exception):  # noqa: N818
    """A process cannot see it."""


@dataclass
class Look:
    """How a program looks at something: what it declares and does, which helpers it needs, what it asks the module."""

    variable: str
    declaration: str
    lines: list[str]
    helpers: set[str]
    asks: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Condition:
    """What is asserted: an expression; if it is of columns, for each of ``pages`` pages, or for ``any`` of them."""

    text: str
    pages: int | None = None
    any: bool = False


@dataclass(frozen=True)
class Value:
    """A number, or a column of one for each page i."""

    text: str
    pages: int | None = None

    def part(self, first: int, pages: int) -> Value:
        """Return some pages of a column."""
        return Value(_INDEX.sub(lambda found: _each(int(found[1] or 0) + first), self.text), pages)

    def at(self, index: int) -> Value:
        """Return one page's number."""
        return Value(_INDEX.sub(lambda found: f"[{int(found[1] or 0) + index}]", self.text))


def _each(more: int) -> str:
    return f"[i + {more}]" if more else _EACH


@dataclass
class Sight:
    """What was read so far, and the variables in which the program keeps what it saw."""

    values: Values
    looks_into_pfnmaps: bool = False
    seen: dict[tuple[str, str], Value] = field(default_factory=dict)

    def looks(self, call: ast.Call, name: str, attributes: set[str]) -> list[Look]:
        """Return how to see those attributes of a reading that a process can see."""
        kind, found = method_of(call), []
        if not _is_own(call) or kind not in ("pages", "vma", "mm", "frames"):
            return []
        for attr in sorted(attributes):
            look = self._look((name, attr), kind, call.args[0])
            if look is not None:
                found.append(look)
        return found

    def _look(self, key: tuple[str, str], kind: str, of: ast.expr) -> Look | None:
        attr, plain = key[1], "_".join(key)
        variable = f"{plain}_" if plain in taken() else plain
        if kind == "mm" and attr in STATUS:
            self.seen[key] = Value(variable)
            line = f"{variable} = status_pages({quoted(STATUS[attr])});"
            return Look(variable, f"long long {variable};", [line], {"status"})
        if kind == "vma" and attr == "flags":
            self.seen[key] = Value(variable)
            line = f"vm_flags({self.values.place(of).start}, {variable}, sizeof({variable}));"
            return Look(variable, f"char {variable}[256];", [line], {"vmflags"})
        if kind == "vma" and attr == "pgoff":
            self.seen[key] = Value(variable)
            line = f"{variable} = offset_of_mapping({self.values.place(of).start});"
            return Look(variable, f"long long {variable};", [line], {"vmapgoff"})
        if kind == "frames" and attr == "refcounts":
            return self._counts(key, variable, of)
        if kind == "pages" and attr in COLUMNS:
            place = self.values.place(of)
            self.seen[key] = Value(f"{variable}{_EACH}", place.pages)
            return _column(variable, place, attr, pfnmaps=self.looks_into_pfnmaps and place.is_inserted)
        return None

    def _counts(self, key: tuple[str, str], variable: str, pfns: ast.expr) -> Look | None:
        try:
            column = self.value(pfns)
        except Unseen:
            return None
        if column.pages is None:
            return None
        self.seen[key] = Value(f"{variable}{_EACH}", column.pages)
        lines = [
            "settle();", f"for (long i = 0; i < {column.pages}; i++)", f"\t{variable}[i] = count_of({column.text});",
        ]  # fmt: skip
        helpers = {"countof", "settle"}
        return Look(variable, f"long long {variable}[{column.pages}];", lines, helpers, {"count"})

    def variables(self, node: ast.AST) -> list[str]:
        """Return the variables of what was seen in an expression."""
        found = (self._seen(part) for part in ast.walk(node))
        return sorted({value.text.removesuffix(_EACH) for value in found if value is not None})

    def condition(self, test: ast.expr) -> Condition:
        """Return what an assertion says, in C; raises Unseen."""
        if not isinstance(test, ast.Compare) or len(test.ops) != 1:
            raise Unseen
        op, left, right = test.ops[0], test.left, test.comparators[0]
        if isinstance(op, ast.Eq) and isinstance(left, ast.Tuple) and isinstance(right, ast.Tuple):
            return self._each(left.elts, right.elts)
        if isinstance(op, ast.In | ast.NotIn):
            return Condition(self._flag(op, left, right))
        if isinstance(right, ast.Set) and isinstance(op, ast.GtE):
            return Condition(" && ".join(self._flag(ast.In(), each, left) for each in right.elts))
        if isinstance(right, ast.Constant) and right.value is None:
            return Condition(self._nothing(op, left))
        return self._compared(op, self.value(left), self.value(right))

    def _compared(self, op: ast.cmpop, left: Value, right: Value) -> Condition:
        pages = {value.pages for value in (left, right) if value.pages is not None}
        is_order = not isinstance(op, ast.Eq | ast.NotEq)
        if type(op) not in _COMPARISONS or len(pages) > 1 or (pages and is_order):
            raise Unseen
        text = f"{left.text} {_COMPARISONS[type(op)]} {right.text}"
        if not pages and _INDEX.search(text):
            raise Unseen
        return Condition(text, pages.pop() if pages else None, any=isinstance(op, ast.NotEq))

    def _each(self, left: list[ast.expr], right: list[ast.expr]) -> Condition:
        """Return the condition that several values are all as they should be; raises Unseen if one is not seen."""
        pairs = zip(left, right, strict=False)
        made = [self.condition(ast.Compare(one, [ast.Eq()], [other])) for one, other in pairs]
        pages = {each.pages for each in made if each.pages is not None}
        if len(left) != len(right) or len(pages) > 1:
            raise Unseen
        return Condition(" && ".join(f"({each.text})" for each in made), pages.pop() if pages else None)

    def _flag(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> str:
        flags = self._seen(right)
        if flags is None or not isinstance(left, ast.Constant) or left.value not in VM_FLAGS:
            raise Unseen
        no = "!" if isinstance(op, ast.NotIn) else ""
        return f"{no}has_flag({flags.text}, {quoted(VM_FLAGS[str(left.value)])})"

    def _nothing(self, op: ast.cmpop, left: ast.expr) -> str:
        """Return that there was no error, or no mapping, or that there was; raises Unseen."""
        if not isinstance(left, ast.Attribute) or not isinstance(left.value, ast.Name):
            raise Unseen
        none = isinstance(op, ast.Is | ast.Eq)
        name, attr = left.value.id, left.attr
        if attr == "mapping" and name in self.values.inserted:
            return f"{name}.area {'==' if none else '!='} MAP_FAILED"
        if attr != "errno":
            raise Unseen
        return f"{self._claimed(name, attr)} {'>=' if none else '<'} 0"

    def _seen(self, node: ast.AST) -> Value | None:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return self.seen.get((node.value.id, node.attr))
        return None

    def value(self, node: ast.expr) -> Value:
        """Return a number or a column; raises Unseen."""
        seen = self._seen(node)
        if seen is not None:
            return seen
        match node:
            case ast.Subscript(value=inner, slice=index):
                return self._subscript(self.value(inner), index)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return self._listed([each for part in parts for each in self._parts(part)])
            case ast.Call(func=ast.Name(id="range"), args=[start, stop]):
                return self._range(self.value(start), said(start), said(stop))
            case ast.Attribute(value=ast.Name() | ast.Subscript() | ast.Attribute() as area, attr="pages"):
                return Value(str(self.values.place(area).pages))
            case ast.Attribute(value=ast.Name(id=name), attr=attr):
                return self._attribute(name, attr)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return self._combined(self.value(left), OPERATORS[type(op)], self.value(right))
            case ast.Constant(value=str() as text) if text.startswith("E"):
                return Value(f"-{text}")
        return Value(self._number(node))

    def _number(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name) if name in self.values.numbers:
                return name
            case ast.UnaryOp() | ast.Constant(value=int()):
                return self.values.number(node)
            case ast.Call(args=[name]) if method_of(node) == "layout" and text_of(name) in _FAULTS:
                return f"{_FAULTS[text_of(name)]:#x}"
        raise Unseen

    def _subscript(self, of: Value, index: ast.expr) -> Value:
        if of.pages is None:
            raise Unseen
        if isinstance(index, ast.Slice):
            ends = (int_of(end) if end is not None else None for end in (index.lower, index.upper))
            first, last, _ = slice(*ends).indices(of.pages)
            return of.part(first, max(0, last - first))
        return of.at(int_of(index) % of.pages)

    def _parts(self, node: ast.expr) -> list[Value]:
        if not isinstance(node, ast.Starred):
            return [self.value(node)]
        column = self.value(node.value)
        return [column.at(index) for index in range(column.pages or 0)]

    def _range(self, first: Value, start: str, stop: str) -> Value:
        """Return numbers that follow each other, as many as the script says."""
        plus = stop.removeprefix(f"{start} + ")
        if first.pages is not None or not plus.isdigit() or not 0 < int(plus) <= _MOST:
            raise Unseen
        return self._listed(
            [Value(f"{first.text} + {more}" if more else first.text) for more in range(int(plus))]
        )

    def _listed(self, parts: list[Value]) -> Value:
        if not parts or any(part.pages is not None for part in parts):
            raise Unseen
        return Value(f"((long long[]){{ {', '.join(part.text for part in parts)} }}){_EACH}", len(parts))

    def _combined(self, left: Value, operator: str, right: Value) -> Value:
        pages = {value.pages for value in (left, right) if value.pages is not None}
        if len(pages) > 1:
            raise Unseen
        return Value(f"{left.text} {operator} {right.text}", pages.pop() if pages else None)

    def _attribute(self, name: str, attr: str) -> Value:
        if attr == "pfns" and name in self.values.own:
            return Value(f"{name}_pfns{_EACH}", self.values.own[name].nr)
        if attr == "pfns" and name in self.values.pins:
            return Value(f"(long long){name}.pfn{_EACH}")
        return Value(self._claimed(name, attr))

    def _claimed(self, name: str, attr: str) -> str:
        if name in self.values.pins:
            ways = {"returned": "ret", "errno": "ret", "filled": "filled"}
        elif name in self.values.inserted:
            ways = {"ret": "ret", "errno": "error", "num": "num"}
        else:
            ways = {"runs": "runs", "ret": "ret", "num": "num"} if name in self.values.results else {}
        if attr not in ways:
            raise Unseen
        return f"{name}.{ways[attr]}"


def _is_own(call: ast.Call) -> bool:
    """Whether a reading is of the process itself, and not of another."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "of"]
    named += call.args[:1] if method_of(call) == "mm" else []
    of = [node.id if isinstance(node, ast.Name) else "" for node in named]
    return bool(call.args) and len(call.keywords) <= 1 and set(of) <= {"subject"}


def _column(variable: str, place: Place, attr: str, *, pfnmaps: bool) -> Look:
    at, counts = f"{place.start} + i * page", attr == "refcounts"
    told = f"{COLUMNS[attr]}({at})"
    helpers = {"refcount"} if counts else {COLUMNS[attr].removeprefix("pagemap_")}
    if pfnmaps:
        ways = {
            "pfns": "mapped_pfn({})",
            "present": "mapped_pfn({}) >= 0",
            "refcounts": "count_of(mapped_pfn({}))",
        }
        told, helpers = ways[attr].format(at), {"mappedpfn", *(["countof"] if counts else [])}
    lines = ["settle();"] if counts else []
    lines += [f"for (long i = 0; i < {place.pages}; i++)", f"\t{variable}[i] = {told};"]
    asks = {"count"} if counts else set()
    return Look(
        variable, f"long long {variable}[{place.pages}];", lines, helpers | ({"settle"} if counts else set()),
        asks | ({"pfn"} if pfnmaps else set()),
    )  # fmt: skip
