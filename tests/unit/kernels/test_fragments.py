from __future__ import annotations

import pytest

from hostwalk.errors import KernelBuildError, UsageError
from hostwalk.kernels import fragments
from hostwalk.target import CPUS, Arch

TEXT = """\
# What it is for.
CONFIG_SMP=y
CONFIG_NR_CPUS=8
# CONFIG_LOCALVERSION_AUTO is not set
CONFIG_LOCALVERSION=""

# Optional: new in 7.x;
# before, another one brought it.
CONFIG_NUMA_MIGRATION=y
# CONFIG_OLD is not set

CONFIG_KSM=y
"""


def test_a_fragment_is_read_with_what_is_optional_in_it() -> None:
    options = fragments.parse(TEXT, "common.config")
    assert [(option.name, option.value, option.optional) for option in options] == [
        ("CONFIG_SMP", "y", False),
        ("CONFIG_NR_CPUS", "8", False),
        ("CONFIG_LOCALVERSION_AUTO", "n", False),
        ("CONFIG_LOCALVERSION", '""', False),
        ("CONFIG_NUMA_MIGRATION", "y", True),
        ("CONFIG_OLD", "n", True),
        ("CONFIG_KSM", "y", False),
    ]


def test_a_line_that_is_no_option_is_an_error_with_its_place() -> None:
    with pytest.raises(UsageError, match=r"own\.config:2 .*'SMP=y'"):
        fragments.parse("CONFIG_KSM=y\nSMP=y\n", "own.config")


def test_the_later_fragment_is_heard() -> None:
    merged = fragments.merged(
        [fragments.parse("CONFIG_A=y\nCONFIG_B=y\n", "a"), fragments.parse("# CONFIG_A is not set\n", "b")]
    )
    assert fragments.text_of(merged) == "# CONFIG_A is not set\nCONFIG_B=y\n"


def test_an_option_that_the_kernel_did_not_take_is_named_with_its_fragment() -> None:
    options = fragments.parse(TEXT, "common.config")
    config = fragments.values('CONFIG_SMP=y\nCONFIG_NR_CPUS=64\nCONFIG_LOCALVERSION=""\nCONFIG_KSM=y\n')
    with pytest.raises(KernelBuildError) as caught:
        fragments.verify(options, config, "7.3.4")
    assert "CONFIG_NR_CPUS=8 (common.config)" in caught.value.message
    assert "CONFIG_SMP" not in caught.value.message
    assert "NUMA_MIGRATION" not in caught.value.message
    assert caught.value.exit_status == 125


def test_an_option_that_is_set_although_it_is_not_wanted_is_named() -> None:
    options = fragments.parse(TEXT, "common.config")
    taken = fragments.values(
        'CONFIG_SMP=y\nCONFIG_NR_CPUS=8\nCONFIG_LOCALVERSION=""\nCONFIG_KSM=y\nCONFIG_LOCALVERSION_AUTO=y\n'
    )
    with pytest.raises(KernelBuildError, match="# CONFIG_LOCALVERSION_AUTO is not set"):
        fragments.verify(options, taken, "7.3.4")
    del taken["CONFIG_LOCALVERSION_AUTO"]
    fragments.verify(options, taken, "7.3.4")


@pytest.mark.parametrize("cpu", CPUS, ids=lambda cpu: f"{cpu.arch}-{cpu.format}")
def test_every_format_has_its_fragments_and_they_name_granule_and_bits(cpu) -> None:
    names = fragments.names(cpu.arch, cpu.format)
    options = {option.name: option.value for option in fragments.load(names)}
    assert options["CONFIG_TRANSPARENT_HUGEPAGE"] == options["CONFIG_KALLSYMS_ALL"] == "y"
    if cpu.arch is Arch.ARM64:
        granule, _, bits = cpu.format.rpartition("-")
        assert options[f"CONFIG_ARM64_{granule.upper() or '4K'}_PAGES"] == "y"
        assert options[f"CONFIG_ARM64_VA_BITS_{bits.removesuffix('bit')}"] == "y"
        assert sum("VA_BITS" in name for name in options) == sum("K_PAGES" in name for name in options) == 1


def test_a_debug_kernel_has_the_checks_on_top() -> None:
    options = {o.name: o.value for o in fragments.load(fragments.names(Arch.X86_64, "4level", ["debug"]))}
    assert options["CONFIG_KASAN"] == options["CONFIG_PAGE_TABLE_CHECK"] == options["CONFIG_KSM"] == "y"


def test_a_fragment_that_is_not_there_is_an_error_that_lists_those_for_users() -> None:
    with pytest.raises(UsageError) as caught:
        fragments.load(["common", "fast"])
    assert "'fast'" in caught.value.message
    assert caught.value.remedy == "known: debug"
