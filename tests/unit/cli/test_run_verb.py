"""``hostwalk run`` and ``shell``: arguments, exit statuses, and what is refused before anything boots."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostwalk.cli import debuggers, machines
from hostwalk.cli import run as run_verb
from hostwalk.cli.main import main, parser_for
from hostwalk.errors import (
    BootError,
    BuildError,
    CommandTimeoutError,
    FetchError,
    GuestCrashError,
    GuestHungError,
    HostwalkError,
    LoginError,
    MissingToolError,
    UsageError,
)
from hostwalk.machine.pump import Streams
from hostwalk.target import Arch


def parsed(*words: str) -> argparse.Namespace:
    return parser_for(words[0]).parse_args(words)


class Login:
    """Stands for a login: notes what it is asked for, says and returns what a test wants."""

    def __init__(self, status: int | HostwalkError) -> None:
        self.status = status
        self.argv: list[str] = []
        self.files: list[tuple[str, str]] = []
        self.seconds = 0.0

    def put(self, local: Path, remote: str) -> None:
        self.files.append((local.name, remote))

    def stream(self, argv: list[str], streams: Streams, *, deadline) -> int:
        self.argv, self.seconds = argv, deadline.seconds
        streams.stdout(b"to out\n")
        streams.stderr(b"to err\n")
        if isinstance(self.status, HostwalkError):
            raise self.status
        return self.status


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> Login:
    made = Login(0)
    machine = SimpleNamespace(ssh=lambda: made, check=lambda: None, reports=())

    @contextlib.contextmanager
    def logged_in(options: object, progress: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(machine=machine)

    monkeypatch.setattr(machines, "logged_in", logged_in)
    monkeypatch.setattr("sys.stdin", None)
    return made


def test_all_after_the_dashes_is_the_command() -> None:
    args = parsed("run", "--arch", "arm64", "--timeout", "5", "--", "sh", "-c", "exit 3", "--", "--arch")
    assert args.command == ["sh", "-c", "exit 3", "--", "--arch"]
    assert (args.arch, args.timeout) == ("arm64", 5.0)


@pytest.mark.parametrize(
    "line",
    ["run", "run --", "run --timeout 0 -- x", "run --timeout soon -- x", "shell --gdb --python"],
)
def test_what_makes_no_sense_is_refused(line: str) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*line.split())
    assert caught.value.code == 2


def test_the_command_s_status_and_streams_are_ours(login: Login, capfd: pytest.CaptureFixture[str]) -> None:
    login.status = 42
    assert main(["run", "--timeout", "7", "--", "cmd", "-x"]) == 42
    assert capfd.readouterr() == ("to out\n", "to err\n")
    assert (login.argv, login.seconds) == (["cmd", "-x"], 7.0)


def test_files_are_put_into_the_home_first(login: Login, tmp_path: Path) -> None:
    (tmp_path / "tool").touch()
    assert main(["run", "--put", str(tmp_path / "tool"), "--", "./tool"]) == 0
    assert login.files == [("tool", "/root/tool")]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GuestCrashError("panic"), 123),
        (CommandTimeoutError("late"), 124),
        *((kind("no"), 125) for kind in (BootError, BuildError, FetchError, LoginError, GuestHungError)),
    ],
)
def test_what_is_not_the_command_s_has_a_status_of_its_own(
    login: Login, capfd: pytest.CaptureFixture[str], error: HostwalkError, status: int
) -> None:
    login.status = error
    assert main(["run", "--", "cmd"]) == status
    out, err = capfd.readouterr()
    assert out == "to out\n"
    assert error.message in err


@pytest.mark.parametrize("words", [["--put", "/no/such"], ["--module", "/no/such.ko pages=4"]])
def test_a_file_that_is_not_there_is_told_before_anything_boots(
    login: Login, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["run", *words, "--", "cmd"]) == 2
    assert "there is no such file" in capfd.readouterr().err
    assert not login.argv


def test_files_that_cannot_be_put_are_told_before_anything_boots(
    login: Login, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    big, *same = tmp_path / "big", tmp_path / "a", tmp_path / "other" / "a"
    for path in (big, *same):
        path.touch()
    os.truncate(big, 200 << 20)
    for words, said in (
        ([tmp_path], "it is a directory"),
        (same, "there are two files a, and both would be /root/a"),
        ([big], "200 MiB, and / holds half of the guest's 256 MiB of memory"),
    ):
        assert main(["run", *(f"--put={path}" for path in words), "--", "cmd"]) == 2
        assert said in " ".join(capfd.readouterr().err.split())
    assert main(["run", f"--put={big}", "--memory=800", "--", "cmd"]) == 0


def test_a_shell_without_a_terminal_is_refused(login: Login, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["shell"]) == 2
    assert "needs a terminal" in capfd.readouterr().err


def test_a_debugger_that_is_missing_is_told_before_anything_boots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debuggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match="drgn is not installed") as caught:
        debuggers.found("drgn", "x86_64")
    assert "-m pip install drgn" in caught.value.remedy
    monkeypatch.setattr(debuggers.importlib.util, "find_spec", lambda name: name)
    old = SimpleNamespace(Program=object, __version__="0.0.9")
    monkeypatch.setattr(debuggers.importlib, "import_module", lambda name: old)
    with pytest.raises(UsageError, match=r"drgn 0\.0\.9 cannot be attached") as early:
        debuggers.found("drgn", "x86_64")
    assert "-m pip install --upgrade drgn" in early.value.remedy
    monkeypatch.setattr(debuggers.shutil, "which", lambda name: None)
    monkeypatch.setenv("HOSTWALK_INSTALL", "no")
    with pytest.raises(MissingToolError, match="gdb-multiarch is not installed") as lacking:
        debuggers.found("gdb", "arm64")
    assert "apt-get" in lacking.value.remedy or "gdb-multiarch" in lacking.value.remedy


def test_a_gdb_of_the_host_s_own_architecture_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debuggers, "host_arch", lambda: Arch.X86_64)
    monkeypatch.setattr(debuggers.shutil, "which", {"gdb": "/usr/bin/gdb"}.get)
    assert debuggers.found("gdb", "x86_64") == "/usr/bin/gdb"
    monkeypatch.setattr(
        debuggers.doctor,
        "ensure",
        lambda tools, ask: monkeypatch.setattr(
            debuggers.process, "find_tool", lambda name, package: f"/usr/bin/{tools[0].name}"
        ),
    )
    assert debuggers.found("gdb", "arm64") == "/usr/bin/gdb-multiarch"


def test_no_debugger_is_looked_for_where_none_is_wanted() -> None:
    assert debuggers.found(None, "x86_64") == ""


def test_a_status_for_each_error_that_has_no_command() -> None:
    assert run_verb.status_of(MissingToolError("no")) == 125


def test_a_vmlinux_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    given: Any = None
    debuggers.require_vmlinux("python", None, given)
    for kind in (None, "python", "console"):
        with pytest.raises(UsageError, match="--vmlinux is read by gdb and drgn alone"):
            debuggers.require_vmlinux(kind, tmp_path, given)
