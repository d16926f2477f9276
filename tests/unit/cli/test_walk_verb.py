"""The words of ``hostwalk walk`` and the request that they make."""

import pytest

from hostwalk.cli.main import main, parser_for
from hostwalk.cli.walk import wanted_of
from hostwalk.errors import UsageError
from hostwalk.walking import FILTERS, Wanted


def wanted(*words):
    return wanted_of(parser_for("walk").parse_args(["walk", *words]))


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        ((), Wanted()),
        (("0x1000", "init_task+8"), Wanted(addresses=("0x1000", "init_task+8"))),
        (("--cpu", "2", "--half", "kernel"), Wanted(cpu=2, half="kernel")),
        (("--root", "1000"), Wanted(root=0x1000)),
        (("--task", "1", "--task", "bash"), Wanted(tasks=("1", "bash"))),
        (("--all-tasks", "--find", "0x1234"), Wanted(all_tasks=True, find=0x1234)),
        (
            ("--range", "1000-2000", "--range", "0x3000-0x4000"),
            Wanted(ranges=((0x1000, 0x2000), (0x3000, 0x4000))),
        ),
        (("--writable", "--uffd-wp"), Wanted(only=("writable", "uffd_wp"))),
    ],
)
def test_words_make_a_request(words, request_):
    assert wanted(*words) == request_


def test_every_filter_has_an_option():
    assert wanted(*(f"--{name.replace('_', '-')}" for name in FILTERS)).only == FILTERS


@pytest.mark.parametrize(
    "words",
    [
        ("1000", "--range", "0-1"),
        ("1000", "--find", "1"),
        ("1000", "--diff", "1"),
        ("1000", "--writable"),
        ("--root", "0", "--task", "1"),
        ("--find", "0", "--diff"),
        ("--gdb", "localhost:1234"),
    ],
)
def test_contradictions_are_refused(words):
    with pytest.raises(UsageError):
        wanted(*words)


@pytest.mark.parametrize(
    "words", [("--range", "2000-1000"), ("--range", "5"), ("--root", "x"), ("--half", "left")]
)
def test_nonsense_is_refused(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        wanted(*words)
    assert "error" in capsys.readouterr().err


def test_no_such_socket_is_a_usage_error(capsys, tmp_path):
    assert main(["walk", "--qmp", str(tmp_path / "none")]) == 2
    assert "cannot connect to --qmp" in capsys.readouterr().err
