"""From the steps of a script to statements of C: only what subjects do has a counterpart there."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from hostwalk.repro.ccalls import GUP, ModuleCall, map_rest, module_call, syscall
from hostwalk.repro.csight import Sight, Unseen
from hostwalk.repro.ctext import quoted
from hostwalk.repro.cvalues import Place, Values, arguments, int_of, method_of, owner_of, text_of
from hostwalk.repro.edits import is_expectation, last_assertion
from hostwalk.repro.pin import Pin
from hostwalk.repro.script import Script
from hostwalk.target import granule_of

_RELEASES = ("put", "unpin")
_ACCESSES = ("touch", "store", "load")
_WHERE = "in QEMU's monitor: gva2gpa and xp; in crash(8): vtop; with drgn: follow_phys()"
_WORDS = 60
_ENTRY_BYTES = 8
_GRANULE = re.compile(r"-arm64-(16k|64k)\b")
_PAGE_BYTES = {"4k": 4 << 10, "16k": 16 << 10, "64k": 64 << 10}


@dataclass
class Translation:
    """The body of main(), and what it needs."""

    lines: list[str] = field(default_factory=list)
    declarations: list[str] = field(default_factory=list)
    helpers: set[str] = field(default_factory=set)
    calls: list[ModuleCall] = field(default_factory=list)
    uses_module: bool = False
    seen_inside: bool = True


def translate(script: Script) -> Translation:
    """Return a script's function in C; raises UsageError for a step that has no counterpart."""
    return _Translator(script).translate()


