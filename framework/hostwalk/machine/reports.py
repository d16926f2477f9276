"""Recognises what a Linux kernel reports on its console: panic, oops, BUG, warning, KASAN and the like.

Pure functions over text. The words are the kernel's own: kernel/panic.c, lib/bug.c, arch/*/kernel/traps.c,
arch/*/mm/fault.c, mm/kasan/report.c, mm/memory.c, mm/page_alloc.c, kernel/watchdog.c, kernel/hung_task.c,
kernel/rcu/tree_stall.h, kernel/locking/lockdep.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST_REPORT = 250
_END_TRACE = r"---\[ end trace"
_BANNER = r"^[=-]{20,}$|^\*{20,}$"
_PANIC_END = r"---\[ end Kernel panic|^Memory Limit:|^Rebooting in"
_CUT = "------------[ cut here ]------------"
STAMP = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
TRACE_LINE = re.compile(
    r"^\s*(?:\? )?\S+\+0x[0-9a-f]+/0x|^\s*</?(TASK|IRQ|NMI|SOFTIRQ|#DF|ENTRY_TRAMPOLINE)>"
    r"|^ *(RIP|RSP|R[A-Z]{2}|R\d\d?|Code|CS|CR\d|DR\d|FS|Modules linked in|Call [Tt]race) ?:"
    r"|^ *(pstate|pc|lr|sp|x\d+) ?:"
)
_CALL_TRACE = re.compile(r"^\s*Call [Tt]race:")


@dataclass(frozen=True)
class Report:
    """One report of the kernel.

    ``kind`` is a name of KINDS, ``title`` its telling line, ``text`` all its lines. ``fatal``: after it
    nothing that the kernel says or does is evidence. ``complete``: its end was seen.
    """

    kind: str
    title: str
    text: str
    fatal: bool
    complete: bool = True


@dataclass(frozen=True)
class Kind:
    """A kind of report: how it begins, whether it is fatal, and how it ends ("" with its call trace)."""

    name: str
    start: str
    fatal: bool
    end: str = ""


KINDS = (
    Kind("panic", r"Kernel panic - not syncing", True, _PANIC_END),
    Kind("kasan", r"BUG: KASAN: ", True, _BANNER),
    Kind("kmsan", r"BUG: KMSAN: ", True, _BANNER),
    Kind("kcsan", r"BUG: KCSAN: ", False, _BANNER),
    Kind("kfence", r"BUG: KFENCE: ", True, _BANNER),
    Kind("ubsan", r"UBSAN: ", False, _END_TRACE + "|" + _BANNER),
    Kind("bad-page", r"BUG: Bad (?:page|rss-counter|swap|pagetable)", True),
    Kind("soft-lockup", r"(?:watchdog: )?BUG: soft lockup - ", True),
    Kind("hard-lockup", r"(?:NMI )?watchdog: Watchdog detected hard LOCKUP", True),
    Kind("rcu-stall", r"(?:rcu: )?INFO: rcu\w* (?:self-)?detected (?:expedited )?stall", True),
    Kind("hung-task", r"INFO: task \S+ (?:<[^>]*> )?blocked (?:in I/O wait )?(?:on .* )?for more than", True),
    Kind("bug", r"kernel BUG at ", True, _END_TRACE),
    Kind("oops", r"(?:BUG: (?:kernel NULL pointer|unable to handle)|Unable to handle kernel |Oops: "
         r"|Internal error: |(?:traps: )?general protection fault(?!.* ip:)|double fault: "
         r"|stack segment: |invalid opcode: |int3: |traps: PANIC: double fault|\S+: Corrupted page table at "
         r"|Bad pagetable: )", True, _END_TRACE),
    Kind("lockdep", r"WARNING: (?:possible |inconsistent |suspicious RCU|bad unlock|held lock|lock held)"
         r"|WARNING: .*still held|INFO: (?:possible|trying to register non-static)|=\[ BUG: ", False),
    Kind("bug", r"BUG: ", True),
    Kind("warning", r"WARNING: (?:CPU: \d+ PID: \d+ at |\S+:\d+ at |at )", False, _END_TRACE),
)  # fmt: skip
_ANY = re.compile(
    r"^(?:(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?(?:"
    + "|".join(f"(?P<k{number}>{kind.start})" for number, kind in enumerate(KINDS))
    + ")",
    re.MULTILINE,
)


def find_reports(text: str) -> tuple[Report, ...]:
    """Return the reports in a console's text, in order."""
    first = _ANY.search(text)
    if first is None:
        return ()
    return tuple(_split([line.rstrip("\r") for line in text.split("\n")]))


def _split(lines: Sequence[str]) -> Iterator[Report]:
    number = 0
    while number < len(lines):
        kind = _kind_of(lines[number])
        if kind is None:
            number += 1
            continue
        end, complete = _end_of(lines, number, kind)
        yield _report(lines, number, end, kind, complete)
        number = end


def _kind_of(line: str) -> Kind | None:
    match = _ANY.match(line)
    if match is None or match.lastgroup is None:
        return None
    return KINDS[int(match.lastgroup[1:])]


def _body(line: str) -> str:
    return STAMP.sub("", line)


def _end_of(lines: Sequence[str], start: int, kind: Kind) -> tuple[int, bool]:
    """Return the index after the report's last line, and whether its end was seen."""
    stop = min(len(lines), start + LONGEST_REPORT)
    traced = False
    for number in range(start + 1, stop):
        body = _body(lines[number])
        begins = _kind_of(lines[number])
        if begins is not None and (begins.name == "panic" or not kind.end):
            return number, True
        if kind.end and re.search(kind.end, body):
            return number + 1, True
        traced = traced or bool(_CALL_TRACE.match(body))
        if traced and not kind.end and body and not TRACE_LINE.match(body):
            return number, True
    return stop, stop < len(lines)


def _report(lines: Sequence[str], start: int, end: int, kind: Kind, complete: bool) -> Report:
    """Cut a report out, with the "cut here" or the banner, and a WARN's own words, that stand before it."""
    first, words = start, ""
    for number in range(start - 1, max(-1, start - 6), -1):
        body = _body(lines[number])
        if body == _CUT or re.match(_BANNER, body):
            first, words = number, " ".join(_body(line).strip() for line in lines[number + 1 : start])
            break
    title = _body(lines[start]).strip()
    inside = [_kind_of(line) for line in lines[start:end]]
    return Report(
        kind=kind.name,
        title=f"{title}: {words}" if words else title,
        text="\n".join(lines[first:end]).rstrip(),
        fatal=any(found.fatal for found in inside if found is not None),
        complete=complete,
    )
