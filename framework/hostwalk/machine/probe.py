"""A guest of some 150 bytes that proves an accelerator, or does not.

It takes the processor to where a kernel works (x86-64: long mode, on page tables of its own), writes a letter
to memory, reads it back 33 million times, and prints it. So a device that only pretends, one that stops at
the first trap, and one that emulates every instruction more slowly than TCG translates it, all fail.
"""

from __future__ import annotations

import os
import subprocess

from hostwalk import process
from hostwalk.deadline import Deadline
from hostwalk.machine.qemu import Qemu
from hostwalk.target import Arch

LETTER = b"K"
PROBE_SECONDS = 5.0
_ROM_SIZE = 0x10000
_RESET_VECTOR = 0xFFF0

_X86_64_CODE = """
    fa                          /* 00 cli */
    2e660f0116a800              /* 01 lgdtl %cs:gdtr */
    6631ff 8edf 8ec7            /* 08 %ds = %es = 0 */
    bf0010 6631c0 b90018 f3ab   /* 0f clear 0x1000 to 0x3fff: pml4, pdpt, pd */
    66c706001003200000          /* 1a pml4[0] = 0x2000, present, writable */
    66c706002003300000          /* 23 pdpt[0] = 0x3000, present, writable */
    66c706003083000000          /* 2c pd[0] = 0, 2 MiB, present, writable */
    66c706083083000000          /* 35 pd[1] = 0, the same once more */
    66b800100000 0f22d8         /* 3e %cr3 = 0x1000 */
    66b820000000 0f22e0         /* 47 %cr4 = PAE */
    66b9800000c0 0f32 0d0001 0f30  /* 50 EFER |= LME */
    66b811000080 0f22c0         /* 5d %cr0 = PG | ET | PE */
    2e66ff2eae00                /* 66 ljmpl *%cs:far */
    be00400000                  /* 6c movl $0x4000, %esi */
    c7064b000000                /* 71 movl $'K', (%rsi) */
    b900000002                  /* 77 movl $1 << 25, %ecx */
    8b8600002000                /* 7c movl 2 MiB(%rsi), %eax */
    ffc9 75f6                   /* 82 decl %ecx; jnz 7c */
    66baf803 ee                 /* 86 outb %al, $0x3f8 */
    66ba0105 ee                 /* 8b outb %al, $0x501 */
    f4 ebfd                     /* 90 hlt; jmp 90 */
    8db40000 90                 /* 93 (unused) */
    0000000000000000            /* 98 gdt: null */
    ffff0000009baf00            /* a0 64-bit code */
    0f0098000f00                /* a8 gdtr: limit, 0xf0098 */
    6c000f000800                /* ae far: 0xf006c, selector 8 */
"""
_X86_64_RESET = "ea000000f0              /* ljmpw $0xf000, $0 */"
_ARM64_CODE = """
    0002a8d2                    /* mov  x0, #0x40100000 */
    0140a0d2                    /* mov  x1, #1 << 25 */
    62098052                    /* mov  w2, #'K' */
    020000b9                    /* str  w2, [x0] */
    020040b9                    /* 1: ldr w2, [x0] */
    210400f1                    /* subs x1, x1, #1 */
    c1ffff54                    /* b.ne 1b */
    0020a1d2                    /* mov  x0, #0x09000000: the PL011 */
    020000b9                    /* str  w2, [x0] */
    0080b052 00018072           /* mov  w0, #0x84000008: PSCI SYSTEM_OFF */
    020000d4                    /* hvc  #0 */
    00000014                    /* b    . */
"""


def _assemble(listing: str) -> bytes:
    return bytes.fromhex("".join(line.partition("/*")[0] for line in listing.splitlines()))


def guest(arch: Arch) -> bytes:
    """Return the guest: a 64 KiB ROM for x86-64, a flat kernel for arm64."""
    if arch is Arch.ARM64:
        return _assemble(_ARM64_CODE)
    code, reset = _assemble(_X86_64_CODE), _assemble(_X86_64_RESET)
    return (code.ljust(_RESET_VECTOR, b"\0") + reset).ljust(_ROM_SIZE, b"\0")


def probe_args(arch: Arch, qemu: Qemu, accel: str, cpu: str, image: str) -> tuple[str, ...]:
    """Return the command line that runs the guest in the file ``image``; it prints on standard output."""
    load = ("-bios", image, "-device", "isa-debug-exit") if arch is Arch.X86_64 else ("-kernel", image)
    return (
        str(qemu.path), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", qemu.machine, "-accel", accel, "-cpu", cpu, "-m", "64M", "-serial", "stdio", *load,
    )  # fmt: skip


def probe(arch: Arch, qemu: Qemu, accel: str, cpu: str, deadline: Deadline) -> str:
    """Boot the guest; return "" when it printed its letter, else in a few words what happened instead."""
    with os.fdopen(os.memfd_create("hostwalk-probe"), "wb") as image:
        image.write(guest(arch))
        image.flush()
        words = probe_args(arch, qemu, accel, cpu, f"/proc/self/fd/{image.fileno()}")
        child = process.spawn(words, pass_fds=(image.fileno(),))
        try:
            out, err = child.communicate(timeout=deadline.remaining)
        except subprocess.TimeoutExpired:
            return f"did not finish within {deadline.seconds:.3g} s"
        finally:
            process.kill(child)
    if out == LETTER:
        return ""
    return _failure(child.returncode, err.decode(errors="replace"))


def _failure(status: int, stderr: str) -> str:
    lines = [line.rpartition("error: ")[2] for line in stderr.splitlines() if "warning:" not in line]
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{how}: {lines[0]}" if lines else f"{how} and printed nothing"
