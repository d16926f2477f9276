"""Takes one fork back to where it began, in the same process, as often as wanted."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np

from hostwalk.errors import MachineError
from hostwalk.machine.frozen import BLOCK, RESET_FILE, SNAPSHOT, WITHOUT_RAM, Frozen
from hostwalk.machine.machine import Machine
from hostwalk.machine.vmstate import Snapshot
from hostwalk.memory import ProcessVm, Region, file_ranges

PAGEMAP_ENTRY = 8
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61
Numbers = np.typing.NDArray[np.intp]
Mask = np.typing.NDArray[np.bool_]


class Rewinder:
    """Takes a fork back to the template's state.

    The pages that are its own get the template's bytes back, and the devices the state in an internal snapshot,
    which QEMU loads after a reset of the board. That reset writes the same firmware tables into the RAM each time:
    the first time shows which pages have to be restored once more.

    Code that TCG has translated stays valid if the snapshot leaves it alone (see vmstate.py) and every page that
    holds code in the template, ``code``, is as it was: what the guest writes anywhere, QEMU notices, but not what
    is written here. A machine that has changed such a page is not taken back, for from version 10.2 on QEMU drops
    translated code only when it stops by itself to load a state.
    """

    def __init__(self, machine: Machine, frozen: Frozen, code: Mask | None = None) -> None:
        """Make a fork ready; ``code`` has an element for each block of the RAM file, none for a fork without TCG.

        Raises OSError, QmpCommandError, MemoryReadError where it cannot be taken back.
        """
        self._machine, self._code = machine, code
        devices = (frozen.directory / RESET_FILE).read_bytes()
        ram = frozen.open_ram()
        try:
            self._size = machine.ram_size
            self._bytes = mmap.mmap(ram, self._size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
            whole = file_ranges(machine.pid, ram, (Region(0, self._size),))
        finally:
            os.close(ram)
        self._host = whole[0].host
        self._memory = ProcessVm(machine.pid, whole)
        self._image = os.memfd_create("hostwalk-reset")
        os.pwrite(self._image, devices, 0)
        self.warm = code is not None and self._cut(devices)
        self._firmware: Numbers | None = None
        self._attach()

    def _attach(self) -> None:
        qmp, name = self._machine.qmp, f"/proc/{os.getpid()}/fd/{self._image}"
        qmp.execute("migrate-set-capabilities", WITHOUT_RAM)
        file = {"driver": "file", "filename": name}
        qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "reset", "file": file})

    def rewind(self) -> int:
        """Take the fork back and let it run; return how many pages were its own.

        Raises MachineError when it has changed its code, or QEMU does not load the state, and what QMP raises.
        """
        with self._machine.stopped():
            own = self._own()
            self._check_code(own)
            self._restore(own)
            refusal = self._machine.qmp.hmp(f"loadvm {SNAPSHOT}").strip()
            if refusal:
                raise MachineError(f"QEMU did not go back to the snapshot: {refusal}")
            self._machine.console.forget()
            self._restore(self._written())
        self._machine.run_on()
        return len(own)

    def close(self) -> None:
        """Let go of the template's bytes and of the image."""
        self._bytes.close()
        os.close(self._image)

    def _cut(self, devices: bytes) -> bool:
        """Have loads keep translated code, and say whether that can be."""
        with suppress(ValueError):
            snapshot = Snapshot.of(devices)
            if snapshot.warm is not None:
                snapshot.put(self._image, snapshot.warm)
                return True
        return False

    def _check_code(self, own: Numbers) -> None:
        """Raise MachineError where the guest's code is not the template's any more."""
        if self._code is not None and len(changed := self._changed(own[self._code[own]])):
            raise MachineError(f"{len(changed)} pages of code have changed: QEMU may have translated them")

    def _changed(self, pages: Numbers) -> Numbers:
        """Return which of these pages are not as they are in the template."""
        now = self._memory.gather((pages * BLOCK).astype(np.uint64), BLOCK)
        before = np.frombuffer(self._bytes, dtype=np.uint64).reshape(-1, BLOCK // 8)[pages]
        changed: Mask = (now != before).any(axis=1)
        return pages[changed]

    def _written(self) -> Numbers:
        """Return the pages that the reset of the board has written."""
        if self._firmware is None:
            self._firmware = self._changed(self._own())
        return self._firmware

    def _own(self) -> Numbers:
        return own_pages(self._machine.pid, self._host, self._size)

    def _restore(self, pages: Numbers) -> None:
        self._memory.write_from(self._bytes, [(first * BLOCK, last * BLOCK) for first, last in _runs(pages)])


def own_pages(pid: int, host: int, size: int) -> Numbers:
    """Return the numbers of the pages of a private mapping that are copies (Linux, admin-guide/mm/pagemap.rst)."""
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(host // BLOCK * PAGEMAP_ENTRY)
        entries = np.frombuffer(pagemap.read(size // BLOCK * PAGEMAP_ENTRY), dtype=np.uint64)
    swapped = (entries & np.uint64(_SWAPPED)) != 0
    present = (entries & np.uint64(_PRESENT)) != 0
    return np.flatnonzero(swapped | (present & ((entries & np.uint64(_OF_FILE)) == 0)))


def _runs(pages: Numbers) -> Iterator[tuple[int, int]]:
    """Yield [first, last) of each run of consecutive numbers."""
    if len(pages):
        cuts = (np.flatnonzero(np.diff(pages) != 1) + 1).tolist()
        for first, last in pairwise([0, *cuts, len(pages)]):
            yield int(pages[first]), int(pages[last - 1]) + 1
