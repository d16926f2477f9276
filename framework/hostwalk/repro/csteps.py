"""Steps of a script as statements of C: mappings, accesses, calls."""

from __future__ import annotations

import ast
import re

from hostwalk.guest.exerciser import DEVICE
from hostwalk.repro import cinsert, csettings
from hostwalk.repro.ccalls import GUP, map_rest, module_call, syscall
from hostwalk.repro.ccontext import Context
from hostwalk.repro.ctext import quoted
from hostwalk.repro.cvalues import Place, arguments, int_of, is_on, method_of, owner_of, said, text_of
from hostwalk.repro.edits import attributes_of
from hostwalk.repro.pin import Pin
from hostwalk.target import granule_of

ACCESSES = ("touch", "store", "load")
_RELEASES = ("put", "unpin")
_ENTRY_BYTES = 8
_GRANULE = re.compile(r"-arm64-(16k|64k)\b")
_PAGE_BYTES = {"4k": 4 << 10, "16k": 16 << 10, "64k": 64 << 10}


def step(to: Context, call: ast.Call, name: str) -> None:
    """Translate a call whose value gets a name, or none; raises UsageError."""
    inner = call.func.value if isinstance(call.func, ast.Attribute) else None
    method = method_of(call)
    if method == "must" and len(call.args) == 1 and isinstance(call.args[0], ast.Call):
        step(to, call.args[0], name)
    elif isinstance(inner, ast.Call) and method in ACCESSES:
        name = name or to.fresh("area")
        step(to, inner, name)
        to.line(f"{_accessed(to, to.values.areas[name], call)};")
    elif method in ACCESSES:
        _touched(to, call, name)
    elif method in _RELEASES and owner_of(call) in to.values.pins:
        release(to, owner_of(call))
    elif owner_of(call) == "witness":
        _reading(to, call, name)
    elif to.is_process(call):
        _done(to, call, name)
    else:
        raise to.values.no(call)


def _done(to: Context, call: ast.Call, name: str) -> None:
    """Translate what a process does."""
    method = method_of(call)
    if method in ("mmap", "apart", "area"):
        _map(to, call, name or to.fresh("area"))
    elif method == "huge_page":
        _huge_page(to, name or to.fresh("area"))
    elif method == "mremap":
        _mremap(to, call, name or to.fresh("moved"))
    elif method == "astride_tables":
        to.need("astride")
        to.line(f"{_named(to, name)}astride_tables({to.values.number(call.args[0])});")
    elif method in GUP:
        _gup(to, call, name or to.fresh("pins"))
    elif method in cinsert.METHODS:
        cinsert.step(to, call, name)
    elif method == "settle":
        to.need("settle")
        to.line("settle();")
    else:
        _called(to, call, name)


def _touched(to: Context, call: ast.Call, name: str) -> None:
    to.line(f"{access(to, call)};")
    if name and isinstance(call.func, ast.Attribute):
        to.values.areas[name] = to.values.place(call.func.value)


def _called(to: Context, call: ast.Call, name: str) -> None:
    """Make a system call that must succeed."""
    method = method_of(call)
    if method == "memfd" and call.args:
        _sized_file(to, call, name)
        return
    if method == "open":
        given = arguments(call, ("path", "flags"))
        if to.values.text(given["path"]) == DEVICE:
            to.need("device")
            to.values.devices.add(name)
            return
        csettings.before_opening(
            to, to.values.text(given["path"]), text_of(given.get("flags", ast.Constant("O_RDWR")))
        )
    made = syscall(to.values, call)
    text = made if method == "syscall" else f"must({made}, {quoted(said(call))})"
    to.line(f"{_named(to, name)}{text};")


def _sized_file(to: Context, call: ast.Call, name: str) -> None:
    """Make a file without a name, and give it its size."""
    name = name or to.fresh("fd")
    empty = ast.Call(call.func, [], call.keywords)
    to.line(f"{_named(to, name)}must({syscall(to.values, empty)}, {quoted(said(call))});")
    to.line(f"must(ftruncate({name}, {int_of(call.args[0])} * page), {quoted('ftruncate')});")


def _named(to: Context, name: str) -> str:
    if not name:
        return ""
    to.values.numbers.add(name)
    to.declare(f"long {name};")
    return f"{name} = "


def _map(to: Context, call: ast.Call, name: str) -> None:
    to.declare(f"char *{name};")
    if method_of(call) == "area":
        place = to.values.place(call)
        to.line(f"{name} = {place.start};")
        to.values.areas[name] = Place(name, place.pages)
        return
    given = arguments(call, ("pages", "prot"))
    pages = int_of(given.get("pages", ast.Constant(1)))
    if method_of(call) == "apart":
        to.line(f"{name} = map(NULL, {pages + 2}, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);")
    made = _mapping(to, call, name)
    is_of_module = "device()" in made
    if is_of_module:
        to.need("device")
        to.made.asks.add("mmap")
    to.line(f"{name} = map({made});")
    to.values.areas[name] = Place(name, pages, is_inserted=is_of_module)


def expression(to: Context, call: ast.Call) -> str:
    """Return a call that may be refused as an expression, negative where it is; raises UsageError."""
    if not to.is_process(call):
        raise to.values.no(call)
    match method_of(call):
        case "mmap":
            at, pages, rest = _mapping(to, call).split(", ", 2)
            return f"(long)mmap({at}, {pages} * page, {rest})"
        case "mremap":
            return f"(long){_mremapped(to, arguments(call, ('area', 'pages')), call)}"
        case "fork":
            to.need("forkbriefly")
            return "fork_briefly()"
    return syscall(to.values, call)


