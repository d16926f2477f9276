"""How verdicts and targets are written for people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hostwalk.report.model import Result, Verdict
from hostwalk.target import Target

SIGNS: Mapping[Verdict, str] = {
    Verdict.KEPT: "✔",
    Verdict.BROKEN: "✘",
    Verdict.NOT_APPLICABLE: "\N{EN DASH}",
    Verdict.UNPROVEN: "?",
    Verdict.DEPARTS: "~",
}
ASCII_SIGNS: Mapping[Verdict, str] = {
    **SIGNS,
    Verdict.KEPT: "+",
    Verdict.BROKEN: "X",
    Verdict.NOT_APPLICABLE: "-",
}
STYLES: Mapping[Verdict, str] = {
    Verdict.KEPT: "green",
    Verdict.BROKEN: "bold red",
    Verdict.NOT_APPLICABLE: "dim",
    Verdict.UNPROVEN: "bold yellow",
    Verdict.DEPARTS: "cyan",
}
WORST_FIRST = (Verdict.BROKEN, Verdict.UNPROVEN, Verdict.DEPARTS, Verdict.KEPT, Verdict.NOT_APPLICABLE)


def signs(encoding: str) -> Mapping[Verdict, str]:
    """Return the one-character signs that an output encoding can show."""
    return SIGNS if encoding.lower().startswith("utf") else ASCII_SIGNS


def word(verdict: Verdict, *, sabotage: bool = False) -> str:
    """Return the verdict's word; in a sabotage run a kept promise is a sabotage found."""
    return {Verdict.KEPT: "found", Verdict.BROKEN: "missed"}.get(verdict, verdict) if sabotage else verdict


def promise(result: Result) -> str:
    """Return page and sentence, quoted where it is the page's own: ``mprotect(2): "PROT_READ: ..."``."""
    if result.code:
        return f"{result.page}, {result.code}: {result.sentence}"
    return f'{result.page}: "{result.sentence}"'


def tested(result: Result) -> str:
    """Return what of the sentence is tested, as a line of its own; empty where the sentence says it all."""
    return f"tested: {result.reading}" if result.reading else ""


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that a reader has to know of first."""
    return min(verdicts, key=WORST_FIRST.index)


def short_names(targets: Sequence[Target]) -> dict[Target, str]:
    """Name each target by what tells it apart from the others: ``x86_64``, ``arm64 debian:6.1``."""
    parts = {target: _parts(target) for target in targets}
    varying = [len(set(column)) > 1 for column in zip(*parts.values(), strict=True)]
    if len(targets) == 1:
        return {targets[0]: targets[0].arch}
    names = {target: _varying(words, varying) for target, words in parts.items()}
    unique = all(names.values()) and len(set(names.values())) == len(names)
    return names if unique else {target: target.name for target in targets}


def _varying(words: Sequence[str], varying: Sequence[bool]) -> str:
    return " ".join(part for part, varies in zip(words, varying, strict=True) if varies and part)


def _parts(target: Target) -> tuple[str, ...]:
    return (target.arch, _format(target), target.kernel, f"smp{target.cpus}")


def _format(target: Target) -> str:
    return "" if target.format == Target(target.arch).format else target.format


def duration(seconds: float) -> str:
    """Write a wall time: ``0.4 s``, ``12 s``, ``2 min 03 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile("[^\t\n\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain(text: str) -> str:
    """Return text without escape sequences and control characters, which XML and terminals cannot take."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))
