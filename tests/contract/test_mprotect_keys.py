"""pkey_mprotect(2), and memory that can only be executed."""

from __future__ import annotations

from hostwalk.claim import claim, departure, not_applicable
from hostwalk.guest import Subject, SyscallFailed
from hostwalk.sabotage import entry_bit, refcount
from hostwalk.target import Arch
from hostwalk.witness import Pages, Witness

PAGE = "pkey_mprotect(2)"
PKEY_SHIFT, PKEYS = 59, 16
NO_KEYS = "this processor or kernel has no protection keys"


def _key(subject: Subject, rights: str = "") -> int:
    """Return a new key that denies what ``rights`` says, DISABLE_WRITE for one."""
    try:
        return subject.pkey_alloc(subject.agent.names.flags(rights, "PKEY_") if rights else 0)
    except SyscallFailed as failed:
        if failed.errno in ("ENOSPC", "ENOSYS", "EINVAL"):
            not_applicable(NO_KEYS)
        raise


def _has_the_call(subject: Subject) -> bool:
    return subject.syscall("pkey_mprotect", subject.scratch, 0, 0, -1).errno != "ENOSYS"


def _keys_of(pages: Pages) -> list[int]:
    return [entry >> PKEY_SHIFT & PKEYS - 1 for entry in pages.entries]


