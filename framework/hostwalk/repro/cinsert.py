"""Steps of the vm_insert_page family: pages of the module's own, and calls of the module that map them."""

from __future__ import annotations

import ast
import re

from hostwalk.repro.ccontext import Context
from hostwalk.repro.cinsertions import BLOCKS, CALLS, FAULTS, KINDS, PROTS, WITHOUT_PAGES, Insertion, OwnPages
from hostwalk.repro.ctext import quoted, taken_in_module
from hostwalk.repro.cvalues import Place, arguments, int_of, is_on, method_of, said, text_of
from hostwalk.repro.edits import attributes_of

METHODS = ("alloc_pages", "free_pages", "insert", "insert_result")
MOST = 16
"""Allocations and insertions of one script: what the numbers of the module's requests have room for."""
_OPTIONS = {
    "call", "pages", "when", "at", "map_pages", "prot", "shared", "first", "nr", "offset", "pgoff", "keep", "mixedmap",
    "pfnmap", "pgprot", "fixed_at",
}  # fmt: skip
_EVERY_PAGE = 1 << 12


def may_be_pfnmaps(function: ast.AST) -> bool:
    """Whether a script has mappings that /proc/PID/pagemap tells nothing of."""
    calls = [
        each for each in ast.walk(function) if isinstance(each, ast.Call) and method_of(each) == "insert"
    ]
    first = [text_of(call.args[0]) for call in calls if call.args and isinstance(call.args[0], ast.Constant)]
    pfnmap = any(keyword.arg == "pfnmap" for call in calls for keyword in call.keywords)
    return pfnmap or any(name in WITHOUT_PAGES for name in first)


def step(to: Context, call: ast.Call, name: str) -> None:
    """Translate one of these steps; raises UsageError."""
    steps = {"alloc_pages": _alloc, "free_pages": _free, "insert": _insert, "insert_result": _result}
    if to.doer(call):
        raise to.values.no(call)
    to.need("must", "device")
    steps[method_of(call)](to, call, name)


def _alloc(to: Context, call: ast.Call, name: str) -> None:
    given = arguments(call, ("kind", "nr", "order", "addr"))
    kind = text_of(given.get("kind", ast.Constant("order0")))
    order = int_of(given.get("order", ast.Constant(0))) if kind in BLOCKS else 0
    nr = 1 << order if kind in BLOCKS else int_of(given.get("nr", ast.Constant(1)))
    number = len(to.made.own)
    is_one = kind in ("slab", "anon", "mapped")
    if kind not in KINDS or not 0 < nr <= (1 if is_one else _EVERY_PAGE) or number == MOST:
        raise to.values.no(call)
    name = name or f"own_pages_{number}"
    own = OwnPages(f"{name}_" if name in taken_in_module() else name, kind, nr, order)
    to.made.own.append(own)
    to.values.own[name] = own
    given_at = f", {to.values.number(given['addr'])}" if own.is_of_process else ""
    to.line(f"must(ioctl(device(), REPRO_ALLOC({number}){given_at}), {quoted(said(call))});")
    if "pfns" in attributes_of(to.script.function, name):
        to.made.asks.add("pfns")
        to.declare(f"long long {name}_pfns[{nr}];")
        to.line(f"must(ioctl(device(), REPRO_PFNS({number}), {name}_pfns), {quoted(f'{name}.pfns')});")


def _free(to: Context, call: ast.Call, _name: str) -> None:
    own = _own(to, call, call.args[0])
    to.made.asks.add("free")
    to.line(f"must(ioctl(device(), REPRO_FREE({to.made.own.index(own)})), {quoted(said(call))});")


def _own(to: Context, call: ast.Call, node: ast.expr) -> OwnPages:
    if not isinstance(node, ast.Name) or node.id not in to.values.own:
        raise to.values.no(call)
    return to.values.own[node.id]


def _result(to: Context, _call: ast.Call, name: str) -> None:
    if not name:
        return
    to.need("inserted")
    to.values.results.add(name)
    to.declare(f"struct repro_result {name};")
    to.line(f"{name} = insert_result();")


