import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hostwalk.deadline import Deadline
from hostwalk.errors import GuestHungError, HostwalkError, MachineDiedError
from hostwalk.machine.qmp import Event, Qmp, QmpCommandError

GREETING = {
    "QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}
}
SHUTDOWN = {
    "event": "SHUTDOWN",
    "data": {"guest": True, "reason": "guest-reset"},
    "timestamp": {"seconds": 1, "microseconds": 2},
}


def reply(request: dict[str, Any]) -> list[dict[str, Any]] | None:
    answer = {key: value for key, value in request.items() if key == "id"}
    match request["execute"]:
        case "die":
            return None
        case "sleep":
            return []
        case "bad":
            return [answer | {"error": {"class": "GenericError", "desc": "no such thing"}}]
        case "reset":
            return [SHUTDOWN, answer | {"return": {}}]
        case "human-monitor-command":
            return [answer | {"return": "one\r\ntwo\r\n" + json.dumps(request["arguments"])}]
        case _:
            return [answer | {"return": request.get("arguments", {})}]


def requests(sock: socket.socket) -> Iterator[dict[str, Any]]:
    """JSON objects, one after the other, nothing between them."""
    text = ""
    while data := sock.recv(4096):
        text += data.decode()
        try:
            request, end = json.JSONDecoder().raw_decode(text)
        except json.JSONDecodeError:
            continue
        text = text[end:].lstrip()
        yield request


def serve(sock: socket.socket) -> None:
    with sock:
        sock.sendall(json.dumps(GREETING).encode() + b"\r\n")
        for request in requests(sock):
            answers = reply(request)
            if answers is None:
                return
            for answer in answers:
                sock.sendall(json.dumps(answer).encode() + b"\r\n")


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def qmp(events: list[Event]) -> Iterator[Qmp]:
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=serve, args=(theirs,))
    server.start()
    qmp = Qmp.connect(ours, Deadline.after(5), events.append)
    yield qmp
    qmp.close(Deadline.after(5))
    server.join()


def test_a_command_returns_what_qemu_returns(qmp: Qmp) -> None:
    assert qmp.execute("echo", {"a": 1}) == {"a": 1}


def test_a_refusal_says_what_was_asked(qmp: Qmp) -> None:
    with pytest.raises(QmpCommandError, match=r"QEMU refused bad .*no such thing") as caught:
        qmp.execute("bad", {"x": 2})
    assert (caught.value.command, caught.value.arguments, caught.value.reason) == (
        "bad", {"x": 2}, "no such thing",
    )  # fmt: skip


def test_silence_ends_at_the_deadline_and_the_session_goes_on(qmp: Qmp) -> None:
    with pytest.raises(GuestHungError, match=r"did not answer sleep within 0\.02 s"):
        qmp.execute("sleep", deadline=Deadline.after(0.02))
    assert qmp.execute("echo") == {}


def test_an_ended_qemu_is_told_and_explained(qmp: Qmp) -> None:
    explained: list[HostwalkError] = []

    def explain(error: HostwalkError) -> HostwalkError:
        explained.append(error)
        return error

    qmp.explain = explain
    for _ in range(2):
        with pytest.raises(MachineDiedError):
            qmp.execute("die")
    assert len(explained) == 2


def test_events_are_noted_before_the_answer(qmp: Qmp, events: list[Event]) -> None:
    qmp.execute("reset")
    expected = Event("SHUTDOWN", {"guest": True, "reason": "guest-reset"})
    assert events == list(qmp.events) == [expected]
    assert qmp.shutdown == expected


def test_the_human_monitor_gets_the_processor(qmp: Qmp) -> None:
    text = qmp.hmp("info registers", 3)
    assert text.startswith("one\ntwo\n")
    assert json.loads(text.splitlines()[2]) == {"command-line": "info registers", "cpu-index": 3}


def test_no_greeting_is_an_ended_qemu() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(MachineDiedError, match="before it greeted"):
        Qmp.connect(ours, Deadline.after(5))
