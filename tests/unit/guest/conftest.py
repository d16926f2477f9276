"""A table that lays frames out unlike any compiler, a scripted agent, and the real one as a host process."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hostwalk.guest import Agent, Subject
from hostwalk.guest.wire import Codec, Frame
from hostwalk.image.layout import Layout

AGENT = Path(__file__).parents[3] / "guest" / "agent"
FRAME = "struct hostwalk_frame"
MEMBERS = {"status": 8, "magic": 16, "op": 20, "seq": 24, "subject": 28, "size": 36, "args": 40}
CONSTANTS = {
    "HOSTWALK_ABI_VERSION": 1, "HOSTWALK_MAGIC": 0x4B4C5748, "HOSTWALK_ARGS": 8,
    "HOSTWALK_PAYLOAD_MAX": 4096, "HOSTWALK_COPY_MAX": 64, "HOSTWALK_OK": 0, "HOSTWALK_FAULT": 1,
    "HOSTWALK_BAD_OP": 2, "HOSTWALK_NO_SUBJECT": 3, "HOSTWALK_OP_HELLO": 1, "HOSTWALK_OP_SPAWN": 2,
    "HOSTWALK_OP_REAP": 3, "HOSTWALK_OP_CRASH": 4, "HOSTWALK_OP_SYSCALL": 32, "HOSTWALK_OP_SPIN": 40,
    "HOSTWALK_OP_PEEK": 38, "HOSTWALK_OP_POKE": 39, "EPERM": 1, "EAGAIN": 11, "EWOULDBLOCK": 11,
    "EINVAL": 22, "SIGKILL": 9, "SIGBUS": 7, "SIGSEGV": 11, "SEGV_MAPERR": 1, "SEGV_ACCERR": 2,
    "BUS_ADRERR": 2, "MADV_DONTNEED": 4, "MADV_COLD": 20, "__NR_getpid": 39, "O_RDWR": 2, "O_CREAT": 64,
    "PROT_READ": 1, "PROT_WRITE": 2, "PROT_EXEC": 4, "MAP_SHARED": 1,
}  # fmt: skip

Answer = Callable[[Frame], Frame | bytes | None]


def table() -> dict[str, int]:
    entries = dict(CONSTANTS)
    for member, offset in MEMBERS.items():
        entries[f"offsetof({FRAME}, {member})"] = offset
        entries[f"sizeof({FRAME}.{member})"] = 64 if member == "args" else 4
        entries[f"signed({FRAME}.{member})"] = 0
    return entries | {f"sizeof({FRAME}.args[0])": 8, f"sizeof({FRAME})": 112}


@pytest.fixture
def toy_abi() -> dict[str, int]:
    return table()


@dataclass(frozen=True)
class Scripted:
    """A thread that answers each request with what ``answer`` returns: a frame, raw bytes, or nothing."""

    port: socket.socket
    codec: Codec
    answer: Answer

    def run(self) -> None:
        while header := self._take(self.codec.size):
            payload = self._take(self.codec.payload_size(header))
            reply = self.answer(self.codec.unpack(header, payload))
            data = self.codec.pack(reply) if isinstance(reply, Frame) else reply or b""
            self.port.sendall(data)

    def _take(self, size: int) -> bytes:
        try:
            return self.port.recv(size, socket.MSG_WAITALL) if size else b""
        except ConnectionError:
            return b""


@pytest.fixture
def scripted() -> Iterator[Callable[..., socket.socket]]:
    """Start scripted agents; each call returns the host's end of its port."""
    ends: list[tuple[socket.socket, threading.Thread]] = []

    def start(answer: Answer, abi: dict[str, int] | Layout | None = None) -> socket.socket:
        host, guest = socket.socketpair()
        thread = threading.Thread(target=Scripted(guest, Codec(abi or table()), answer).run, daemon=True)
        thread.start()
        ends.append((host, thread))
        return host

    yield start
    for host, thread in ends:
        host.close()
        thread.join(2)


def reply(request: Frame, *args: int, payload: bytes = b"", status: int = 0) -> Frame:
    return replace(request, args=args, payload=payload, status=status)


@pytest.fixture(scope="session")
def agent_program(request: pytest.FixtureRequest) -> Path:
    if not shutil.which("gcc") or not shutil.which("make"):
        pytest.skip("no C compiler")
    sources = sorted([*AGENT.iterdir(), *(AGENT.parent / "include").iterdir()])
    digest = hashlib.sha256(
        b"".join(source.read_bytes() for source in sources if source.is_file())
    ).hexdigest()
    directory = Path(request.config.cache.mkdir("hostwalk-agent")) / digest[:16]
    directory.mkdir(exist_ok=True)
    built = subprocess.run(
        ["make", "-s", "-C", AGENT, f"O={directory}"], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return directory / "agent"


@pytest.fixture(scope="session")
def abi(agent_program: Path) -> Layout:
    return Layout.load(agent_program)


@pytest.fixture
def port(agent_program: Path) -> Iterator[socket.socket]:
    """The port of the real agent, running as a process of this host."""
    host, guest = socket.socketpair()
    with guest:
        process = subprocess.Popen(
            [agent_program, "--socket", str(guest.fileno())], pass_fds=[guest.fileno()]
        )
    with host:
        yield host
    try:
        assert process.wait(5) == 0
    finally:
        process.kill()


@pytest.fixture
def agent(port: socket.socket, abi: Layout) -> Agent:
    made = Agent(port, abi, seconds=5)
    made.hello()
    return made


@pytest.fixture
def subject(agent: Agent) -> Iterator[Subject]:
    with agent.spawn() as made:
        yield made


@pytest.fixture
def page_size() -> int:
    return os.sysconf("SC_PAGESIZE")
