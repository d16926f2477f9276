"""What a script sets for a while: sysctls, files under /sys, file systems. A program puts it back at its end."""

from __future__ import annotations

import ast
import posixpath

from hostwalk.repro.ccontext import Context
from hostwalk.repro.ctext import quoted
from hostwalk.repro.cvalues import arguments, text_of

BLOCKS = ("sysctl", "file_system")
_SET = ("/proc/sys/", "/sys/")


def begin(to: Context, call: ast.Call, name: str, method: str) -> None:
    """Begin a block in which something is set; raises UsageError."""
    if method == "sysctl":
        _sysctl(to, call, name)
    else:
        _file_system(to, call, name)


def end(to: Context, method: str) -> None:
    """Put back what the last block has set."""
    to.line("put_back();" if method == "sysctl" else "unmount();")


def _sysctl(to: Context, call: ast.Call, name: str) -> None:
    given = arguments(call, ("name", "value"))
    path = posixpath.normpath("/proc/sys/" + text_of(given["name"]))
    to.need("set")
    value = to.values.number(given["value"])
    if value.lstrip("-").isdigit():
        to.line(f"set({quoted(path)}, {quoted(value)});")
    else:
        to.declare("char value[32];")
        to.line(f'snprintf(value, sizeof(value), "%ld", (long)({value}));', f"set({quoted(path)}, value);")
    if name:
        to.need("number")
        to.values.numbers.add(name)
        to.declare(f"long {name};")
        to.line(f"{name} = number_in({quoted(path)});")


def _file_system(to: Context, call: ast.Call, name: str) -> None:
    given = arguments(call, ("kind", "flags"))
    kind = text_of(given["kind"])
    where = f"/tmp/repro-{kind}-{len(to.values.texts) + 1}"  # noqa: S108
    flags = to.values.number(given["flags"]) if "flags" in given else "0"
    to.need("mount")
    to.values.texts[name or to.fresh("where")] = where
    to.line(f"mount_empty({quoted(kind)}, {quoted(where)}, {flags});")


def before_opening(to: Context, path: str, flags: str) -> None:
    """Have a file of one value that is opened to be written put back at the end, where it tells what is in it."""
    plain = posixpath.normpath(path)
    if plain.startswith(_SET) and ("O_WRONLY" in flags or "O_RDWR" in flags):
        to.need("settings")
        to.line(f"keep({quoted(plain)});")
