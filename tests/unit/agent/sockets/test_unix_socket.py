# SPDX-License-Identifier: Apache-2.0
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.sockets import unix_socket

BINDS_AND_DIES = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen(1)
    os._exit(0)
"""
"""As an agent that was killed: the file stays."""


def leave_stale(path: Path) -> Path:
    subprocess.run([sys.executable, "-c", BINDS_AND_DIES, str(path)], check=True)
    assert path.is_socket()
    return path


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_remove_stale_of_a_dead_listener_removes_its_socket(tmp_path: Path) -> None:
    leave_stale(tmp_path / "record-4026531840.sock")
    leave_stale(tmp_path / "watch-4026531840.sock")
    assert unix_socket.remove_stale(tmp_path) == ["record-4026531840.sock", "watch-4026531840.sock"]
    assert names(tmp_path) == ["sockets.lock"]
    assert unix_socket.remove_stale(tmp_path) == []


def test_remove_stale_leaves_a_socket_that_somebody_listens_at(tmp_path: Path) -> None:
    with closing(unix_socket.listen(str(tmp_path / "watch-7.sock"), 1)) as listener:
        assert unix_socket.remove_stale(tmp_path) == []
        assert names(tmp_path) == ["sockets.lock", "watch-7.sock"]
        listener.accept()[0].close()  # the question was a connection


def test_remove_stale_leaves_a_listener_whose_queue_is_full(tmp_path: Path) -> None:
    path = tmp_path / "watch-7.sock"
    callers = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(2)]
    with closing(unix_socket.listen(str(path), 0)):
        callers[0].connect(str(path))
        with pytest.raises(BlockingIOError):
            callers[1].connect(str(path))
        assert unix_socket.remove_stale(tmp_path) == []
    for caller in callers:
        caller.close()
    assert unix_socket.remove_stale(tmp_path) == ["watch-7.sock"]


@pytest.mark.parametrize(
    "name", ["other-7.sock", "watch-7", "watch-.sock", "watch-7.sock.bak", "watch-x.sock"]
)
def test_remove_stale_leaves_sockets_of_other_names(tmp_path: Path, name: str) -> None:
    leave_stale(tmp_path / name)
    assert unix_socket.remove_stale(tmp_path) == []
    assert (tmp_path / name).is_socket()


def test_remove_stale_leaves_what_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "watch-7.sock").write_text("")
    (tmp_path / "record-7.sock").symlink_to(leave_stale(tmp_path / "theirs"))
    assert unix_socket.remove_stale(tmp_path) == []
    assert names(tmp_path) == ["record-7.sock", "sockets.lock", "theirs", "watch-7.sock"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: gives a socket to somebody else")
def test_remove_stale_leaves_what_is_somebody_elses(tmp_path: Path) -> None:
    os.chown(leave_stale(tmp_path / "watch-7.sock"), 65534, 65534)
    assert unix_socket.remove_stale(tmp_path) == []


def test_remove_stale_without_a_directory_finds_nothing(tmp_path: Path) -> None:
    assert unix_socket.remove_stale(tmp_path / "none") == []
    assert names(tmp_path) == []


def test_remove_stale_while_a_socket_is_bound_and_not_yet_listening_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "watch-7.sock")
    removed: list[list[str]] = []
    sweeper = threading.Thread(target=lambda: removed.append(unix_socket.remove_stale(tmp_path)))

    class SlowListener(socket.socket):
        def listen(self, backlog: int = 1, /) -> None:
            sweeper.start()
            sweeper.join(0.2)
            assert removed == []
            super().listen(backlog)

    monkeypatch.setattr(socket, "socket", SlowListener)
    listener = unix_socket.listen(path, 1)
    sweeper.join()
    assert removed == [[]]
    assert Path(path).is_socket()
    listener.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[unix_socket.LineServer]:
    made = unix_socket.LineServer(tmp_path / "watch-7.sock", 2, 16)
    yield made
    made.close()


@pytest.fixture
def pair(server: unix_socket.LineServer) -> Iterator[tuple[socket.socket, unix_socket.LineClient]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as far:
        far.connect(server.path)
        (near,) = server.accept(0)
        yield far, near
        near.close()


def test_client_gives_whole_lines_in_order_and_reads_no_more_meanwhile(
    pair: tuple[socket.socket, unix_socket.LineClient],
) -> None:
    far, near = pair
    far.sendall(b"one\ntwo\nthr")
    near.receive()
    far.sendall(b"ee\n")
    near.receive()
    assert [near.next_line() for _ in range(3)] == [b"one", b"two", None]
    near.receive()
    assert [near.next_line() for _ in range(2)] == [b"three", None]


def test_client_whose_line_is_too_long_is_told_and_dropped(
    pair: tuple[socket.socket, unix_socket.LineClient],
) -> None:
    far, near = pair
    far.sendall(b"x" * 17)
    near.receive()
    near.receive()
    assert not near.open
    assert far.recv(100) == b'{"error":"a command has at most 16 bytes"}\n'
    assert near.next_line() is None


def test_client_that_reads_nothing_is_dropped_before_it_costs_much(
    pair: tuple[socket.socket, unix_socket.LineClient],
) -> None:
    _, near = pair
    answers = 0
    while near.open:
        near.send({"text": "x" * 10_000})
        answers += 1
    assert 100 < answers < 200


def test_client_that_reads_late_gets_everything(pair: tuple[socket.socket, unix_socket.LineClient]) -> None:
    far, near = pair
    near.send({"text": "x" * 500_000})
    assert near.has_unsent
    got = b""
    while len(got) < 500_012:
        got += far.recv(1 << 16)
        near.flush()
    assert got == b'{"text":"' + b"x" * 500_000 + b'"}\n'
    assert not near.has_unsent


def test_accept_beyond_the_limit_tells_and_drops(server: unix_socket.LineServer) -> None:
    callers = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2)]
    for caller in callers:
        caller.connect(server.path)
    taken = server.accept(1)
    assert [client.uid() for client in taken] == [os.getuid()]
    assert callers[1].recv(100) == b'{"error":"2 clients are connected already: try later"}\n'
    for caller in callers:
        caller.close()
    taken[0].close()


def test_listen_replaces_a_stale_socket_and_refuses_a_live_one(tmp_path: Path) -> None:
    path = leave_stale(tmp_path / "watch-7.sock")
    with closing(unix_socket.listen(str(path), 1)):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(OSError, match="Address already in use"):
            unix_socket.listen(str(path), 1)


def test_default_path_names_the_network_namespace() -> None:
    inode = os.stat("/proc/self/ns/net").st_ino
    assert unix_socket.default_path("record") == Path(f"/run/overhop/record-{inode}.sock")
    assert unix_socket.path_of("watch", 4026531840) == Path("/run/overhop/watch-4026531840.sock")