class _Translator:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._made = Translation()
        self._values = Values(script.path)
        self._sight = Sight(self._values)
        self._child = ""

    def translate(self) -> Translation:
        self._line("page = sysconf(_SC_PAGESIZE);")
        self._body(self._script.function.body)
        first = len(self._made.lines)
        self._ending()
        if self._child:
            self._in_turn(first, childs=False)
        if any("must(" in line for line in self._made.lines):
            self._made.helpers.add("must")
        if any("scratch" in line for line in self._made.lines):
            self._made.helpers.add("scratch")
        return self._made

    def _line(self, text: str) -> None:
        self._made.lines.append(text)

    def _declare(self, text: str) -> None:
        if text not in self._made.declarations:
            self._made.declarations.append(text)

    def _body(self, body: list[ast.stmt]) -> None:
        for node in body:
            self._statement(node)

    def _statement(self, node: ast.stmt) -> None:
        """Translate a statement; while there is a child, one that either process does in its turn."""
        if not self._child or (isinstance(node, ast.With) and not is_expectation(node)):
            self._translated(node)
            return
        first = len(self._made.lines)
        self._translated(node)
        self._in_turn(first, childs=self._is_childs(node))

    def _in_turn(self, first: int, *, childs: bool) -> None:
        """Have the lines from ``first`` on done by one of two processes, while the other waits."""
        step = self._made.lines[first:]
        if step:
            begin, end = f"if (turn(&{self._child}, {int(childs)})) {{", f"\tturned(&{self._child});"
            self._made.lines[first:] = [begin, *(f"\t{line}" for line in step), end, "}"]

    def _is_childs(self, node: ast.stmt) -> bool:
        """Return whether a statement is the child's."""
        return any(isinstance(each, ast.Call) and owner_of(each) == self._child for each in ast.walk(node))

    def _translated(self, node: ast.stmt) -> None:
        match node:
            case ast.Pass():
                return
            case ast.With() if is_expectation(node):
                self._expectation(node)
            case ast.With(items=[ast.withitem(context_expr=ast.Call() as call, optional_vars=name)]):
                self._with(call, name.id if isinstance(name, ast.Name) else "", node.body)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                self._call(call, name)
            case ast.Expr(value=ast.Call() as call):
                self._call(call, "")
            case ast.Assert():
                self._assert(node)
            case _:
                raise self._values.no(node)

    def _with(self, call: ast.Call, name: str, body: list[ast.stmt]) -> None:
        if method_of(call) == "fork" and owner_of(call) == "subject" and not self._child:
            self._with_child(call, name or self._fresh("child"), body)
            return
        if method_of(call) not in GUP:
            raise self._values.no(call)
        name = name or self._fresh("pins")
        if self._child:
            raise self._values.no(call)
        self._call(call, name)
        self._body(body)
        if body[-1] is not last_assertion(self._script.function):
            self._release(name)

    def _fork(self, call: ast.Call, name: str) -> None:
        if call.args or call.keywords:
            raise self._values.no(call)
        self._made.helpers.add("turns")
        self._declare(f"struct child {name};")
        self._line(f"{name} = fork_child();")
        self._child = name

    def _with_child(self, call: ast.Call, name: str, body: list[ast.stmt]) -> None:
        self._fork(call, name)
        self._body(body)
        if body[-1] is not last_assertion(self._script.function):
            self._made.helpers.add("endchild")
            self._line(f"end_child(&{name});")
            self._child = ""

    def _fresh(self, kind: str) -> str:
        return f"{kind}_{len(self._made.declarations) + 1}"

    def _release(self, pins: str) -> None:
        self._line(
            f"must(ioctl(device(), REPRO_PUT({self._values.pins[pins]}), &{pins}), {quoted('give back')});"
        )

    def _expectation(self, node: ast.With) -> None:
        call = node.items[0].context_expr
        *before, last = node.body
        self._body(before)
        if (
            not isinstance(call, ast.Call)
            or not isinstance(last, ast.Expr)
            or not isinstance(last.value, ast.Call)
        ):
            raise self._values.no(node)
        text = (
            self._refusal(call, last.value) if method_of(call) == "refuses" else self._fault(call, last.value)
        )
        is_last = self._script.shows.kind == method_of(call) and node is self._last_statement()
        self._line(f"if (!{text})")
        self._line(f"\treturn {1 if is_last else 3};")

    def _last_statement(self) -> ast.stmt:
        node: ast.stmt = self._script.function.body[-1]
        while isinstance(node, ast.With) and not is_expectation(node):
            node = node.body[-1]
        return node

    def _refusal(self, expected: ast.Call, call: ast.Call) -> str:
        self._made.helpers.add("refused")
        if len(expected.args) != 1:
            raise self._values.no(expected)
        return f"refused({syscall(self._values, call)}, {text_of(expected.args[0])}, {quoted(ast.unparse(call))})"

    def _fault(self, expected: ast.Call, call: ast.Call) -> str:
        self._made.helpers.add("faulted")
        self._line("catch_faults();")
        self._line("if (!sigsetjmp(back, 1))")
        self._line(f"\t{self._access(call)};")
        code = text_of(expected.args[1]) if len(expected.args) > 1 else "0"
        return f"faulted({text_of(expected.args[0])}, {code}, {quoted(ast.unparse(call))})"

    def _call(self, call: ast.Call, name: str) -> None:
        inner = call.func.value if isinstance(call.func, ast.Attribute) else None
        method = method_of(call)
        if method == "must" and len(call.args) == 1 and isinstance(call.args[0], ast.Call):
            self._call(call.args[0], name)
            return
        if isinstance(inner, ast.Call) and method in _ACCESSES:
            name = name or self._fresh("area")
            self._call(inner, name)
            self._line(f"{self._accessed(self._values.areas[name], call)};")
        elif method == "huge_page" and self._is_process(call):
            self._huge_page(name or self._fresh("area"))
        elif method in ("mmap", "apart", "area"):
            self._map(call, name or self._fresh("area"))
        elif method in GUP:
            self._gup(call, name or self._fresh("pins"))
        elif method in _RELEASES and owner_of(call) in self._values.pins:
            self._release(owner_of(call))
        elif method in _ACCESSES:
            self._touched(call, name)
        elif method == "fork" and owner_of(call) == "subject" and not self._child:
            self._fork(call, name or self._fresh("child"))
        elif owner_of(call) == "witness":
            self._reading(call, name)
        else:
            self._step(call, name)

    def _touched(self, call: ast.Call, name: str) -> None:
        self._line(f"{self._access(call)};")
        if name and isinstance(call.func, ast.Attribute):
            self._values.areas[name] = self._values.place(call.func.value)

    def _step(self, call: ast.Call, name: str) -> None:
        """Make a system call that must succeed."""
        if not self._is_process(call):
            raise self._values.no(call)
        if method_of(call) == "memfd" and call.args:
            self._sized_file(call, name)
            return
        made = syscall(self._values, call)
        text = made if method_of(call) == "syscall" else f"must({made}, {quoted(ast.unparse(call))})"
        self._line(f"{self._named(name)}{text};")

    def _sized_file(self, call: ast.Call, name: str) -> None:
        """Make a file without a name, and give it its size."""
        name = name or self._fresh("fd")
        empty = ast.Call(call.func, [], call.keywords)
        self._line(f"{self._named(name)}must({syscall(self._values, empty)}, {quoted(ast.unparse(call))});")
        self._line(f"must(ftruncate({name}, {int_of(call.args[0])} * page), {quoted('ftruncate')});")

    def _named(self, name: str) -> str:
        if not name:
            return ""
        self._values.numbers.add(name)
        self._declare(f"long {name};")
        return f"{name} = "

    def _map(self, call: ast.Call, name: str) -> None:
        given = arguments(call, ("pages", "prot"))
        self._declare(f"char *{name};")
        if method_of(call) == "area":
            place = self._values.place(call)
            self._line(f"{name} = {place.start};")
            self._values.areas[name] = Place(name, place.pages)
            return
        pages = int_of(given.get("pages", ast.Constant(1)))
        prot, apart = self._values.prot(given.get("prot")), method_of(call) == "apart"
        rest = map_rest(self._values, given, fixed=apart)
        if apart:
            self._line(f"{name} = map(NULL, {pages + 2}, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);")
        at = f"{name} + page" if apart else self._fixed(given)
        self._line(f"{name} = map({at}, {pages}, {prot}, {rest});")
        self._values.areas[name] = Place(name, pages)

    def _huge_page(self, name: str) -> None:
        self._made.helpers.add("hugepage")
        self._declare(f"char *{name};")
        pages = _page_bytes(self._script.pin) // _ENTRY_BYTES
        self._line(f"{name} = huge_page({pages});")
        self._values.areas[name] = Place(name, pages)

    def _fixed(self, given: dict[str, ast.expr]) -> str:
        if "aligned" in given:
            raise self._values.no(given["aligned"])
        return f"(char *)({self._values.number(given['fixed_at'])})" if "fixed_at" in given else "NULL"

    def _access(self, call: ast.Call) -> str:
        """Return a load or store as an expression."""
        if self._is_process(call) and len(call.args) == 1:
            return self._accessed(self._run(call), ast.Call(call.func, [], _only(call, "byte")))
        if not isinstance(call.func, ast.Attribute):
            raise self._values.no(call)
        return self._accessed(self._values.place(call.func.value), call)

    def _is_process(self, call: ast.Call) -> bool:
        return owner_of(call) in ("subject", self._child or "subject")

    def _run(self, call: ast.Call) -> Place:
        """Return what an access by address goes over: one page, or as many as it counts."""
        given = arguments(call, ("address",))
        stride, count = given.get("stride"), given.get("count", ast.Constant(1))
        if given.keys() - {"address", "byte", "stride", "count"} or (
            stride is not None and self._values.number(stride) != "page"
        ):
            raise self._values.no(call)
        pages = self._values.number(count)
        if not pages.isdigit() or (stride is None and pages != "1"):
            raise self._values.no(call)
        return Place(f"(char *)({self._values.number(given['address'])})", int(pages))

    def _accessed(self, place: Place, call: ast.Call) -> str:
        if method_of(call) == "load":
            self._made.helpers.add("load")
            return f"load({place.start}, {place.pages})"
        self._made.helpers.add("store")
        byte = arguments(call, ("byte",)).get("byte", ast.Constant(1))
        return f"store({place.start}, {place.pages}, {int_of(byte)})"

    def _gup(self, call: ast.Call, name: str) -> None:
        given = arguments(call, ("place", "nr_pages"))
        area = self._values.place(given.pop("place"))
        nr = self._values.number(given.pop("nr_pages", ast.Constant(area.pages)))
        number = self._values.pins[name] = len(self._made.calls)
        self._made.calls.append(module_call(self._values, call, given))
        self._made.helpers.add("gup")
        self._made.uses_module = True
        self._declare(f"struct repro_pages {name};")
        self._line(f"{name} = gup(REPRO_CALL({number}), {area.start}, {nr});")

    def _reading(self, call: ast.Call, name: str) -> None:
        """Have the program look at what is asserted of a reading, at the moment of the reading."""
        function = self._script.function
        used = {
            node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute) and _is_of(node, name)
        }
        for look in self._sight.looks(call, name, used):
            self._declare(look.declaration)
            self._made.lines += look.lines
            self._made.helpers |= look.helpers
            self._made.uses_module |= "refcount" in look.helpers

    def _assert(self, node: ast.Assert) -> None:
        last = node is last_assertion(self._script.function)
        try:
            length, condition = self._sight.condition(node.test)
        except Unseen:
            self._made.seen_inside &= not last
            self._made.lines += [f"(void){variable};" for variable in self._sight.variables(node.test)]
            return
        self._declare("int kept;")
        self._line("kept = 1;")
        if length is None:
            self._line(f"kept = {condition};")
        else:
            self._line(f"for (long i = 0; i < {length}; i++)")
            self._line(f"\tkept = kept && {condition};")
        told = quoted(f"{ast.unparse(node.test)}: ")
        self._line(f'printf("%s%s\\n", {told}, kept ? "it holds" : "it does not hold");')
        if not last:
            self._line("if (!kept)")
        self._line("return kept ? 0 : 1;" if last else "\treturn 3;")

    def _ending(self) -> None:
        shows = self._script.shows
        if shows.kind == "warning":
            words = shows.what.partition(": ")[2].split("…")[0].strip() or "WARNING:"
            self._made.helpers.add("kmsg")
            self._line(f"return logged({quoted(words[:_WORDS])}) ? 1 : 0;")
        elif shows.kind == "audit" or not self._made.seen_inside:
            self._made.seen_inside = False
            self._outside()
        elif not self._made.lines[-1].startswith("return kept"):
            self._line("return 0;")

    def _outside(self) -> None:
        """Say what to look at from outside, and wait."""
        self._line(f'printf("%s\\n", {quoted(f"only from outside can be seen: {self._script.shows}")});')
        for name, place in self._values.areas.items():
            told = f'"  {name}: %p, {place.pages} pages of process %d\\n"'
            self._line(f"printf({told}, (void *)({place.start}), getpid());")
        if self._child:
            self._line(f'printf("  {self._child}: process %d\\n", {self._child}.pid);')
        told = quoted(f"look at page tables and struct pages, {_WHERE}; Enter ends it")
        self._line(f'printf("%s\\n", {told});')
        self._line("fflush(stdout);")
        self._line("getchar();")
        self._line("return 2;")


def _page_bytes(pin: Pin) -> int:
    """Return the size of a page: as the format says, or the name of Debian's kernel, ``6.12.1-arm64-16k``."""
    built = _GRANULE.search(f"{pin.kernel} {pin.release}")
    return _PAGE_BYTES[built[1] if built else granule_of(pin.format)]


def _only(call: ast.Call, name: str) -> list[ast.keyword]:
    return [keyword for keyword in call.keywords if keyword.arg == name]


def _is_of(node: ast.Attribute, name: str) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == name
