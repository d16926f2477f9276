"""Which commands run_vmtests.sh runs."""

from __future__ import annotations

from hostwalk.suites.plan import OTHERS, Step, steps

SCRIPT = """\
run_gup_matrix() {
    local hugetlb_mb=256
    for huge in -t "-H -m $hugetlb_mb"; do
        for share in -S " "; do
            CATEGORY="gup_test" run_test ./gup_test \\
                $huge -u $share
        done
    done
}
run_test() {
        echo "$*"
}
CATEGORY="hugetlb" run_test ./hugetlb-mmap
CATEGORY="gup_test" run_test ./gup_test -ct -F 0x1 0 19 0x1000
uffd_stress_bin=./uffd-stress
CATEGORY="userfaultfd" run_test ${uffd_stress_bin} anon 20 16
CATEGORY="userfaultfd" run_test ${uffd_stress_bin} hugetlb "$half_MB" 32
\tCATEGORY="mlock" run_test sudo -u nobody sh -c ./on-fault-limit
CATEGORY="hugevm" run_test bash ./va_high_addr_switch.sh
"""


def plain(found: tuple[Step, ...]) -> list[Step]:
    return [step for step in found if not step.extra]


def test_each_call_is_a_step_with_its_arguments() -> None:
    hugetlb, dump, stress, half, sudo, script = plain(steps(SCRIPT, ["gup_test", "uffd-stress"]))
    assert hugetlb == Step("hugetlb", ("./hugetlb-mmap",))
    assert (dump.name, dump.program) == ("gup_test -ct -F 0x1 0 19 0x1000", "gup_test")
    assert (stress.name, stress.category) == ("uffd-stress anon 20 16", "userfaultfd")
    assert (sudo.command[0], sudo.program) == ("sudo", "on-fault-limit")
    assert (script.name, script.program) == ("va_high_addr_switch.sh", "va_high_addr_switch.sh")
    assert half.skip == "run_vmtests.sh finds $half_MB only while it runs"
    assert not any(step.skip for step in (hugetlb, dump, stress, sudo, script))


def test_a_program_that_the_script_does_not_name_runs_all_the_same() -> None:
    found = steps(SCRIPT, ["gup_test", "hugetlb", "mseal_test", "helper"], 'exec "./helper" -p "$path"\n')
    assert [step.name for step in found if step.category == OTHERS] == ["hugetlb", "mseal_test"]


def test_what_is_called_in_loops_of_a_function_is_extra_and_runs_in_all_ways() -> None:
    assert [step.name for step in steps(SCRIPT, []) if step.extra] == [
        "gup_test -t -u -S", "gup_test -t -u", "gup_test -H -m 256 -u -S", "gup_test -H -m 256 -u",
    ]  # fmt: skip


def test_what_the_script_finds_while_it_runs_can_be_given() -> None:
    given = {"uffd-stress": {"half_MB": "64"}}
    found = plain(steps(SCRIPT, [], variables=lambda program: given.get(program, {})))
    assert [(step.name, step.skip) for step in found if "32" in step.command] == [
        ("uffd-stress hugetlb 64 32", "")
    ]
