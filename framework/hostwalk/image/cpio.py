"""The archive that an initramfs is: cpio in its "newc" form (Documentation/driver-api/early-userspace)."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace

_FIELDS = 13
_HEADER = 6 + 8 * _FIELDS
_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Node:
    """A file, directory or device of an archive; ``mode`` as in stat(2), ``device`` is (major, minor)."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str) -> Node:
    """Return a directory."""
    return Node(name, stat.S_IFDIR | 0o755)


def file(name: str, data: bytes, mode: int = 0o644) -> Node:
    """Return a regular file."""
    return Node(name, stat.S_IFREG | mode, data)


def symlink(name: str, target: str) -> Node:
    """Return a symbolic link."""
    return Node(name, stat.S_IFLNK | 0o777, target.encode())


def named(node: Node, name: str) -> Node:
    """Return the same node under another name."""
    return replace(node, name=name)


def character_device(name: str, major: int, minor: int) -> Node:
    """Return a character device that only its owner may use."""
    return Node(name, stat.S_IFCHR | 0o600, device=(major, minor))


def write(nodes: Iterable[Node]) -> bytes:
    """Return an archive; the same nodes give the same bytes: no times, no owners, numbers in order."""
    parts = [_record(number, node) for number, node in enumerate(nodes, 1)]
    return b"".join([*parts, _record(0, Node(_TRAILER, 0))])


def read(archive: bytes) -> list[Node]:
    """Return what an archive holds; raises ValueError for a damaged one."""
    nodes: list[Node] = []
    at = 0
    while True:
        if archive[at : at + 6] != _MAGIC or at + _HEADER > len(archive):
            raise ValueError(f"no cpio record at {at}")
        values = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(_FIELDS)]
        name = archive[at + _HEADER : at + _HEADER + values[11] - 1].decode()
        start = _align(at + _HEADER + values[11])
        if name == _TRAILER:
            return nodes
        nodes.append(Node(name, values[1], archive[start : start + values[6]], (values[9], values[10])))
        at = _align(start + values[6])


def _record(number: int, node: Node) -> bytes:
    """Return inode, mode, uid, gid, links, time, bytes, device, special device, name's bytes, checksum."""
    name = node.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(node.mode) else 1
    values = (number, node.mode, 0, 0, links, 0, len(node.data), 0, 0, *node.device, len(name), 0)
    header = _MAGIC + b"".join(b"%08X" % value for value in values) + name
    return _padded(header) + _padded(node.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _align(offset: int) -> int:
    return offset + 3 & ~3
