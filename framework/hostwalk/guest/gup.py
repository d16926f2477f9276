"""get_user_pages, pin_user_pages and their families, called by the exerciser in a subject's name."""

from __future__ import annotations

from typing import Self, TypedDict, Unpack

from hostwalk.guest.area import Area
from hostwalk.guest.exerciser import Exerciser, Ioctl, pfn_bytes
from hostwalk.guest.process import Process

# More room in pages[] than is asked for: what a call writes beyond its share is seen, and harmless.
SPARE_ENTRIES = 16
Place = Area | int


class Options(TypedDict, total=False):
    """FOLL_ values by name, ``flags`` for any others.

    ``no_pages`` passes a null pages[], ``no_locked`` a null ``locked`` where the call has one.
    """

    write: bool
    force: bool
    longterm: bool
    nowait: bool
    flags: int
    no_pages: bool
    no_locked: bool
    capacity: int


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

    def unpin(self, first: int = 0, count: int = 0) -> None:
        """Call unpin_user_page() for each page."""
        self.release("UNPIN_USER_PAGE", first, count)

    def unpin_dirty_lock(self, first: int = 0, count: int = 0) -> None:
        """Call unpin_user_pages_dirty_lock()."""
        self.release("UNPIN_USER_PAGES_DIRTY_LOCK", first, count)

    def release(self, how: str, first: int = 0, count: int = 0) -> None:
        """Release pages; raises SyscallFailed when one of them is not held any more."""
        kind = self._subject.agent.abi[f"HOSTWALK_{how}"]
        self._subject.ioctl("RELEASE", how.lower(), handle=self._handle, how=kind, first=first, count=count)
        self._held -= {page for page in self._held if page >= first and (not count or page < first + count)}


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

    def _gup(
        self, function: str, place: Area | int, nr_pages: int | None, options: Options, pid: int = 0
    ) -> Pins:
        start, pages = (place.start, place.pages) if isinstance(place, Area) else (place, 1)
        wanted = pages if nr_pages is None else nr_pages
        room = (self.scratch_size - self.agent.abi["sizeof(struct hostwalk_gup)"]) // pfn_bytes(1)
        capacity = options.get("capacity", min(room, max(0, wanted) + SPARE_ENTRIES))
        result = self.ioctl(
            "GUP", function, room=pfn_bytes(capacity), call=self.agent.abi[f"HOSTWALK_{function.upper()}"],
            gup_flags=self._foll(options), start=start, nr_pages=wanted, pid=pid,
            options=self._null_pointers(options), pfns=self.behind("gup"), capacity=capacity,
        )  # fmt: skip
        return Pins(self, function, result)

    def _null_pointers(self, options: Options) -> int:
        bits = self.agent.abi["HOSTWALK_GUP_NO_PAGES"] if options.get("no_pages") else 0
        return bits | (self.agent.abi["HOSTWALK_GUP_NO_LOCKED"] if options.get("no_locked") else 0)

    def _foll(self, options: Options) -> int:
        chosen = {
            "FOLL_WRITE": options.get("write"), "FOLL_FORCE": options.get("force"),
            "FOLL_LONGTERM": options.get("longterm"), "FOLL_NOWAIT": options.get("nowait"),
        }  # fmt: skip
        flags = options.get("flags", 0)
        for name in (name for name, on in chosen.items() if on):
            flags |= self.layout(name)
        return flags
