"""The options of the pytest plugin, and the request that they make."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostwalk import parallel
from hostwalk.options import CheckOptions
from hostwalk.reporting import add_options
from hostwalk.suites.collector import add_option


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run; their names are those of ``hostwalk check`` with a prefix."""
    group = parser.getgroup("hostwalk", "kernel memory-management claims in QEMU")
    for name, text in (
        ("kernel", "kernel to boot, such as debian:6.1; may be repeated"),
        ("arch", "architecture: x86_64 or arm64; may be repeated (default: both)"),
        ("format", "page-table format, such as 5level or 48bit; may be repeated"),
    ):
        group.addoption(f"--hostwalk-{name}", action="append", default=[], metavar=name.upper(), help=text)
    group.addoption(
        "--hostwalk-matrix", default="", metavar="NAME", help="default, full or one of the project's own"
    )
    group.addoption("--hostwalk-accel", default="auto", help="auto, tcg or kvm")
    group.addoption("--hostwalk-memory", type=int, default=256, metavar="MIB", help="guest memory")
    group.addoption("--hostwalk-smp", type=int, default=1, metavar="N", help="virtual CPUs")
    group.addoption(
        "--hostwalk-sabotage", action="store_true", help="alter the evidence; each claim must notice"
    )
    group.addoption("--hostwalk-no-audit", action="store_true", help="no audit after each claim")
    group.addoption("--hostwalk-mirror", help="Debian mirror to fetch kernels from")
    group.addoption("--hostwalk-headers", type=Path, help="headers of a kernel that is given as a file")
    group.addoption("--hostwalk-symbols", type=Path, help="System.map of a kernel that is given as a file")
    group.addoption(
        "--hostwalk-isolation", choices=("claim", "cell"), default="claim",
        help="a fresh machine for each claim, or one for all of a target",
    )  # fmt: skip
    group.addoption("--hostwalk-costs", action="store_true", help="tell what each claim has cost its subject")
    group.addoption("--hostwalk-seed", type=int, help="seed of the run")
    group.addoption(
        "--hostwalk-shard", default="", metavar="I/N", help="only the Ith of N parts of the claims"
    )
    group.addoption("--hostwalk-instead", default="", metavar="KERNEL", help="boot this on every cell")
    group.addoption(
        "--hostwalk-repro-dir", type=Path, metavar="DIR", help="write a repro script for each failure"
    )
    group.addoption("--hostwalk-repro-departures", action="store_true", help="and for each known departure")
    add_option(group)
    add_options(group)


def options_of(config: pytest.Config) -> CheckOptions:
    """Return the run that the command line asked for."""

    def value(name: str):  # type: ignore[no-untyped-def]
        return config.getoption(f"--hostwalk-{name}")

    seed = getattr(config, "workerinput", {}).get(parallel.SEED, value("seed"))
    return CheckOptions(
        kernels=tuple(value("kernel")), archs=tuple(value("arch")), formats=tuple(value("format")),
        matrix=value("matrix"), accel=value("accel"), memory=value("memory"), cpus=value("smp"),
        sabotage=value("sabotage"), audit=not value("no-audit"),
        mirror=value("mirror"), headers=value("headers"), symbols=value("symbols"), seed=seed,
        isolation=value("isolation"), shard=value("shard"), instead=value("instead"),
        costs=value("costs"), repro_dir=value("repro-dir"), repro_departures=value("repro-departures"),
        keyword=str(config.getoption("keyword") or ""),
    )  # fmt: skip
