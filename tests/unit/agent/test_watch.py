# SPDX-License-Identifier: Apache-2.0
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent import watch
from agent.summary import Endpoint, Records
from agent.watch import AgentFacts, VportFacts, WatchServer
from bpf.record import RECORD, Kind

FACTS = AgentFacts(
    pid=812,
    nic=("eth0",),
    vports=(VportFacts("veth1", 3, 0, 97),),
    counters={"slot_busy": 0, "overwritten": 0, "slot_busy_second": 0, "ring_full": 7, "scratch_busy": 0},
)
SECOND_NS = 1_000_000_000


def name_of(endpoint: Endpoint) -> str:
    return f"vport {endpoint.ifindex}" if endpoint.ifindex else endpoint.address


def hops(count: int, kind: Kind = Kind.LOCAL, latency_ns: int = 5_000) -> Records:
    records = np.zeros(count, RECORD)
    records["kind_message"] = kind
    records["latency_ns"] = latency_ns
    records["first_ifindex"] = 4
    records["second_ifindex"] = 6
    records["segments"] = 1
    records["encap_context"] = 0x10
    return records


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WatchServer]:
    server = WatchServer(tmp_path / "watch.sock", lambda: FACTS, name_of)
    yield server
    server.close()


class Client:
    def __init__(self, server: WatchServer) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(5)
        self.socket.connect(server.path)
        self.lines = self.socket.makefile("rb")

    def send(self, text: str) -> None:
        self.socket.sendall(text.encode())

    def line(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.lines.readline())
        return found

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def client(server: WatchServer) -> Iterator[Client]:
    client = Client(server)
    yield client
    client.close()


def has_nothing_to_read(client: Client) -> bool:
    client.socket.setblocking(False)
    try:
        client.socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        client.socket.settimeout(5)
    return False


def test_socket_is_for_its_owner_only_and_goes_with_the_server(tmp_path: Path) -> None:
    server = WatchServer(tmp_path / "s", lambda: FACTS, name_of)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    server.close()
    assert not (tmp_path / "s").exists()


def test_status_answers_with_the_facts(server: WatchServer, client: Client) -> None:
    client.send("STATUS\n")
    server.poll(0)
    assert client.line() == {
        "pid": 812,
        "nic": ["eth0"],
        "vports": [{"name": "veth1", "tls": 3, "http2": 0, "requests": 97}],
        "counters": dict(FACTS.counters),
        "output": None,
    }


def test_watch_sends_the_interval_when_it_is_over(server: WatchServer, client: Client) -> None:
    client.send("WATCH 2\n")
    server.poll(10 * SECOND_NS)
    server.add(hops(3))
    server.poll(12 * SECOND_NS - 1)
    assert has_nothing_to_read(client)
    server.poll(12 * SECOND_NS)
    assert client.line() == {
        "pid": 812,
        "nic": "eth0",
        "vports": 1,
        "interval_s": 2.0,
        "rows": [
            {
                "kind": "local",
                "source": "vport 4",
                "destination": "vport 6",
                "count": 3,
                "p50_us": 5.0,
                "p99_us": 5.0,
                "max_us": 5.0,
                "quality": {},
            }
        ],
        "not_shown": 0,
        "lost": {"ring_full": 7},
    }


def test_watch_second_interval_has_only_its_own_hops(server: WatchServer, client: Client) -> None:
    client.send("WATCH 1\n")
    server.poll(0)
    server.add(hops(3))
    server.poll(SECOND_NS)
    server.poll(2 * SECOND_NS)
    assert client.line()["rows"] != []
    assert client.line()["rows"] == []


def test_add_while_nobody_watches_keeps_nothing(server: WatchServer, client: Client) -> None:
    server.poll(0)
    server.add(hops(3))
    client.send("WATCH 1\n")
    server.poll(0)
    server.poll(SECOND_NS)
    assert client.line()["rows"] == []


def test_watch_more_hops_than_are_kept_are_counted(
    server: WatchServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_RECORDS", 10)
    client.send("WATCH 1\n")
    server.poll(0)
    server.add(hops(7))
    server.add(hops(7))
    server.poll(SECOND_NS)
    view = client.line()
    assert [row["count"] for row in view["rows"]] == [10]  # type: ignore[attr-defined]  # parsed JSON
    assert view["not_shown"] == 4


def test_client_that_does_not_read_gets_no_more_than_one_view_behind(server: WatchServer) -> None:
    records = hops(500, Kind.FORWARD)
    records["src"] = [index.to_bytes(16, "big") for index in range(500)]
    client = Client(server)
    client.send("WATCH 1\n")
    server.poll(0)
    for second in range(1, 21):
        server.add(records)
        server.poll(second * SECOND_NS)
    seen = 0
    while not has_nothing_to_read(client) or seen == 0:
        seen += len(client.line()["rows"])  # type: ignore[arg-type]  # parsed JSON
        server.poll(20 * SECOND_NS)
    assert 500 <= seen < 20 * 500
    client.close()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("WATCH 0\n", "WATCH takes seconds, 0.1 to 60.0"),
        ("WATCH nan\n", "WATCH takes seconds, 0.1 to 60.0"),
        ("WATCH\n", "WATCH takes seconds, 0.1 to 60.0"),
        ("GO\n", "unknown command: STATUS or WATCH SECONDS [NS]"),
        ("x" * 300, "a command has at most 256 bytes"),
    ],
)
def test_wrong_command_is_refused_with_the_reason(
    server: WatchServer, client: Client, command: str, reason: str
) -> None:
    client.send(command)
    server.poll(0)
    server.poll(0)
    assert client.line() == {"error": reason}
    assert client.lines.readline() == b""


def test_client_that_goes_away_is_forgotten(server: WatchServer) -> None:
    for _ in range(watch.MAX_CLIENTS + 2):
        client = Client(server)
        client.send("WATCH 1\n")
        server.poll(0)
        client.close()
        server.poll(2 * SECOND_NS)
    last = Client(server)
    last.send("STATUS\n")
    server.poll(0)
    assert last.line()["pid"] == 812
    last.close()


def test_clients_beyond_the_limit_are_refused(server: WatchServer) -> None:
    clients = []
    for _ in range(watch.MAX_CLIENTS + 1):
        clients.append(Client(server))
        server.poll(0)
    assert clients[-1].line() == {"error": "8 clients are connected already: try later"}
    for client in clients:
        client.close()
