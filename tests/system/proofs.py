"""What live machines have proven: how many answers were compared with an independent one, and how many differed."""

from collections import Counter

COMPARED: Counter[tuple[str, str]] = Counter()
DIFFERENT: Counter[tuple[str, str]] = Counter()


def proven(cell, proof, compared, different=0):
    """Count comparisons for the cell's format."""
    kernel = ".".join(cell.prepared.kernel.release.split(".")[:2])
    key = (f"{cell.linux.user_space.format.name}, {kernel}", proof)
    COMPARED[key] += compared
    DIFFERENT[key] += different


def lines():
    """Yield the table: a line for each format and proof."""
    for (format_, proof), count in sorted(COMPARED.items()):
        yield f"{format_:<24} {proof:<36} {count:>8} compared {DIFFERENT[format_, proof]:>4} different"
