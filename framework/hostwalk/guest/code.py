"""Machine code for a subject: a few instructions between which no other process runs.

Between two operations of a subject the agent's broker runs, and switching to it may empty the TLB. What depends
on a stale translation must therefore happen within one operation.
"""

from __future__ import annotations

import struct

from hostwalk.target import Arch

_X8, _X9, _X10 = 8, 9, 10
_RBX, _PUSH_RBX, _POP_RBX = (
    b"\x48\xbb",
    b"\x53",
    b"\x5b\xc3",
)  # a register that functions preserve; and return
_X86_ARGUMENTS = (
    b"\x48\xbf",
    b"\x48\xbe",
    b"\x48\xba",
    b"\x49\xba",
    b"\x49\xb8",
    b"\x49\xb9",
)  # mov to %rdi...


def returning(arch: Arch) -> bytes:
    """Return the code of a function that does nothing."""
    return b"\xc3" if arch is Arch.X86_64 else _words(0xD65F03C0)


def store_call_store(arch: Arch, target: int, number: int, args: tuple[int, ...]) -> bytes:
    """Return code that stores to ``target``, makes a system call, and stores there again."""
    if arch is Arch.X86_64:
        store = b"\xc6\x03\x01"  # movb $1, (%rbx)
        return _PUSH_RBX + _x86_load(_RBX, target) + store + _call(arch, number, args) + store + _POP_RBX
    store = _words(0x39000129)  # strb w9, [x9]
    return _arm64_load(_X9, target) + store + _call(arch, number, args) + store + returning(arch)


def load_call_load(arch: Arch, target: int, number: int, args: tuple[int, ...], seen: int) -> bytes:
    """Return code that loads the byte at ``target``, makes a system call, loads it again, and stores it at ``seen``."""
    if arch is Arch.X86_64:
        load = b"\x8a\x03"  # mov (%rbx), %al
        store = _x86_load(b"\x48\xba", seen) + b"\x88\x02"  # mov %al, (%rdx)
        return (
            _PUSH_RBX + _x86_load(_RBX, target) + load + _call(arch, number, args) + load + store + _POP_RBX
        )
    load = _words(0x3940012B)  # ldrb w11, [x9]
    store = _arm64_load(_X10, seen) + _words(0x3900014B)  # strb w11, [x10]
    return _arm64_load(_X9, target) + load + _call(arch, number, args) + load + store + returning(arch)


def run_call_run(arch: Arch, function: int, number: int, args: tuple[int, ...]) -> bytes:
    """Return code that runs a function, makes a system call, and runs the function again."""
    if arch is Arch.X86_64:
        run = b"\xff\xd3"  # call *%rbx
        return _PUSH_RBX + _x86_load(_RBX, function) + run + _call(arch, number, args) + run + _POP_RBX
    save, restore = _words(0xA9BF7BFD), _words(0xA8C17BFD)  # stp x29, x30, [sp, -16]!; ldp x29, x30, [sp], 16
    run = _words(0xD63F0120)  # blr x9
    body = _arm64_load(_X9, function) + run + _call(arch, number, args) + run
    return save + body + restore + returning(arch)


def _call(arch: Arch, number: int, args: tuple[int, ...]) -> bytes:
    """Return code that makes a system call of up to six arguments; neither %rbx nor x9 changes."""
    if arch is Arch.X86_64:
        loads = zip(_X86_ARGUMENTS, args, strict=False)
        return b"".join(_x86_load(*load) for load in loads) + _x86_load(b"\x48\xb8", number) + b"\x0f\x05"
    loaded = b"".join(_arm64_load(register, value) for register, value in enumerate(args))
    return loaded + _arm64_load(_X8, number) + _words(0xD4000001)  # svc #0


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
