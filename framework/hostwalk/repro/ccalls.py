"""Calls of subjects as calls of C: system calls of the program, functions of the kernel in a module."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from hostwalk.repro.ctext import quoted, quoted_bytes
from hostwalk.repro.cvalues import Values, arguments, int_of, is_on, method_of, text_of

Make = Callable[[Values, ast.Call], str]
GUP = (
    "get_user_pages", "get_user_pages_fast", "get_user_pages_unlocked", "pin_user_pages", "pin_user_pages_fast",
    "pin_user_pages_unlocked",
)  # fmt: skip
_NO_WORD = ("flags", "no_locked", "write_lock", "capacity")
_MAP_FLAGS = {
    "populate": "MAP_POPULATE",
    "locked": "MAP_LOCKED",
    "hugetlb": "MAP_HUGETLB",
    "growsdown": "MAP_GROWSDOWN",
}


@dataclass(frozen=True)
class ModuleCall:
    """A call that only the kernel can make: its code in the module."""

    code: str
    pinned: bool


def module_call(values: Values, call: ast.Call, options: dict[str, ast.expr]) -> ModuleCall:
    """Return a call of the get_user_pages family; raises UsageError for an option that it has no word for."""
    if any(name in _NO_WORD for name in options):
        raise values.no(call)
    function = method_of(call)
    pages = "NULL" if is_on(options.pop("no_pages", None)) else "held[call]"
    flags = " | ".join(f"FOLL_{name.upper()}" for name, on in options.items() if is_on(on)) or "0"
    plain = f"in.ret = {function}(in.start, in.nr, {flags}, {pages});"
    if function.endswith(("_fast", "_unlocked")):
        return ModuleCall(plain, function.startswith("pin_"))
    older = plain.replace(f"{pages});", f"{pages}, NULL);")
    versions = f"#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)\n{older}\n#else\n{plain}\n#endif"
    code = f"mmap_read_lock(current->mm);\n{versions}\nmmap_read_unlock(current->mm);"
    return ModuleCall(code, function.startswith("pin_"))


def syscall(values: Values, call: ast.Call) -> str:
    """Return a call of a subject as an expression; raises UsageError."""
    make = _SYSCALLS.get(method_of(call))
    if make is None:
        raise values.no(call)
    return make(values, call)


def map_rest(values: Values, given: dict[str, ast.expr], *, fixed: bool = False) -> str:
    """Return the flags, file and offset of an mmap."""
    flags = ["MAP_SHARED" if is_on(given.get("shared")) else "MAP_PRIVATE"]
    flags += [flag for name, flag in _MAP_FLAGS.items() if is_on(given.get(name))]
    flags += [] if "fd" in given else ["MAP_ANONYMOUS"]
    if fixed or "fixed_at" in given:
        flags.append("MAP_FIXED" if fixed or is_on(given.get("replace")) else "MAP_FIXED_NOREPLACE")
    flags += [values.number(given["flags"])] if "flags" in given else []
    fd = values.number(given["fd"]) if "fd" in given else "-1"
    return f"{' | '.join(flags)}, {fd}, {values.number(given['offset']) if 'offset' in given else '0'}"


def _on_span(name: str) -> Make:
    return lambda values, call: f"{name}({values.span(call.args[0])})"


def _flagged(prefix: str, text: str) -> str:
    return " | ".join(prefix + part.strip().removeprefix(prefix) for part in text.split("|"))


def _raw(values: Values, call: ast.Call) -> str:
    payload = arguments(call, ()).get("payload", ast.Constant(b""))
    if (
        not isinstance(payload, ast.Constant)
        or not isinstance(payload.value, bytes)
        or len(call.keywords) > 1
    ):
        raise values.no(call)
    given = "".join(f", {values.number(arg)}" for arg in call.args[1:])
    made = f"syscall(SYS_{text_of(call.args[0])}{given})"
    put = f"memcpy(scratch, {quoted_bytes(payload.value)}, {len(payload.value)})"
    return f"({put}, {made})" if payload.value else made


def _memfd(values: Values, call: ast.Call) -> str:
    given = arguments(call, ("pages", "flags"))
    if "pages" in given and int_of(given["pages"]):
        raise values.no(call)
    return f'memfd_create("repro", {_flagged("MFD_", text_of(given["flags"])) if "flags" in given else "0"})'


def _open(values: Values, call: ast.Call) -> str:
    given = arguments(call, ("path", "flags"))
    flags = _flagged("O_", text_of(given["flags"])) if "flags" in given else "O_RDWR"
    return f"open({quoted(values.text(given['path']))}, {flags}, 0600)"


def _write(values: Values, call: ast.Call) -> str:
    fd, data = call.args
    if not isinstance(data, ast.Constant) or not isinstance(data.value, bytes):
        raise values.no(call)
    return f"write({values.number(fd)}, {quoted_bytes(data.value)}, {len(data.value)})"


def _rlimit(values: Values, call: ast.Call) -> str:
    given = arguments(call, ("name", "soft", "hard"))
    soft = values.number(given["soft"])
    hard = values.number(given["hard"]) if "hard" in given else soft
    return f"setrlimit(RLIMIT_{text_of(given['name'])}, &(struct rlimit){{ {soft}, {hard} }})"


def _msync(values: Values, call: ast.Call) -> str:
    given = arguments(call, ("place", "flags"))
    flags = text_of(given.get("flags", ast.Constant("SYNC")))
    return f"msync({values.span(given['place'])}, {_flagged('MS_', flags)})"


def _mlock2(values: Values, call: ast.Call) -> str:
    given = arguments(call, ("place", "onfault"))
    return f"mlock2({values.span(given['place'])}, {'MLOCK_ONFAULT' if is_on(given.get('onfault')) else '0'})"


_SYSCALLS: dict[str, Make] = {
    "munmap": _on_span("munmap"), "mlock": _on_span("mlock"), "munlock": _on_span("munlock"), "mlock2": _mlock2,
    "mprotect": lambda values, call: f"mprotect({values.span(call.args[0])}, {values.prot(call.args[1])})",
    "madvise": lambda values, call: (
        f"madvise({values.span(call.args[0])}, {_flagged('MADV_', text_of(call.args[1]))})"
    ),
    "mlockall": lambda _values, call: f"mlockall({' | '.join('MCL_' + text_of(arg).upper() for arg in call.args)})",
    "munlockall": lambda _values, _call: "munlockall()", "memfd": _memfd, "open": _open,
    "ftruncate": lambda values, call: f"ftruncate({values.number(call.args[0])}, {values.number(call.args[1])} * page)",
    "write": _write, "rlimit": _rlimit, "msync": _msync,
    "close": lambda values, call: f"close({values.number(call.args[0])})",
    "drop_privileges": lambda _values, _call: "setresuid(65534, 65534, 65534)", "call": _raw, "syscall": _raw,
}  # fmt: skip
