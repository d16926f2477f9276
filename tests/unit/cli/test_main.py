from __future__ import annotations

import os
import signal
import sys
import types

import pytest

from hostwalk.cli import main as main_module
from hostwalk.cli.main import VERBS, main
from hostwalk.errors import BootError, Evidence, HostwalkError, ResolveError, UsageError


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A verb "fake" that does what ``run`` says."""
    module = types.SimpleNamespace(arguments=lambda _parser: None, run=lambda _args: 0)
    monkeypatch.setitem(sys.modules, "hostwalk.cli.fake", module)
    monkeypatch.setitem(VERBS, "fake", "a verb for tests")
    monkeypatch.delenv("HOSTWALK_DEBUG", raising=False)
    return module


def raising(error: BaseException):  # type: ignore[no-untyped-def]
    def run(_args: object) -> int:
        raise error

    return run


def test_the_status_is_the_verbs(verb: types.SimpleNamespace) -> None:
    verb.run = lambda _args: 1
    assert main(["fake"]) == 1


@pytest.mark.parametrize(
    ("error", "status"), [(UsageError("x"), 2), (ResolveError("x"), 3), (BootError("x"), 3)]
)
def test_errors_have_their_status(verb: types.SimpleNamespace, error: HostwalkError, status: int) -> None:
    verb.run = raising(error)
    assert main(["fake"]) == status


def test_an_error_is_printed_once_with_remedy_and_evidence(
    verb: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = Evidence(command="qemu -x", console="\x1b[31mKernel panic\x1b[0m [bold]")
    verb.run = raising(BootError("no agent within 60 s", remedy="look at the console", evidence=evidence))
    main(["fake"])
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "hostwalk: boot: no agent within 60 s\n  try: look at the console\n"
        "--- last console lines ---\nKernel panic [bold]\n--- command ---\nqemu -x\n"
    )


def test_a_long_remedy_stays_on_one_line(
    verb: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    verb.run = raising(ResolveError("m", remedy="apt-get install " + "package " * 50))
    main(["fake"])
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_debug_shows_the_traceback(
    verb: types.SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTWALK_DEBUG", "1")
    verb.run = raising(ResolveError("m"))
    main(["fake"])
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_defect_of_ours_is_no_traceback_either(
    verb: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    verb.run = raising(ZeroDivisionError("oops"))
    assert main(["fake"]) == 3
    err = capsys.readouterr().err
    assert err.startswith("hostwalk: a defect of hostwalk itself at test_main.py:")
    assert "ZeroDivisionError: oops" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_unwind_and_give_the_shells_status(
    verb: types.SimpleNamespace, signum: signal.Signals
) -> None:
    unwound = []

    def run(_args: object) -> int:
        try:
            os.kill(os.getpid(), signum)
        finally:
            unwound.append(True)
        return 0

    verb.run = run
    before = signal.signal(signum, signal.SIG_DFL)  # a shell may have had us ignore it
    try:
        assert main(["fake"]) == 128 + signum
    finally:
        signal.signal(signum, before)
    assert unwound == [True]


def test_a_swallowed_signal_is_not_lost(verb: types.SimpleNamespace) -> None:
    def run(_args: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            main_module.signals.check()
        return 0

    verb.run = run
    assert main(["fake"]) == 128 + signal.SIGTERM


def test_handlers_are_put_back(verb: types.SimpleNamespace) -> None:
    before = signal.getsignal(signal.SIGTERM)
    main(["fake"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_no_verb_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "exit status:" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["nosuch"], ["version", "--nosuch"], ["check", "--memory", "much"]])
def test_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_every_verb_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in [name for name in VERBS if name != "fake"]:
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
        assert f"usage: hostwalk {verb}" in capsys.readouterr().out
