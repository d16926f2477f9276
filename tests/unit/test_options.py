from __future__ import annotations

import argparse
import shlex

import pytest

from hostwalk.cli import check
from hostwalk.options import CheckOptions


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--matrix=full",
        "--kernel=debian:6.1 --kernel=debian:6.12 --arch=arm64 --format=52bit --smp=2",
        "--accel=tcg --memory=512 --isolation=cell --mirror=m --headers=h --symbols=s --sabotage --no-audit",
        "-k 'gup and not force'",
    ],
)
def test_a_request_is_a_command_line_that_asks_for_the_same(words: str) -> None:
    parser = argparse.ArgumentParser()
    check.arguments(parser)
    options = check.options_of(parser.parse_args(shlex.split(words)))
    assert sorted(shlex.split(options.request)) == sorted(shlex.split(words))


def test_what_changes_no_verdict_is_no_part_of_a_request() -> None:
    assert CheckOptions(seed=3, workers="4", verbose=2).request == ""
