"""The small bugs that tests/mutants plants in Linux: their list, and planting them in a tree that is small enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from judging import Judged
from mutating import Mutant, WorkCopy, chosen, load, mutated
from recording import HEAD, Record, Row

from hostwalk.errors import UsageError
from hostwalk.target import Arch

RUN = Path(__file__).resolve().parents[1] / "mutants" / "run"
SOURCE = """\
int take(int refs);

/* take(refs) { refs } is not it. */
static int
take(int refs)
{
	if (refs < 0)
		return -EINVAL;
	return refs;
}

int other(int refs)
{
	take(refs);
	return -EINVAL;
}
"""
MUTANT = Mutant("errno", "mm/x.c", "take", "-EINVAL", "-ENOMEM", "a wrong errno", (Arch.X86_64,))
ENTRY = """\
[[mutant]]
id = "errno"
file = "mm/x.c"
function = "take"
old = "-EINVAL"
new = "-ENOMEM"
resembles = "a wrong errno"
archs = ["x86_64"]
"""


@pytest.fixture
def copy(tmp_path: Path) -> WorkCopy:
    (tmp_path / "source/mm").mkdir(parents=True)
    (tmp_path / "source/mm/x.c").write_text(SOURCE)
    (tmp_path / "source/mm/y.c").write_text("int y;\n")
    return WorkCopy(tmp_path / "source", tmp_path / "tree")


def saved(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mutants.toml"
    path.write_text(text)
    return path


def test_the_list_is_whole_and_of_each_family() -> None:
    mutants = load()
    assert len(mutants) == len({each.id for each in mutants}) >= 12
    for each in mutants:
        assert all((each.id, each.file, each.function, each.old, each.resembles, each.archs)), each.id
        assert each.old != each.new
    files = {each.file for each in mutants}
    assert files >= {"mm/gup.c", "mm/memory.c", "mm/mprotect.c", "mm/mlock.c"}
    assert files >= {f"arch/{arch}/include/asm/pgtable.h" for arch in ("x86", "arm64")}


def test_an_entry_becomes_a_mutant(tmp_path: Path) -> None:
    assert load(saved(tmp_path, ENTRY)) == (MUTANT,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ENTRY + ENTRY, "more than one mutant is called errno"),
        (ENTRY.replace('resembles = "a wrong errno"\n', ""), "resembles"),
        (ENTRY + 'why = "?"\n', "why"),
        (ENTRY.replace("-ENOMEM", "-EINVAL"), "changes no line"),
        (ENTRY.replace("-ENOMEM", "-ENOMEM;\\n"), "changes no line"),
    ],
)
def test_a_list_that_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(saved(tmp_path, text))
    assert words in f"{caught.value.message} {caught.value.remedy}"


def test_only_the_function_is_changed() -> None:
    assert mutated(SOURCE, MUTANT) == SOURCE.replace("-EINVAL", "-ENOMEM", 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"old": "-EPERM"}, "'-EPERM' 0 times, not once"),
        ({"old": "refs"}, "'refs' 3 times, not once"),
        ({"function": "give"}, "mm/x.c defines no give()"),
    ],
)
def test_a_source_that_a_mutant_is_not_for(change: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match="adapt the mutant") as caught:
        mutated(SOURCE, replace(MUTANT, **change))
    assert words in caught.value.message


def test_of_two_definitions_the_one_that_has_the_text() -> None:
    text = f"{SOURCE}#else\nstatic int take(int refs)\n{{\n\treturn 0;\n}}\n#endif\n"
    assert mutated(text, MUTANT) == text.replace("-EINVAL", "-ENOMEM", 1)


def test_the_source_stays_and_the_tree_is_restored_newer(copy: WorkCopy) -> None:
    os.utime(copy.source / "mm/x.c", (1, 1))
    copy.prepare([MUTANT])
    planted = copy.tree / "mm/x.c"
    with copy.having(MUTANT):
        assert planted.read_text() == mutated(SOURCE, MUTANT)
        assert (copy.source / "mm/x.c").read_text() == SOURCE
    assert planted.read_text() == SOURCE
    assert planted.stat().st_mtime > (copy.source / "mm/x.c").stat().st_mtime
    assert (copy.tree / "mm/y.c").samefile(copy.source / "mm/y.c")


def test_what_a_killed_run_left_is_taken_out(copy: WorkCopy) -> None:
    copy.prepare([MUTANT])
    (copy.tree / "mm/x.c").unlink()
    (copy.tree / "mm/x.c").write_text(mutated(SOURCE, MUTANT))
    copy.prepare([MUTANT])
    assert (copy.tree / "mm/x.c").read_text() == SOURCE


def test_the_tree_is_restored_after_a_failure(copy: WorkCopy) -> None:
    copy.prepare([MUTANT])
    with pytest.raises(ZeroDivisionError), copy.having(MUTANT):
        raise ZeroDivisionError
    assert (copy.tree / "mm/x.c").read_text() == SOURCE


def test_mutants_are_chosen_by_architecture_and_id() -> None:
    mutants = (MUTANT, replace(MUTANT, id="arm", archs=(Arch.ARM64,)))
    assert chosen(mutants, Arch.ARM64, ()) == mutants[1:]
    assert chosen(mutants, Arch.X86_64, ["errno"]) == mutants[:1]
    with pytest.raises(UsageError, match="arm"):
        chosen(mutants, Arch.X86_64, ["arm"])


def report(tmp_path: Path, *results: dict[str, object]) -> Judged:
    path = tmp_path / "report.json"
    plain = {"verdict": "kept", "reason": "", "detail": "", "crashed": False}
    path.write_text(json.dumps({"results": [plain | result for result in results]}))
    return Judged.read(path, 7.0)


def test_what_a_report_says(tmp_path: Path) -> None:
    found = report(
        tmp_path,
        {
            "claim": "a.1",
            "verdict": "broken",
            "detail": "invariant 13.rss: the counters are right (mm/memory.c)",
        },
        {"claim": "b.1", "verdict": "broken", "crashed": True},
        {"claim": "c.1", "verdict": "unproven"},
        {"claim": "d.1", "reason": "invariant 4 is not looked at"},
    )
    assert (found.words, found.status) == ("a.1, b.1; invariants 13.rss; crash in b.1; 1 unproven", 0)


def test_what_was_so_before_is_not_noticed(tmp_path: Path) -> None:
    base = report(tmp_path, {"claim": "a.1", "verdict": "broken"}, {"claim": "b.1"})
    assert (base.beyond(base).words, base.beyond(base).status) == ("", 1)
    later = report(tmp_path, {"claim": "a.1", "verdict": "broken"}, {"claim": "b.1", "verdict": "broken"})
    assert later.beyond(base).words == "b.1"
    lost = report(tmp_path, {"claim": "a.1", "verdict": "broken"}, {"claim": "b.1", "verdict": "unproven"})
    assert (lost.beyond(base).words, lost.beyond(base).status) == ("1 unproven", 3)


def broken(tmp_path: Path, *names: str) -> Judged:
    return report(tmp_path, *({"claim": name, "verdict": "broken"} for name in names))


def test_what_is_broken_once_in_two_runs_is_not_noticed(tmp_path: Path) -> None:
    first = broken(tmp_path, "a.1", "b.1")
    assert first.repeated == ("a.1", "b.1")
    both = first.confirmed(broken(tmp_path, "b.1"))
    assert (both.words, both.status, both.seconds) == ("b.1; only once: a.1", 0, 14.0)
    none = first.confirmed(broken(tmp_path))
    assert (none.words, none.status) == ("only once: a.1, b.1", 3)


def test_of_many_claims_a_few_are_repeated_and_stand_for_the_others(tmp_path: Path) -> None:
    first = broken(tmp_path, *(f"a.{number}" for number in range(1, 9)))
    assert len(first.repeated) == 6
    assert first.confirmed(broken(tmp_path, "a.6")).broken == {"a.6", "a.7", "a.8"}
    assert not first.confirmed(broken(tmp_path)).broken


@pytest.mark.parametrize(
    ("words", "status"), [(["-k", "gup", "--record", "x.md"], 2), (["--only", "no-such-mutant"], 2)]
)
def test_a_command_line_that_makes_no_sense(words: list[str], status: int) -> None:
    done = subprocess.run(
        [sys.executable, RUN, *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, "usage: " in done.stderr) == (status, True)


def test_what_keeps_everything_from_being_judged_is_3(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = {**os.environ, "HOSTWALK_CACHE": str(tmp_path / "file")}
    done = subprocess.run(
        [sys.executable, RUN], capture_output=True, text=True, timeout=120, check=False, env=environ
    )
    assert (done.returncode, "cache: " in done.stderr) == (3, True), done.stderr


def test_of_many_claims_the_first_are_named(tmp_path: Path) -> None:
    found = report(tmp_path, *({"claim": f"a.{number}", "verdict": "broken"} for number in range(1, 9)))
    assert found.words == "a.1, a.2, a.3, a.4, a.5, a.6 and 2 more"


def test_a_row_takes_the_place_of_the_one_before_and_stands_in_order(tmp_path: Path) -> None:
    path, begin, end = tmp_path / "mutants.md", "<!-- table: x86_64 -->\n", "<!-- end -->"
    path.write_text(f"Text.\n\n{begin}{end}\n\n<!-- table: arm64 -->\n{end}\nMore.\n")
    record = Record(path, Arch.X86_64, ("first", "second"))
    for row in (
        Row("second", "NOT NOTICED", 1.4, 2),
        Row("first", "NOT JUDGED: a|b"),
        Row("second", "a.1", 3, 4),
    ):
        record.put(row)
    Record(path, Arch.ARM64, ("first",)).put(Row("(none)", "nothing is broken", 5, 6))
    assert path.read_text() == (
        f"Text.\n\n{begin}{HEAD}| first | NOT JUDGED: a/b |  |  |\n| second | a.1 | 3 | 4 |\n{end}\n\n"
        f"<!-- table: arm64 -->\n{HEAD}| (none) | nothing is broken | 5 | 6 |\n{end}\nMore.\n"
    )


def test_a_document_without_a_table(tmp_path: Path) -> None:
    path = tmp_path / "mutants.md"
    path.write_text("<!-- table: arm64 -->\n<!-- end -->\n")
    with pytest.raises(UsageError, match="no table for x86_64"):
        Record(path, Arch.X86_64, ()).put(Row("first", "a.1"))
