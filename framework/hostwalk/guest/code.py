"""Machine code for a subject: a few instructions between which no other process runs.

Between two operations of a subject the agent's broker runs, and switching to it may empty the TLB. What depends
on a stale translation must therefore happen within one operation.
"""

from __future__ import annotations

import struct

from hostwalk.target import Arch

_X0, _X1, _X2, _X8, _X9, _X10 = 0, 1, 2, 8, 9, 10


def returning(arch: Arch) -> bytes:
    """Return the code of a function that does nothing."""
    return b"\xc3" if arch is Arch.X86_64 else _words(0xD65F03C0)


def store_call_store(arch: Arch, target: int, number: int, args: tuple[int, int, int]) -> bytes:
    """Return code that stores to ``target``, makes a system call, and stores there again."""
    if arch is Arch.X86_64:
        store = b"\x41\xc6\x00\x01"  # movb $1, (%r8)
        call = (
            _x86_load(b"\x48\xbf", args[0])
            + _x86_load(b"\x48\xbe", args[1])
            + _x86_load(b"\x48\xba", args[2])
        )
        call += _x86_load(b"\x48\xb8", number) + b"\x0f\x05"  # syscall
        return _x86_load(b"\x49\xb8", target) + store + call + store + returning(arch)
    store = _words(0x39000129)  # strb w9, [x9]
    call = b"".join(
        _arm64_load(register, value) for register, value in zip((_X0, _X1, _X2), args, strict=True)
    )
    call += _arm64_load(_X8, number) + _words(0xD4000001)  # svc #0
    return _arm64_load(_X9, target) + store + call + store + returning(arch)


def store_until(arch: Arch, target: int, flag: int) -> bytes:
    """Return code that stores to ``target`` again and again until the byte at ``flag`` is set, and once more then."""
    if arch is Arch.X86_64:
        # 1: movb $1, (%rdi); cmpb $0, (%rsi); je 1b; movb $1, (%rdi); ret
        loop = b"\xc6\x07\x01\x80\x3e\x00\x74\xf8\xc6\x07\x01"
        return _x86_load(b"\x48\xbf", target) + _x86_load(b"\x48\xbe", flag) + loop + returning(arch)
    # 1: strb w9, [x9]; ldrb w11, [x10]; cbz w11, 1b; dmb ish; strb w9, [x9]; ret
    loop = _words(0x39000129, 0x3940014B, 0x34FFFFCB, 0xD5033BBF, 0x39000129)
    return _arm64_load(_X9, target) + _arm64_load(_X10, flag) + loop + returning(arch)


def _x86_load(opcode: bytes, value: int) -> bytes:
    return opcode + struct.pack("<Q", value & (1 << 64) - 1)


def _arm64_load(register: int, value: int) -> bytes:
    """Return movz and three movk: a 64-bit value in a register."""
    parts = [(value >> shift & 0xFFFF) for shift in (0, 16, 32, 48)]
    first = 0xD2800000 | parts[0] << 5 | register
    rest = (0xF2800000 | at << 21 | part << 5 | register for at, part in enumerate(parts[1:], 1))
    return _words(first, *rest)


def _words(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)
