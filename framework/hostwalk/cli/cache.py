"""``hostwalk cache``: what was downloaded and built, and how to be rid of it."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from hostwalk.cache import Cache, Entry
from hostwalk.cli.output import out


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "List or clear what hostwalk keeps: downloads, unpacked kernels, builds.\n"
        "Whatever is removed is made again when it is needed."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="what is kept, by kind, and how much room it takes")
    clear = actions.add_parser("clear", help="remove everything, or one kind")
    clear.add_argument("kind", nargs="?", help="a kind, as `hostwalk cache list` names it")


def run(args: argparse.Namespace) -> int:
    """List or clear the cache."""
    return _list(Cache.user()) if args.action == "list" else _clear(Cache.user(), args.kind)


def _list(cache: Cache) -> int:
    console = out()
    kinds: dict[str, list[Entry]] = defaultdict(list)
    entries = cache.entries()
    for entry in entries:
        kinds[entry.kind].append(entry)
    console.print(Text(str(cache.root), "bold"), soft_wrap=True)
    table = Table("kind", "entries", "size", box=None, padding=(0, 3, 0, 0), header_style="dim")
    for kind, members in kinds.items():
        table.add_row(kind, str(len(members)), _size(members))
    if len(kinds) > 1:
        table.add_row("all", str(len(entries)), _size(entries))
    console.print(table if kinds else "empty")
    return 0


def _clear(cache: Cache, kind: str | None) -> int:
    gone = cache.remove(kind)
    out().print(f"removed {len(gone)} entries, {_size(gone)}", soft_wrap=True)
    return 0


def _size(entries: Sequence[Entry]) -> str:
    return decimal(sum(entry.size for entry in entries))
