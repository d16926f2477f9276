from __future__ import annotations

import pytest

from hostwalk.errors import UsageError
from hostwalk.guest.names import Names, signed
from hostwalk.image.layout import Layout


def test_errors_by_name(toy_abi: dict[str, int]) -> None:
    names = Names(toy_abi)
    assert names.errno(-22) == names.errno((1 << 64) - 22) == "EINVAL"
    assert names.errno(-11) == "EAGAIN"
    assert names.errno(-4095) == "errno 4095"
    assert [names.errno(value) for value in (0, 1, -4096, 0x7FFF_F7FF_0000)] == [None] * 4


def test_faults_in_words(toy_abi: dict[str, int]) -> None:
    names = Names(toy_abi)
    assert str(names.fault((11, 2, 0x1000, 3))) == "SIGSEGV (SEGV_ACCERR) at 0x1000"
    assert names.fault((7, 2, 0, 0)).code == "BUS_ADRERR"
    assert str(names.fault((99, (1 << 64) - 6, 0, 0))) == "signal 99 (si_code -6) at 0x0"


@pytest.mark.parametrize(
    ("status", "says"),
    [(9, "was killed by SIGKILL"), (0x80 | 11, "was killed by SIGSEGV"), (0x300, "exited with status 3")],
)
def test_wait_statuses(toy_abi: dict[str, int], status: int, says: str) -> None:
    assert Names(toy_abi).ending(status) == says


def test_constants_with_and_without_prefix(toy_abi: dict[str, int]) -> None:
    names = Names(toy_abi)
    assert names.number("DONTNEED", "MADV_") == names.number("MADV_DONTNEED", "MADV_") == 4
    assert names.number("cold", "MADV_") == 20
    assert names.flags("O_RDWR|CREAT", "O_") == 66
    with pytest.raises(UsageError, match="MADV_NONSENSE"):
        names.number("NONSENSE", "MADV_")
    with pytest.raises(UsageError, match="MADV_O_RDWR"):
        names.number("O_RDWR", "MADV_")


def test_signed() -> None:
    assert [signed(value) for value in (0, (1 << 64) - 1, 1 << 63, -1)] == [0, -1, -(1 << 63), -1]


def test_the_agents_table_has_what_operations_need(abi: Layout) -> None:
    names = Names(abi)
    assert names.errno(-14) == "EFAULT"
    assert names.signal(11) == "SIGSEGV"
    wanted = (
        "mmap munmap mprotect mremap mlock mlock2 madvise memfd_create memfd_secret mseal prlimit64 mincore"
    )
    assert all(f"__NR_{call}" in abi for call in wanted.split())
    assert sum(1 for key in abi if key.startswith("E")) > 130
