"""vm_insert_page and its family: the exerciser puts pages of its own into a subject's mappings."""

from __future__ import annotations

from dataclasses import dataclass

from hostwalk.errors import UsageError
from hostwalk.guest.area import Area
from hostwalk.guest.exerciser import Exerciser, Ioctl, pfn_bytes
from hostwalk.guest.failures import SyscallFailed
from hostwalk.guest.tap import own_agent, tapped

_BLOCKS = ("compound", "split", "unsplit")


@dataclass(frozen=True)
class Pages:
    """Pages of the exerciser's, by their page frames as it claims; kept until its file is closed."""

    handle: int
    pfns: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.pfns)


@dataclass(frozen=True)
class Result:
    """What the armed call did in f_op->mmap or in its last fault: how often it ran, what it returned."""

    runs: int
    ret: int
    num: int


@dataclass(frozen=True)
class Inserted:
    """A call of the vm_insert_page family.

    ``ret`` is what it returned (0 for a fault handler that has not run yet), ``errno`` its name if it is an
    error, ``num`` how many pages it did not map where it says so. ``mapping`` is None when mmap(2) failed.
    """

    function: str
    mapping: Area | None
    ret: int
    errno: str | None
    num: int

    @property
    def area(self) -> Area:
        """The mapping; raises SyscallFailed when there is none."""
        if self.mapping is None:
            raise SyscallFailed(f"mmap of the exerciser, {self.function}()", self.errno or "no error")
        return self.mapping


@tapped(own_agent)
class Insert(Exerciser):
    """Pages of the exerciser's, and calls that map them."""

    def alloc_pages(self, kind: str = "order0", nr: int = 1, order: int = 0, addr: int = 0) -> Pages:
        """Allocate ``nr`` pages of a kind.

        Kinds: ``order0``, ``zero``, ``slab``; ``compound``, ``split``, ``unsplit`` (2^order pages);
        ``anon`` takes the subject's own page at ``addr``, and ``mapped`` whatever page is there.
        Raises SyscallFailed.
        """
        count = 1 << order if kind in _BLOCKS else nr
        number = self.agent.abi[f"HOSTWALK_PAGE_{kind.upper()}"]
        result = self.ioctl(
            "ALLOC", f"alloc_pages({kind})", room=pfn_bytes(count), kind=number, order=order, nr=nr,
            addr=addr, pfns=self.behind("alloc"),
        )  # fmt: skip
        return Pages(result["handle"], result.pfns(count))

    def free_pages(self, pages: Pages) -> None:
        """Have the exerciser give back its own references; raises SyscallFailed (EBUSY in a fault handler's plan)."""
        self.ioctl("FREE", "__free_pages", handle=pages.handle)

    def astride_tables(self, pages: int) -> int:
        """Return a free address: half of the pages from there are the last of one page table."""
        size = 1 << self.layout("PMD_SHIFT")
        around = self.mmap(2 * size // self.page_size, "none", aligned=size)
        self.munmap(around)
        return around.start + size - pages // 2 * self.page_size

    def insert(
        self,
        call: str,
        pages: Pages,
        *,
        when: str = "mmap",
        at: Area | int | None = None,
        map_pages: int | None = None,
        prot: str = "rw",
        shared: bool = True,
        first: int = 0,
        nr: int | None = None,
        offset: int = 0,
        pgoff: int = 0,
        keep: bool = False,
        mixedmap: bool = False,
        pfnmap: bool = False,
        pgprot: str = "",
        fixed_at: int | None = None,
    ) -> Inserted:
        """Have the exerciser insert ``nr`` pages from ``first`` by ``call``, ``offset`` bytes into a mapping.

        ``when`` is ``"mmap"`` (in f_op->mmap of a new mapping of ``map_pages`` pages), ``"fault"`` (in its
        fault handler) or ``"now"`` (on the mapping ``at``). ``keep`` has mmap(2) succeed although the
        call failed; ``mixedmap`` and ``pfnmap`` set VM_MIXEDMAP and VM_PFNMAP beforehand. ``pgprot`` is
        ``"readonly"``, ``"noncached"`` or ``"writecombine"``: so becomes the protection that the call is given,
        or the vma's where it is given none. ``fixed_at`` places the new mapping, on what is there.
        Raises NotExported.
        """
        if (when == "now") != (at is not None):
            raise UsageError('a mapping is given with at= for when="now", and only then')
        count = len(pages) - first if nr is None else nr
        address = at.start if isinstance(at, Area) else at or 0
        flags = {"KEEP": keep, "MIXEDMAP": mixedmap, "PFNMAP": pfnmap, pgprot.upper(): bool(pgprot)}
        options = sum(self.agent.abi[f"HOSTWALK_INSERT_{name}"] for name, on in flags.items() if on)
        armed = self.ioctl(
            "INSERT", call, call=self.agent.abi[f"HOSTWALK_{call.upper()}"],
            when=self.agent.abi[f"HOSTWALK_WHEN_{when.upper()}"], alloc=pages.handle, options=options,
            first=first, nr=count, offset=offset, addr=address,
        )  # fmt: skip
        if when == "now":
            return self._inserted_now(call, at, armed)
        return self._inserted_by_mmap(
            call, map_pages or count, prot, shared=shared, pgoff=pgoff, fixed_at=fixed_at
        )

    def insert_result(self) -> Result:
        """Return what the plan that was armed last has done."""
        result = self.ioctl("RESULT", "the armed plan", shape="insert_result")
        return Result(result["runs"], result["ret"], result["num"])

    def _inserted_now(self, call: str, at: Area | int | None, armed: Ioctl) -> Inserted:
        mapping = self.area(at, 1) if isinstance(at, int) else at
        return Inserted(call, mapping, armed["ret"], self.outcome(call, armed["ret"]), armed["num"])

    def _inserted_by_mmap(
        self, call: str, pages: int, prot: str, *, shared: bool, pgoff: int, fixed_at: int | None
    ) -> Inserted:
        try:
            mapping: Area | None = self.mmap(
                pages, prot, shared=shared, fd=self.exerciser, offset=pgoff * self.page_size,
                fixed_at=fixed_at, replace=fixed_at is not None,
            )  # fmt: skip
            refused = None
        except SyscallFailed as failed:
            mapping, refused = None, failed.errno
        result = self.insert_result()
        errno = self.outcome(call, result.ret)
        return Inserted(call, mapping, result.ret, errno or refused, result.num)