def _mapping(to: Context, call: ast.Call, room: str = "") -> str:
    """Return what an mmap is given: address, pages, protection, flags, file, offset; raises UsageError."""
    given = arguments(call, ("pages", "prot"))
    if "aligned" in given:
        raise to.values.no(given["aligned"])
    is_apart = method_of(call) == "apart"
    pages, prot = int_of(given.get("pages", ast.Constant(1))), to.values.prot(given.get("prot"))
    fixed = f"(char *)({to.values.number(given['fixed_at'])})" if "fixed_at" in given else "NULL"
    at = f"{room} + page" if is_apart else fixed
    return f"{at}, {pages}, {prot}, {map_rest(to.values, given, fixed=is_apart)}"


def _mremap(to: Context, call: ast.Call, name: str) -> None:
    given = arguments(call, ("area", "pages"))
    to.declare(f"char *{name};")
    to.line(f"{name} = (char *)must((long){_mremapped(to, given, call)}, {quoted(said(call))});")
    old = to.values.place(given["area"])
    to.values.areas[name] = Place(name, int_of(given["pages"]), old.is_inserted)


def _mremapped(to: Context, given: dict[str, ast.expr], call: ast.Call) -> str:
    if given.keys() - {"area", "pages", "may_move", "fixed_at"}:
        raise to.values.no(call)
    moves = "fixed_at" in given or "may_move" not in given or is_on(given["may_move"])
    flags = (["MREMAP_MAYMOVE"] if moves else ["0"]) + (["MREMAP_FIXED"] if "fixed_at" in given else [])
    at = f", (void *)({to.values.number(given['fixed_at'])})" if "fixed_at" in given else ""
    pages = int_of(given["pages"])
    return f"mremap({to.values.span(given['area'])}, {pages} * page, {' | '.join(flags)}{at})"


def _huge_page(to: Context, name: str) -> None:
    to.need("hugepage")
    to.declare(f"char *{name};")
    pages = _page_bytes(to.script.pin) // _ENTRY_BYTES
    to.line(f"{name} = huge_page({pages});")
    to.values.areas[name] = Place(name, pages)


def access(to: Context, call: ast.Call) -> str:
    """Return a load or store as an expression; raises UsageError."""
    if to.is_process(call) and len(call.args) == 1:
        return _accessed(to, _run(to, call), ast.Call(call.func, [], _only(call, "byte")))
    if not isinstance(call.func, ast.Attribute):
        raise to.values.no(call)
    return _accessed(to, to.values.place(call.func.value), call)


def _run(to: Context, call: ast.Call) -> Place:
    """Return what an access by address goes over: one page, or as many as it counts."""
    given = arguments(call, ("address",))
    stride, count = given.get("stride"), given.get("count", ast.Constant(1))
    if given.keys() - {"address", "byte", "stride", "count"} or (
        stride is not None and to.values.number(stride) != "page"
    ):
        raise to.values.no(call)
    pages = to.values.number(count)
    if not pages.isdigit() or (stride is None and pages != "1"):
        raise to.values.no(call)
    return Place(f"(char *)({to.values.number(given['address'])})", int(pages))


def _accessed(to: Context, place: Place, call: ast.Call) -> str:
    if method_of(call) == "load":
        to.need("load")
        return f"load({place.start}, {place.pages})"
    to.need("store")
    byte = arguments(call, ("byte",)).get("byte", ast.Constant(1))
    return f"store({place.start}, {place.pages}, {int_of(byte)})"


def _gup(to: Context, call: ast.Call, name: str) -> None:
    if to.child and owner_of(call) == to.child:
        raise to.values.no(call)
    given = arguments(call, ("place", "nr_pages"))
    area = to.values.place_at(given.pop("place"))
    nr = to.values.number(given.pop("nr_pages", ast.Constant(area.pages)))
    number = to.values.pins[name] = len(to.made.calls)
    to.made.calls.append(module_call(to.values, call, given))
    to.need("gup")
    to.declare(f"struct repro_pages {name};")
    to.line(f"{name} = gup(REPRO_CALL({number}), {area.start}, {nr});")


def release(to: Context, pins: str) -> None:
    """Give back what a call of get_user_pages gave."""
    to.line(f"must(ioctl(device(), REPRO_PUT({to.values.pins[pins]}), &{pins}), {quoted('give back')});")


def _reading(to: Context, call: ast.Call, name: str) -> None:
    """Have the program look at what is asserted of a reading, at the moment of the reading."""
    for look in to.sight.looks(call, name, attributes_of(to.script.function, name)):
        to.declare(look.declaration)
        to.line(*look.lines)
        to.need(*look.helpers)
        to.made.asks |= look.asks


def _page_bytes(pin: Pin) -> int:
    """Return the size of a page: as the format says, or the name of Debian's kernel, ``6.12.1-arm64-16k``."""
    built = _GRANULE.search(f"{pin.kernel} {pin.release}")
    return _PAGE_BYTES[built[1] if built else granule_of(pin.format)]


def _only(call: ast.Call, name: str) -> list[ast.keyword]:
    return [keyword for keyword in call.keywords if keyword.arg == name]
