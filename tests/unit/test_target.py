from __future__ import annotations

import pytest

from hostwalk.errors import UsageError
from hostwalk.options import CheckOptions
from hostwalk.target import Arch, Target, granule_of, matrix


@pytest.mark.parametrize(
    ("spelling", "name", "granule"),
    [
        ("36bit", "16k-36bit", "16k"),
        ("47BIT", "16k-47bit", "16k"),
        ("42bit", "64k-42bit", "64k"),
        ("4k-39bit", "39bit", "4k"),
        ("4k-52bit", "52bit", "4k"),
        ("64k-52bit", "64k-52bit", "64k"),
    ],
)
def test_a_format_has_one_name_and_one_granule(spelling: str, name: str, granule: str) -> None:
    target = Target(Arch.ARM64, "source:7.3", spelling)
    assert target.format == name
    assert target.name == f"arm64-{name}/source:7.3"
    assert granule_of(name) == granule
    assert matrix(["arm64"], ["source:7.3"], [spelling]) == (target,)


@pytest.mark.parametrize("kernel", ["debian:6.12", "debian:6.12-arm64-16k", "path/to/Image"])
def test_a_kernel_that_is_given_has_the_granule_that_it_was_built_with(kernel: str) -> None:
    with pytest.raises(UsageError, match="its granule is what it was built with") as caught:
        Target(Arch.ARM64, kernel, "64k-42bit")
    assert caught.value.remedy.startswith("use 48bit, 52bit, or")


def test_a_wide_format_needs_a_processor_that_has_it() -> None:
    models = {name: Target(Arch.ARM64, "tree:x", name).cpu.model for name in ("64k-48bit", "64k-52bit")}
    assert models["64k-48bit"] == "neoverse-n1"
    assert models["64k-52bit"].startswith("max")


@pytest.mark.parametrize("spec", ["source:next", "source:7.3+fast", "tree:"])
def test_a_spec_that_cannot_be_built_is_refused_before_any_work(spec: str) -> None:
    with pytest.raises(UsageError):
        _ = CheckOptions(kernels=(spec,)).targets