def _insert(to: Context, call: ast.Call, name: str) -> None:
    given = arguments(call, ("call", "pages"))
    made = _insertion(to, call, given)
    to.made.insertions.append(made)
    to.made.asks.add("now" if made.when == "now" else "arm")
    to.need("inserted", "insertnow" if made.when == "now" else "insert")
    name = name or to.fresh("inserted")
    to.declare(f"struct inserted {name};")
    if made.when == "now":
        at = to.values.place_at(given["at"])
        to.line(f"{name} = insert_now({made.number}, {at.start});")
        to.values.inserted[name] = Place(f"{name}.area", at.pages, is_inserted=True)
    else:
        to.line(f"{name} = insert({made.number}, {_mapping(to, given, made)});")
        pages = int_of(given.get("map_pages", ast.Constant(0))) or made.nr
        to.values.inserted[name] = Place(f"{name}.area", pages, is_inserted=True)


def _mapping(to: Context, given: dict[str, ast.expr], made: Insertion) -> str:
    """Return where and how a mapping is made: address, pages, protection, flags, offset in pages."""
    is_shared = "shared" not in given or is_on(given["shared"])
    flags = "MAP_SHARED" if is_shared else "MAP_PRIVATE"
    at = "NULL"
    if "fixed_at" in given:
        at, flags = f"(char *)({to.values.number(given['fixed_at'])})", f"{flags} | MAP_FIXED"
    pages = int_of(given.get("map_pages", ast.Constant(0))) or made.nr
    return f"{at}, {pages}, {to.values.prot(given.get('prot'))}, {flags}, {made.pgoff}"


def _insertion(to: Context, call: ast.Call, given: dict[str, ast.expr]) -> Insertion:
    own = _own(to, call, given["pages"])
    function, first = text_of(given["call"]), int_of(given.get("first", ast.Constant(0)))
    nr = int_of(given["nr"]) if "nr" in given else own.nr - first
    when = text_of(given.get("when", ast.Constant("mmap")))
    flags = tuple(f"VM_{word.upper()}" for word in ("mixedmap", "pfnmap") if is_on(given.get(word)))
    made = Insertion(
        len(to.made.insertions), function, own.name, first, nr, when, _kernel_bytes(to, call, given.get("offset")),
        int_of(given.get("pgoff", ast.Constant(0))), is_on(given.get("keep")), flags,
        text_of(given.get("pgprot", ast.Constant(""))), "num" in _all_attributes(to), _comment(call),
    )  # fmt: skip
    if not _makes_sense(made, given):
        raise to.values.no(call)
    return made


def _makes_sense(made: Insertion, given: dict[str, ast.expr]) -> bool:
    """Whether the module can make the call as the script says it."""
    whens = ("fault",) if made.call in FAULTS else ("mmap", "now", "fault")
    now = made.when == "now"
    return (
        made.call in CALLS and made.when in whens and made.pgprot in PROTS and made.number < MOST
        and not given.keys() - _OPTIONS and now == ("at" in given) and not (now and made.preparing)
        and made.first >= 0 and made.nr >= 0
    )  # fmt: skip


def _all_attributes(to: Context) -> set[str]:
    return {node.attr for node in ast.walk(to.script.function) if isinstance(node, ast.Attribute)}


def _kernel_bytes(to: Context, call: ast.Call, node: ast.expr | None) -> str:
    """Return a number of bytes in the words of the kernel; raises UsageError where values of the script are in it."""
    if node is None or (isinstance(node, ast.Constant) and not node.value):
        return ""
    text = re.sub(r"\bpage\b", "PAGE_SIZE", to.values.number(node))
    if re.search(r"[A-Za-z_]\w*", re.sub(r"PAGE_SIZE|0x[0-9a-f]+UL|\dUL", "", text)):
        raise to.values.no(call)
    return text


def _comment(call: ast.Call) -> str:
    return said(call).replace("*/", "* /")
