# SPDX-License-Identifier: Apache-2.0
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.clock import ClockOffset
from agent.sockets.record import (
    Recorder,
    RecordError,
    RecordingHeader,
    RecordServer,
    read_recording,
    record_client,
)
from bpf.record import RECORD

HEADER = RecordingHeader("spec", "source", "node", "boot", ClockOffset(0, 0, 0, 0, 0))


class Agent:
    """The agent's loop in a thread: a batch of two records, then the socket."""

    def __init__(self, path: Path, allowed_uids: tuple[int, ...]) -> None:
        self.recorder = Recorder(lambda: HEADER)
        self.server = RecordServer(path, self.recorder, allowed_uids)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self) -> None:
        while not self._end.wait(0.002):
            self.recorder.write(np.zeros(2, RECORD))
            self.server.poll()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self.recorder.close()
        self.server.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "record.sock"


@pytest.fixture
def agent(path: Path) -> Iterator[Agent]:
    running = Agent(path, (os.getuid(),))
    yield running
    running.close()


def test_client_starts_and_stops_a_recording(agent: Agent, path: Path, tmp_path: Path) -> None:
    file = tmp_path / "with space.rec"
    started = record_client(path, f"START '{file}' 1000000")
    assert (started["recording"], started["file"], started["max_bytes"]) == (True, str(file), 1000000)
    assert record_client(path, "STATUS")["recording"] is True
    stopped = record_client(path, "STOP")
    assert stopped["recording"] is False
    assert stopped["write_error"] == ""
    records = read_recording(file)[1]
    assert len(records) == stopped["records"]
    assert len(records) >= 2


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("STOP", "stop: nothing is being recorded: start first"),
        ("START", "unknown command 'START': START FILE"),
        ("start /x", "unknown command 'start /x'"),
        ("", "unknown command ''"),
        ("START rel", "start rel: the agent runs elsewhere: give an absolute path"),
        ("START /x many", "START: 'many' is no number of bytes"),
        ("START /x -5", "START: '-5' is no number of bytes"),
        ("START 'x", "No closing quotation"),
        ("START /x 1 2", "unknown command 'START /x 1 2'"),
    ],
)
def test_client_with_a_wrong_command_gets_the_reason(
    agent: Agent, path: Path, command: str, reason: str
) -> None:
    with pytest.raises(RecordError, match=reason):
        record_client(path, command)
    assert record_client(path, "STATUS")["recording"] is False


def test_two_commands_in_two_pieces_are_both_answered(agent: Agent, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(str(path))
        raw.sendall(b"STATUS\nSTA")
        answers = raw.makefile("rb")
        assert json.loads(answers.readline())["recording"] is False
        raw.sendall(b"TUS\n\xff\n")
        assert json.loads(answers.readline())["recording"] is False
        assert "utf-8" in json.loads(answers.readline())["error"]


def test_client_that_sends_without_line_end_is_dropped(agent: Agent, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(str(path))
        raw.sendall(b"x" * 9000)
        assert json.loads(raw.makefile("rb").readline())["error"] == "a command has at most 8192 bytes"


def test_client_that_leaves_during_stop_harms_nobody(agent: Agent, path: Path, tmp_path: Path) -> None:
    record_client(path, f"START {tmp_path}/a")
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(path))
        raw.sendall(b"STOP\n")
    while record_client(path, "STATUS")["recording"]:
        pass
    assert len(read_recording(tmp_path / "a")[1]) > 0


def test_clients_beyond_the_limit_are_refused(agent: Agent, path: Path) -> None:
    held = []
    try:
        for _ in range(8):
            raw = socket.socket(socket.AF_UNIX)
            raw.connect(str(path))
            raw.sendall(b"STATUS\n")
            raw.settimeout(5)
            assert raw.recv(4096)
            held.append(raw)
        with pytest.raises(RecordError, match="8 clients are connected already"):
            record_client(path, "STATUS")
    finally:
        for raw in held:
            raw.close()


def test_client_of_another_user_is_refused(path: Path) -> None:
    agent = Agent(path, (os.getuid() + 1,))
    try:
        with pytest.raises(RecordError, match=f"user id {os.getuid()} may not record: ask as root"):
            record_client(path, "STATUS")
    finally:
        agent.close()


def test_socket_is_for_its_owner_only_and_goes_with_the_server(path: Path) -> None:
    server = RecordServer(path, Recorder(lambda: HEADER))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    server.close()
    assert not path.exists()


def test_server_beside_a_living_one_is_refused(agent: Agent, path: Path) -> None:
    with pytest.raises(RecordError, match="Address already in use: is another agent running here"):
        RecordServer(path, Recorder(lambda: HEADER))
    assert record_client(path, "STATUS")["recording"] is False


def test_server_replaces_the_socket_of_a_dead_one(path: Path) -> None:
    path.parent.mkdir()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    RecordServer(path, Recorder(lambda: HEADER)).close()


def test_server_does_not_replace_a_file(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(RecordError, match="Address already in use"):
        RecordServer(path, Recorder(lambda: HEADER))
    assert path.read_text() == "mine"


def test_server_at_a_path_too_long_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="too long"):
        RecordServer(tmp_path / ("x" * 120), Recorder(lambda: HEADER))


def test_client_without_agent_says_so(path: Path) -> None:
    with pytest.raises(RecordError, match=rf"record socket {path}: No such file or directory: is the agent"):
        record_client(path, "STATUS")


def test_client_of_an_agent_that_does_not_answer_times_out(path: Path) -> None:
    server = RecordServer(path, Recorder(lambda: HEADER))
    try:
        with pytest.raises(RecordError, match=r"no answer to 'STATUS' within 0\.05 s"):
            record_client(path, "STATUS", timeout_s=0.05)
    finally:
        server.close()
