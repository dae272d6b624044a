# SPDX-License-Identifier: Apache-2.0
import os
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from agent import unix_socket

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


def test_listen_replaces_a_stale_socket_and_refuses_a_live_one(tmp_path: Path) -> None:
    path = leave_stale(tmp_path / "watch-7.sock")
    with closing(unix_socket.listen(str(path), 1)):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(OSError, match="Address already in use"):
            unix_socket.listen(str(path), 1)
