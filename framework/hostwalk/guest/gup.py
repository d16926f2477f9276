"""get_user_pages, pin_user_pages and their families, called by the exerciser in a subject's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypedDict, Unpack

from hostwalk.guest.area import Area
from hostwalk.guest.exerciser import Exerciser, Ioctl, PendingIoctl, pfn_bytes
from hostwalk.guest.process import Process
from hostwalk.guest.tap import own_agent, tapped

# More room in pages[] than is asked for: what a call writes beyond its share is seen, and harmless.
SPARE_ENTRIES = 16
Place = Area | int


class Options(TypedDict, total=False):
    """FOLL_ values by name (``write``: FOLL_WRITE), ``flags`` for any others.

    ``no_pages`` passes a null pages[], ``no_locked`` a null ``locked`` where the call has one. ``write_lock``
    holds mmap_lock for writing around the call: the subject hangs where the call wants the lock itself.
    """

    write: bool
    get: bool
    dump: bool
    force: bool
    nowait: bool
    nofault: bool
    hwpoison: bool
    anon: bool
    longterm: bool
    split_pmd: bool
    pci_p2pdma: bool
    interruptible: bool
    flags: int
    no_pages: bool
    no_locked: bool
    write_lock: bool
    capacity: int


GUP_OPTIONS = {"no_pages": "NO_PAGES", "no_locked": "NO_LOCKED", "write_lock": "WRITE_LOCK"}
NOT_FOLL = {*GUP_OPTIONS, "flags", "capacity"}


@tapped(lambda pins: pins._subject.agent)
class Pins:
    """What a get_user_pages or pin_user_pages call returned; releases what is left at the block's end.

    ``returned`` is the call's return value, ``errno`` its name where it is an error, else None. ``pfns`` are
    the page frames of the ``filled`` leading entries of pages[], ``locked`` is ``*locked`` after the call (-1
    where the call has none), all as the guest claims.
    """

    def __init__(self, subject: Exerciser, function: str, result: Ioctl) -> None:
        self._subject = subject
        self._pinned = function.startswith("pin_")
        self._handle = result["handle"]
        self.function = function
        self.returned = result["ret"]
        self.errno = subject.outcome(function, self.returned)
        self.filled = result["filled"]
        self.locked = result["locked"]
        self.pfns = result.pfns(self.filled)
        self._held = set(range(min(self.returned, self.filled)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._held and not self._subject.agent.broken and self._subject.status is None:
            self.release("UNPIN_USER_PAGE" if self._pinned else "PUT_PAGE")

    def put(self, first: int = 0, count: int = 0) -> None:
        """Call put_page() for ``count`` pages from ``first``; 0 means all that are left from there."""
        self.release("PUT_PAGE", first, count)

    def set_page_dirty_lock(self, first: int = 0, count: int = 0) -> None:
        """Mark each page dirty, page lock held, then put it."""
        self.release("SET_PAGE_DIRTY_LOCK", first, count)

    def set_page_dirty(self, first: int = 0, count: int = 0) -> None:
        """Mark each page dirty without the page lock, then put it."""
        self.release("SET_PAGE_DIRTY", first, count)

    def unpin(self, first: int = 0, count: int = 0) -> None:
        """Call unpin_user_page() for each page."""
        self.release("UNPIN_USER_PAGE", first, count)

    def unpin_dirty_lock(self, first: int = 0, count: int = 0) -> None:
        """Call unpin_user_pages_dirty_lock() for each page."""
        self.release("UNPIN_USER_PAGES_DIRTY_LOCK", first, count)

    def unpin_pages(self, first: int = 0, count: int = 0, *, dirty: bool = False) -> None:
        """Call unpin_user_pages(), or unpin_user_pages_dirty_lock(), once for all."""
        self.release("UNPIN_USER_PAGES_ALL_DIRTY" if dirty else "UNPIN_USER_PAGES", first, count)

    def unpin_range_dirty_lock(self, first: int = 0, count: int = 0) -> None:
        """Call unpin_user_page_range_dirty_lock() once; the frames must follow each other, else EPERM."""
        self.release("UNPIN_USER_PAGE_RANGE_DIRTY_LOCK", first, count)

    def unpin_error(self) -> None:
        """Call unpin_user_pages() with -EFAULT as the number of pages: nothing is given back."""
        self._release("UNPIN_USER_PAGES_ERROR", 0, 0)

    def release(self, how: str, first: int = 0, count: int = 0) -> None:
        """Release pages by an enum hostwalk_release_how; raises SyscallFailed when one is not held."""
        self._release(how, first, count)
        self._held -= {page for page in self._held if page >= first and (not count or page < first + count)}

    def _release(self, how: str, first: int, count: int) -> None:
        kind = self._subject.agent.abi[f"HOSTWALK_{how}"]
        self._subject.ioctl("RELEASE", how.lower(), handle=self._handle, how=kind, first=first, count=count)


@tapped(own_agent)
class GetUserPages(Exerciser):
    """The calls, each in the words of its manual page.

    ``place`` is an area or an address; ``nr_pages``, the area's by default, is passed on as it is, 0 and
    negative too. Raise NotExported, SyscallFailed (the exerciser's refusal, never the call's own result).
    """

    def get_user_pages(self, place: Place, nr_pages: int | None = None, **options: Unpack[Options]) -> Pins:
        """Call get_user_pages, mmap_lock held for reading."""
        return self._gup("get_user_pages", place, nr_pages, options)

    def get_user_pages_fast(
        self, place: Place, nr_pages: int | None = None, **options: Unpack[Options]
    ) -> Pins:
        """Call get_user_pages_fast."""
        return self._gup("get_user_pages_fast", place, nr_pages, options)

    def get_user_pages_fast_only(
        self, place: Place, nr_pages: int | None = None, **options: Unpack[Options]
    ) -> Pins:
        """Call get_user_pages_fast_only: never falls back to the lock."""
        return self._gup("get_user_pages_fast_only", place, nr_pages, options)

    def get_user_pages_remote(
        self, other: Process, place: Place, nr_pages: int | None = None, **options: Unpack[Options]
    ) -> Pins:
        """Call get_user_pages_remote in another subject's address space."""
        return self._gup("get_user_pages_remote", place, nr_pages, options, other.pid)

    def get_user_pages_unlocked(
        self, place: Place, nr_pages: int | None = None, **options: Unpack[Options]
    ) -> Pins:
        """Call get_user_pages_unlocked."""
        return self._gup("get_user_pages_unlocked", place, nr_pages, options)

    def pin_user_pages(self, place: Place, nr_pages: int | None = None, **options: Unpack[Options]) -> Pins:
        """Call pin_user_pages, mmap_lock held for reading."""
        return self._gup("pin_user_pages", place, nr_pages, options)

    def pin_user_pages_fast(
        self, place: Place, nr_pages: int | None = None, **options: Unpack[Options]
    ) -> Pins:
        """Call pin_user_pages_fast."""
        return self._gup("pin_user_pages_fast", place, nr_pages, options)

    def pin_user_pages_remote(
        self, other: Process, place: Place, nr_pages: int | None = None, **options: Unpack[Options]
    ) -> Pins:
        """Call pin_user_pages_remote in another subject's address space."""
        return self._gup("pin_user_pages_remote", place, nr_pages, options, other.pid)

    def pin_user_pages_unlocked(
        self, place: Place, nr_pages: int | None = None, **options: Unpack[Options]
    ) -> Pins:
        """Call pin_user_pages_unlocked."""
        return self._gup("pin_user_pages_unlocked", place, nr_pages, options)

    def _gup(self, function: str, place: Place, nr_pages: int | None, options: Options, pid: int = 0) -> Pins:
        return self._start_gup(function, place, nr_pages, options, pid).result()

    def start_gup(
        self, function: str, place: Place, nr_pages: int | None = None, *, of: Process | None = None,
        **options: Unpack[Options],
    ) -> PendingPins:  # fmt: skip
        """Begin a call that may take its time; the subject takes no other operation meanwhile."""
        return self._start_gup(function, place, nr_pages, options, of.pid if of else 0)

    def _start_gup(
        self, function: str, place: Place, nr_pages: int | None, options: Options, pid: int
    ) -> PendingPins:
        start, pages = (place.start, place.pages) if isinstance(place, Area) else (place, 1)
        wanted = pages if nr_pages is None else nr_pages
        room = (self.scratch_size - self.agent.abi["sizeof(struct hostwalk_gup)"]) // pfn_bytes(1)
        capacity = options.get("capacity", min(room, max(0, wanted) + SPARE_ENTRIES))
        started = self.start_ioctl(
            "GUP", function, room=pfn_bytes(capacity), call=self.agent.abi[f"HOSTWALK_{function.upper()}"],
            gup_flags=self._foll(options), start=start, nr_pages=wanted, pid=pid, options=self._gup_options(options),
            pfns=self.behind("gup"), capacity=capacity,
        )  # fmt: skip
        return PendingPins(self, function, started)

    def _gup_options(self, options: Options) -> int:
        chosen = (word for name, word in GUP_OPTIONS.items() if options.get(name))
        return sum(self.agent.abi[f"HOSTWALK_GUP_{word}"] for word in chosen)

    def _foll(self, options: Options) -> int:
        flags = options.get("flags", 0)
        for name, on in options.items():
            if on and name not in NOT_FOLL:
                flags |= self.layout(f"FOLL_{name.upper()}")
        return flags


@tapped(lambda pending: pending.subject.agent)
@dataclass(frozen=True)
class PendingPins:
    """A call that is under way."""

    subject: GetUserPages
    function: str
    started: PendingIoctl

    def result(self) -> Pins:
        """Wait for the call's return; once."""
        return Pins(self.subject, self.function, self.started.result())
