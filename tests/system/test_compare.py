"""Two kernels under the same claims: one with itself, and two that differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostwalk import doctor
from hostwalk.cli.main import main
from hostwalk.comparing.comparison import Comparison, Kind, Side
from hostwalk.comparing.run import compare, options_for
from hostwalk.options import CheckOptions
from hostwalk.target import Arch

HANDFUL = "gup.ref.1 or gup.write.1 or fork.cow.1 or mmap.enomem.2 or mlock.fork.1 or insert_pfn.fork.1"
OLD, NEW = "debian:6.1", "debian:6.12"


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    doctor.ensure(doctor.needed([Arch.X86_64]))


def compared(base: str, patched: str, keyword: str) -> Comparison:
    options = CheckOptions(archs=("x86_64",), keyword=keyword, seed=0)
    sides = [
        (Side(name, name), options_for(Side(name, name), options, (None, None))) for name in (base, patched)
    ]
    return compare(sides[0], sides[1])


def test_a_kernel_does_not_differ_from_itself() -> None:
    found = compared(NEW, NEW, HANDFUL)
    assert found.changes == ()
    assert found.unsteady == 0
    assert found.pairs == 6
    assert found.exit_status == 0


@pytest.fixture(scope="module")
def versions() -> Comparison:
    return compared(OLD, NEW, "gup.flags.1 or gup.flags.5 or fork.cow.1 or gup.stack.1 or gup.ref.1")


def changes(found: Comparison, kind: Kind) -> set[tuple[str, str]]:
    return {(change.claim_id, change.difference.delta) for change in found.having(kind)}


def test_versions_differ_in_verdicts(versions: Comparison) -> None:
    """What is_valid_gup_args() refuses before all else, since 6.3, is not what the page says."""
    assert ("gup.flags.5", "kept -> departs") in changes(versions, Kind.VERDICT)


def test_versions_differ_in_the_state_of_entries(versions: Comparison) -> None:
    """x86-64 keeps the dirty bit of a write-protected entry in a software bit since 6.6 (pte_mksaveddirty())."""
    assert ("fork.cow.1", "+saved_dirty") in changes(versions, Kind.STATE)


def test_versions_differ_in_what_they_print(versions: Comparison) -> None:
    """Of a stack that get_user_pages() would have had to grow, kernels since 6.5 print a line."""
    lines = [
        change.difference.field
        for change in versions.having(Kind.PRINTED)
        if change.claim_id == "gup.stack.1"
    ]
    assert any(line.startswith("GUP no longer grows the stack") for line in lines)
    assert versions.exit_status == 1


def test_the_command_and_its_mail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.txt"
    words = ["compare", NEW, NEW, "--arch", "x86_64", "-k", "gup.ref.1", "--report", str(report)]
    assert main(words) == 0
    assert capsys.readouterr().out.endswith("nothing changed\n")
    assert report.read_text().startswith("hostwalk compare: nothing changed\n")


def test_a_shard_that_is_empty_passes_and_a_name_that_is_wrong_does_not() -> None:
    words = ["check", "--arch", "x86_64", "-k"]
    assert main([*words, "gup.ref.1", "--shard", "1/2"]) == 0
    assert main([*words, "gup.ref.1", "--shard", "2/2"]) == 0
    assert main([*words, "no.such.claim", "--shard", "1/2"]) == 2