@claim(
    "pkey_mprotect.none.1",
    PAGE,
    "On systems that do not support protection keys in hardware, pkey_mprotect() may still be used, but pkey "
    "must be set to -1. When called this way, the operation of pkey_mprotect() is equivalent to mprotect().",
    sabotage=entry_bit("writable", set=True),
    departs=departure(
        "ENOSYS where the architecture has no protection keys at all: arm64 before 6.12",
        cites="mm/mprotect.c, pkey_mprotect() is within #ifdef CONFIG_ARCH_HAS_PKEYS",
        shows="pkey_mprotect without a key is ENOSYS",
        kernels="<6.12",
    ),
)
def test_no_key_is_mprotect(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    assert _has_the_call(subject), "pkey_mprotect without a key is ENOSYS"
    subject.pkey_mprotect(area[:1], "r", -1)
    subject.mprotect(area[1:], "r")
    after = witness.pages(area)
    assert after.writable == 0
    assert witness.vma(area).end >= area.end


@claim(
    "pkey_mprotect.einval.1",
    "mprotect(2)",
    "EINVAL (pkey_mprotect()) pkey has not been allocated with pkey_alloc(2)",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_a_key_that_is_not_allocated_is_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    if not _has_the_call(subject):
        not_applicable("this kernel has no pkey_mprotect()")
    for key in (PKEYS - 1, PKEYS, 1000, -2):
        with subject.refuses("EINVAL"):
            subject.pkey_mprotect(area, "r", key)
    assert witness.pages(area).entries == before.entries


@claim(
    "pkey_mprotect.assign.1",
    PAGE,
    "The pkey argument specifies the protection key (see pkeys(7)) to assign to the memory.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_the_key_is_in_every_entry(subject: Subject, witness: Witness) -> None:
    key, area = _key(subject), subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    subject.pkey_mprotect(area[1:3], "rw", key)
    after = witness.pages(area)
    assert _keys_of(after) == [0, key, key, 0]
    assert (after.writable, after.pfns) == (1, before.pfns)
    area.touch()


IMPLICIT = (
    "On x86, when mprotect() is used with prot set to PROT_EXEC a pkey may be allocated and set on the memory "
    "implicitly by the kernel, but only when the pkey was 0 previously."
)


@claim(
    "pkey_mprotect.keep.1",
    PAGE,
    IMPLICIT,
    sabotage=entry_bit("executable", set=False),
    departs=departure(
        "sets its execute-only key whatever the key was before, and the memory's own key is lost",
        cites="arch/x86/mm/pkeys.c, __arch_override_mprotect_pkey(): prot == PROT_EXEC comes before vma_pkey(vma)",
        shows=r"took key \d+ for the key \d+ that the memory had",
    ),
)
def test_execute_only_does_not_replace_a_key(subject: Subject, witness: Witness) -> None:
    key, area = _key(subject), subject.mmap(pages=1, prot="rw").touch()
    subject.pkey_mprotect(area, "rw", key)
    subject.mprotect(area, "x")
    after = witness.pages(area)
    assert after.executable == 1
    (now,) = _keys_of(after)
    assert now == key, f"mprotect(PROT_EXEC) took key {now} for the key {key} that the memory had"


@claim(
    "pkey_mprotect.keep.2",
    "arch/x86/mm/pkeys.c",
    "This is a vanilla, non-pkey mprotect (or we failed to setup execute-only), inherit the pkey from the VMA we are "
    "working on.",
    sabotage=entry_bit("executable", set=True, at=1),
)
def test_mprotect_keeps_the_key(subject: Subject, witness: Witness) -> None:
    key, area = _key(subject), subject.mmap(pages=2, prot="rw").touch()
    subject.pkey_mprotect(area, "rw", key)
    for prot, executable in (("r", 0), ("rx", 1), ("none", 0), ("rw", 0)):
        subject.mprotect(area, prot)
        after = witness.pages(area)
        assert after.executable == executable
        if prot != "none":
            assert _keys_of(after) == [key, key]


@claim(
    "pkey_mprotect.deny.1",
    "pkeys(7)",
    "Protection keys work in conjunction with the existing PROT_READ, PROT_WRITE, and PROT_EXEC "
    "permissions [...] If a process performs an access that violates pkey restrictions, it receives a "
    "SIGSEGV signal.",
    reading="A key denies a store that the entry allows: SEGV_PKUERR.",
    sabotage=entry_bit("writable", set=False),
)
def test_a_key_denies_what_the_entry_allows(subject: Subject, witness: Witness) -> None:
    key, area = _key(subject, "DISABLE_WRITE"), subject.mmap(pages=1, prot="rw").touch()
    subject.pkey_mprotect(area, "rw", key)
    area.load()
    with subject.faults("SIGSEGV", "SEGV_PKUERR"):
        subject.store(area.start)
    assert witness.pages(area).writable == 1


@claim(
    "mprotect.xonly.1",
    "mprotect(2)",
    "Whether PROT_EXEC has any effect different from PROT_READ depends on processor architecture, kernel version, and "
    "process state.",
    sabotage=entry_bit("executable", set=False),
)
def test_execute_only_memory_executes(subject: Subject, witness: Witness) -> None:
    area = subject.code(subject.returning())
    subject.mprotect(area, "x")
    after = witness.pages(area)
    assert (after.executable, after.writable) == (1, 0)
    subject.must(subject.execute(area.start))


@claim(
    "mprotect.xonly.2",
    "arch/x86/mm/pkeys.c",
    "mprotect(PROT_EXEC) makes execute-only memory of a protection key: nothing can be read there, "
    "and everything executed.",
    code="__execute_only_pkey(), __arch_override_mprotect_pkey()",
    sabotage=entry_bit("executable", set=False),
)
def test_execute_only_memory_cannot_be_read(subject: Subject, witness: Witness) -> None:
    area = subject.code(subject.returning())
    subject.mprotect(area, "x")
    after = witness.pages(area)
    by_key, by_entry = any(_keys_of(after)) and subject.arch is Arch.X86_64, after.user == 0
    if not by_key and not by_entry:
        not_applicable("neither protection keys nor EPAN: what can be executed can be read")
    with subject.faults("SIGSEGV", "SEGV_PKUERR" if by_key else "SEGV_ACCERR"):
        subject.load(area.start)
    assert after.executable == 1


@claim(
    "mprotect.xonly.3",
    "mprotect(2)",
    IMPLICIT,
    sabotage=entry_bit("user", set=False, at=2),
)
def test_execute_only_memory_becomes_readable_again(subject: Subject, witness: Witness) -> None:
    area = subject.code(subject.returning())
    before = witness.pages(area)
    subject.mprotect(area, "x")
    subject.mprotect(area, "rx")
    after = witness.pages(area)
    assert (after.user, after.executable, after.pfns) == (1, 1, before.pfns)
    if subject.arch is Arch.X86_64:
        assert _keys_of(after) == [0]
    assert subject.peek(area.start, 1) == subject.returning()[:1]


@claim(
    "pkey_mprotect.all.1",
    "pkeys(7)",
    "this hardware supports 16 protection keys in each process. However, pkey 0 is used as the default key, so a "
    "maximum of 15 are available for actual application use.",
    reading="Each key is another one in the entries, of pages that are there and of pages that come.",
    sabotage=entry_bit("writable", set=False),
)
def test_each_key_is_in_the_entries(subject: Subject, witness: Witness) -> None:
    keys = [_key(subject) for _ in range(PKEYS - 1)]
    with subject.refuses("ENOSPC"):
        subject.pkey_alloc()
    area = subject.mmap(pages=2 * len(keys))
    for place, key in enumerate(keys):
        area[2 * place : 2 * place + 1].touch()
        subject.pkey_mprotect(area[2 * place : 2 * place + 2], "rw", key)
    area.touch()
    pages = witness.pages(area)
    assert sorted(keys) == list(range(1, PKEYS))
    assert _keys_of(pages) == [key for key in keys for _ in range(2)]
    assert pages.writable == 1


@claim(
    "fast.pkey.1",
    "arch/x86/include/asm/pgtable.h",
    "The fast walk takes no page whose key denies the access: for reading, and for writing.",
    code="__pte_access_permitted(), __pkru_allows_pkey()",
    sabotage=refcount(+1, at=2),
)
def test_the_fast_walk_heeds_protection_keys(subject: Subject, witness: Witness) -> None:
    keys = [_key(subject, rights) for rights in ("DISABLE_ACCESS", "DISABLE_WRITE")]
    area = subject.mmap(pages=2).touch()
    for page, key in enumerate(keys):
        subject.pkey_mprotect(area[page : page + 1], "rw", key)
    before = witness.pages(area)
    hidden, shown = area[:1], area[1:]
    for place, write in ((hidden, False), (shown, True)):
        for call in (subject.get_user_pages_fast, subject.pin_user_pages_fast):
            with call(place, write=write) as pins:
                assert (pins.errno, pins.filled) == ("EFAULT", 0)
    assert (before.present, witness.pages(area).refcounts) == (1, before.refcounts)
    with subject.get_user_pages_fast(shown) as pins:
        assert pins.pfns == before.pfns[1:]
