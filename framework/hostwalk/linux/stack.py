"""Who called: a backtrace of the kernel, from a processor's registers and the stack in guest memory.

x86-64: the ORC tables that the kernel carries (arch/x86/kernel/unwind_orc.c, asm/orc_types.h), which are sorted
when it is linked. arm64: the chain of frame records (arch/arm64/kernel/stacktrace.c). Where neither leads on, such
as in a module, the stack is searched for the next return address, and the frame is not ``sure``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hostwalk.errors import HostwalkError
from hostwalk.linux.kernel import Linux
from hostwalk.machine.machine import NamedAddresses
from hostwalk.target import Arch

DEEPEST = 64
SEARCHED = 2048
WORD = 8
CALL = 0xE8
CALL_BYTES = 5
_SIGN = (1 << 64) - (1 << 48)
# arch/x86/include/asm/orc_types.h, ORC_REG_*
_PREV_SP, _BP, _SP, _BP_INDIRECT, _SP_INDIRECT = 1, 4, 5, 8, 9
_ENTRY_TEXT = ("__entry_text_start", "__entry_text_end")


@dataclass(frozen=True)
class Frame:
    """A function that was being executed, at ``pc``; ``sure`` unless it was merely found on the stack."""

    pc: int
    name: str
    sure: bool = True

    def __str__(self) -> str:
        return f"{self.name}{'' if self.sure else ' ?'}"


def backtrace(linux: Linux, arch: Arch, registers: dict[str, int]) -> tuple[Frame, ...]:
    """Return the frames, the innermost first.

    ``registers``: rip, rsp and rbp, or pc, sp, x29 and x30, by lower-case name.
    """
    if arch is Arch.X86_64:
        found = _by_orc(linux, registers["rip"], registers["rsp"], registers["rbp"])
    else:
        found = _by_records(linux, registers["pc"], registers["x29"], registers["x30"])
    return tuple(frame for _, frame in zip(range(DEEPEST), found, strict=False))


def name_of(linux: Linux, address: int, *, returns: bool = False) -> str:
    """Return an address as symbol+offset, or as a number where it is not in the kernel's text or no symbols tell.

    ``returns``: the call before it counts, which may end its function.
    """
    symbols = linux.symbols
    if not in_text(linux, address) or not isinstance(symbols, NamedAddresses):
        return f"{address:#x}"
    name, offset = symbols.nearest(address - returns)
    return f"{name}+{offset + returns:#x}"


def in_text(linux: Linux, address: int) -> bool:
    """Return whether an address lies in the text of the kernel proper."""
    return linux.symbols["_text"] <= address < linux.symbols["_etext"]


# x86-64


def _by_orc(linux: Linux, pc: int, sp: int, bp: int) -> Iterator[Frame]:
    returns, sure = False, True
    while pc:
        yield Frame(pc, name_of(linux, pc, returns=returns), sure)
        if _ends(linux, pc):
            return
        found = _caller(linux, pc - returns, sp, bp)
        sure = found is not None
        pc, sp, bp = found or _searched(linux, sp, bp)
        returns = True


def _ends(linux: Linux, pc: int) -> bool:
    """Return whether this is entry code: below it is what was interrupted, or user mode."""
    first, last = _ENTRY_TEXT
    return first in linux.symbols and linux.symbols[first] <= pc < linux.symbols[last]


def _caller(linux: Linux, pc: int, sp: int, bp: int) -> tuple[int, int, int] | None:
    """Return where a function returns to, and SP and BP then; None where the tables do not say."""
    entry = _orc_entry(linux, pc) if in_text(linux, pc) and "__start_orc_unwind" in linux.symbols else None
    if entry is None:
        return None
    sp_offset, bp_offset, sp_reg, bp_reg = entry
    try:
        cfa = _cfa(linux, sp_reg, sp_offset, sp, bp)
        if cfa is None:
            return None
        before = {_PREV_SP: cfa, _BP: bp}.get(bp_reg)
        bp = linux.uint(before + bp_offset) if before is not None else bp
        return linux.uint(cfa - WORD), cfa, bp
    except HostwalkError:
        return None


def _cfa(linux: Linux, sp_reg: int, offset: int, sp: int, bp: int) -> int | None:
    """Return what the stack pointer was before the call."""
    if sp_reg == _SP:
        return sp + offset
    if sp_reg == _BP:
        return bp + offset
    if sp_reg == _BP_INDIRECT:
        return linux.uint(bp + offset)
    return linux.uint(sp) + offset if sp_reg == _SP_INDIRECT else None


def _orc_entry(linux: Linux, pc: int) -> tuple[int, int, int, int] | None:
    """Return offset of SP and BP and their registers from the entry for an address, by bisection."""
    places = linux.symbols["__start_orc_unwind_ip"]
    low, high = 0, (linux.symbols["__stop_orc_unwind_ip"] - places) // 4
    while high - low > 1:
        middle = (low + high) // 2
        at = places + 4 * middle
        low, high = (middle, high) if at + linux.sint(at, 4) <= pc else (low, middle)
    at = linux.symbols["__start_orc_unwind"] + 6 * low
    bits = linux.uint(at + 4, 2)
    if not bits & 0xF:
        return None
    return linux.sint(at, 2), linux.sint(at + 2, 2), bits & 0xF, bits >> 4 & 0xF


def _searched(linux: Linux, sp: int, bp: int) -> tuple[int, int, int]:
    """Return the next return address on the stack: in the kernel's text, and behind a call; 0 where there is none."""
    for at in range(sp, sp + SEARCHED, WORD):
        try:
            value = linux.uint(at)
            if in_text(linux, value) and linux.uint(value - CALL_BYTES, 1) == CALL:
                return value, at + WORD, bp
        except HostwalkError:
            break
    return 0, sp, bp


# arm64


def _by_records(linux: Linux, pc: int, record: int, link: int) -> Iterator[Frame]:
    """Yield the frames of the chain; the link register is given too, for a function may not have its record yet."""
    yield Frame(pc, name_of(linux, pc))
    link, first = _plain(link), True
    for _ in range(DEEPEST):
        if not record:
            return
        try:
            record, returns = linux.uint(record), _plain(linux.uint(record + WORD))
        except HostwalkError:
            return
        if first and link != returns and in_text(linux, link):
            yield Frame(link, name_of(linux, link, returns=True), sure=False)
        first = False
        if returns:
            yield Frame(returns, name_of(linux, returns, returns=True))


def _plain(address: int) -> int:
    """Return an address without its authentication code (Arm ARM, D8.10): kernel addresses have ones there."""
    return address | _SIGN if address >> 55 & 1 else address
