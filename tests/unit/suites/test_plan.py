"""Which commands run_vmtests.sh runs."""

from __future__ import annotations

from hostwalk.suites.plan import OTHERS, Step, steps

SCRIPT = """\
run_gup_matrix() {
    for huge in -t -T; do
        CATEGORY="gup_test" run_test ./gup_test \\
            $huge -u
    done
}
run_test() {
        echo "$*"
}
CATEGORY="hugetlb" run_test ./hugetlb-mmap
CATEGORY="gup_test" run_test ./gup_test -ct -F 0x1 0 19 0x1000
uffd_stress_bin=./uffd-stress
CATEGORY="userfaultfd" run_test ${uffd_stress_bin} anon 20 16
\tCATEGORY="mlock" run_test sudo -u nobody sh -c ./on-fault-limit
CATEGORY="hugevm" run_test bash ./va_high_addr_switch.sh
"""


def test_each_call_is_a_step_with_its_arguments() -> None:
    gup, hugetlb, dump, stress, sudo, script = steps(SCRIPT, ["gup_test", "uffd-stress"])
    assert hugetlb == Step("hugetlb", ("./hugetlb-mmap",))
    assert (dump.name, dump.program) == ("gup_test -ct -F 0x1 0 19 0x1000", "gup_test")
    assert (stress.name, stress.category) == ("uffd-stress anon 20 16", "userfaultfd")
    assert (sudo.command[0], sudo.program) == ("sudo", "on-fault-limit")
    assert (script.name, script.program) == ("va_high_addr_switch.sh", "va_high_addr_switch.sh")
    assert gup.skip == "run_vmtests.sh finds $huge only while it runs"
    assert not any(step.skip for step in (hugetlb, dump, stress, sudo, script))


def test_a_program_that_the_script_does_not_name_runs_all_the_same() -> None:
    found = steps(SCRIPT, ["gup_test", "hugetlb", "mseal_test", "helper"], 'exec "./helper" -p "$path"\n')
    assert [step.name for step in found if step.category == OTHERS] == ["hugetlb", "mseal_test"]
