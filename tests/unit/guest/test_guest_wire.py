from __future__ import annotations

import socket
import threading

import pytest

from hostwalk.deadline import Deadline
from hostwalk.errors import AgentError, GuestCrashError, GuestHungError, LayoutError, MachineDiedError
from hostwalk.guest.wire import Codec, Frame, FrameStream
from hostwalk.image.layout import Layout

REQUEST = Frame(op=32, seq=7, subject=1, args=(1, -1, 3, 4, 5, 6, 7, 8), payload=b"payload")


def stream(abi: dict[str, int], **more: object) -> tuple[FrameStream, socket.socket, Codec]:
    host, guest = socket.socketpair()
    codec = Codec(abi)
    return FrameStream(host, codec, **more), guest, codec


def test_a_frame_survives(toy_abi: dict[str, int]) -> None:
    codec = Codec(toy_abi)
    data = codec.pack(REQUEST)
    assert len(data) == 112 + 7
    assert data[16:20] == b"HWLK"
    assert codec.payload_size(data[:112]) == 7
    unpacked = codec.unpack(data[:112], data[112:])
    assert unpacked.args == (1, (1 << 64) - 1, 3, 4, 5, 6, 7, 8)
    assert (unpacked.op, unpacked.seq, unpacked.subject, unpacked.payload) == (32, 7, 1, b"payload")


def test_the_real_layout_is_the_headers(abi: Layout) -> None:
    data = Codec(abi).pack(REQUEST)
    assert len(data) == 88 + 7
    assert data[:8] == b"HWLK\x20\0\0\0"


def test_a_table_without_arguments_is_refused(toy_abi: dict[str, int]) -> None:
    with pytest.raises(LayoutError, match="arguments"):
        Codec(toy_abi | {"HOSTWALK_ARGS": 6})


def test_frames_arrive_in_any_pieces(toy_abi: dict[str, int]) -> None:
    frames, guest, codec = stream(toy_abi)
    data = codec.pack(REQUEST) * 2

    def dribble() -> None:
        for at in range(0, len(data), 50):
            guest.sendall(data[at : at + 50])

    threading.Thread(target=dribble).start()
    for _ in range(2):
        assert frames.receive(Deadline.after(2), "test").payload == b"payload"


def test_what_is_no_frame_is_shown(toy_abi: dict[str, int]) -> None:
    frames, guest, codec = stream(toy_abi)
    guest.sendall(b"\xde\xad\xbe\xef" * (codec.size // 4))
    with pytest.raises(AgentError, match="deadbeef deadbeef"):
        frames.receive(Deadline.after(2), "test")


def test_an_oversize_frame_is_no_frame(toy_abi: dict[str, int]) -> None:
    frames, guest, codec = stream(toy_abi)
    guest.sendall(codec.pack(Frame(1, 1, 0, payload=bytes(4097)))[: codec.size])
    with pytest.raises(AgentError, match="no frame"):
        frames.receive(Deadline.after(2), "test")


def test_silence_ends_with_the_deadline(toy_abi: dict[str, int]) -> None:
    frames, _guest, _codec = stream(toy_abi)
    with pytest.raises(GuestHungError, match="no answer to mmap"):
        frames.receive(Deadline.after(0.02), "mmap(1)")


def test_a_watch_ends_the_wait(toy_abi: dict[str, int]) -> None:
    def watch() -> None:
        raise GuestCrashError("Kernel panic")

    frames, _guest, _codec = stream(toy_abi, watch=watch)
    deadline = Deadline.after(10)
    with pytest.raises(GuestCrashError):
        frames.receive(deadline, "mmap(1)")
    assert deadline.remaining > 9


def test_a_guest_that_takes_nothing(toy_abi: dict[str, int]) -> None:
    frames, _guest, _codec = stream(toy_abi)
    with pytest.raises(GuestHungError, match="poke"):
        frames.send(Frame(1, 1, 0, payload=bytes(1 << 22)), Deadline.after(0.02), "poke")


@pytest.mark.parametrize("sends", [True, False])
def test_a_closed_port(toy_abi: dict[str, int], sends: bool) -> None:
    frames, guest, _codec = stream(toy_abi)
    guest.close()
    with pytest.raises(MachineDiedError, match="closed during spawn"):
        frames.send(REQUEST, Deadline.after(1), "spawn") if sends else frames.receive(
            Deadline.after(1), "spawn"
        )
