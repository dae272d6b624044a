# SPDX-License-Identifier: Apache-2.0
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.hops.records import Records
from agent.naming.names import Row
from agent.sockets import watch
from agent.sockets.watch import AgentFacts, VportFacts, WatchServer
from agent.storing.output import OutputFacts, Totals
from agent.storing.store import StoreFacts
from bpf.record import RECORD, Kind

FACTS = AgentFacts(
    pid=812,
    nic=("eth0",),
    vports=(VportFacts("veth1", 3, 0, 97),),
    counters={"slot_busy": 0, "overwritten": 0, "slot_busy_second": 0, "ring_full": 7, "scratch_busy": 0},
    node="n1",
    window=4096,
)
SECOND_NS = 1_000_000_000


def names_of(records: Records) -> list[Row]:
    """Local hops are from shop/a to shop/b, others between addresses that nobody knows."""
    local: Row = ("local", "request", "shop", "a", "front", "shop", "b", "cart", "shop/cart", "none", "w3c")
    other: Row = ("forward", "request", "", "", "unknown", "", "", "unknown", "", "none", "w3c")
    return [local if int(one["kind_message"]) == Kind.LOCAL else other for one in records]


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
    server = WatchServer(tmp_path / "watch.sock", lambda: FACTS, names_of)
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
    server = WatchServer(tmp_path / "s", lambda: FACTS, names_of)
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
        "node": "n1",
        "output": None,
        "window": 4096,
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
        "node": "n1",
        "nic": "eth0",
        "vports": 1,
        "interval_s": 2.0,
        "rows": [
            {
                "kind": "local",
                "source": "shop/a",
                "destination": "shop/b",
                "service": "shop/cart",
                "count": 3,
                "p50_us": 5.0,
                "p99_us": 5.0,
                "max_us": 5.0,
                "quality": {},
                "source_namespace": "shop",
                "source_workload": "front",
                "destination_namespace": "shop",
                "destination_workload": "cart",
            }
        ],
        "not_shown": 0,
        "lost": {"ring_full": 7},
        "store_problem": "",
    }


def test_watch_with_a_least_latency_counts_slower_hops_only(server: WatchServer, client: Client) -> None:
    client.send("WATCH 1 5000\n")
    server.poll(0)
    server.add(hops(3, latency_ns=4_999))
    server.add(hops(2, latency_ns=5_000))
    server.poll(SECOND_NS)
    assert [row["count"] for row in client.line()["rows"]] == [2]  # type: ignore[attr-defined]  # parsed JSON


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (StoreFacts("/s", appended={"event": 9}), ""),
        (StoreFacts("/s", waiting={"event": 9}), ""),
        (StoreFacts("/s", dropped={"event": 1200, "hop_10s": 34}), "1,234 rows dropped since start"),
        (
            StoreFacts("/s", waiting={"event": 5}, dropped={"event": 7}, error="/s: No space left on device"),
            "/s: No space left on device, 5 rows wait, 7 rows dropped since start",
        ),
        (StoreFacts("/s", ahead_ns=5_400 * SECOND_NS), "row times 5,400 s ahead of the clock"),
    ],
)
def test_watch_says_what_the_store_does_not_take(tmp_path: Path, store: StoreFacts, expected: str) -> None:
    facts = replace(FACTS, output=OutputFacts(store, Totals(), {}))
    server = WatchServer(tmp_path / "s", lambda: facts, names_of)
    client = Client(server)
    client.send("WATCH 1\n")
    server.poll(0)
    server.poll(SECOND_NS)
    assert client.line()["store_problem"] == expected
    client.close()
    server.close()


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
    monkeypatch.setattr(watch, "MAX_HOPS", 10)
    client.send("WATCH 1\n")
    server.poll(0)
    server.add(hops(7))
    server.add(hops(7))
    server.poll(SECOND_NS)
    view = client.line()
    assert [row["count"] for row in view["rows"]] == [10]  # type: ignore[attr-defined]  # parsed JSON
    assert view["not_shown"] == 4


def test_watch_more_ends_than_are_kept_are_counted(server: WatchServer, client: Client) -> None:
    client.send("WATCH 1\n")
    server.poll(0)
    records = hops(5_000, Kind.FORWARD)
    records["src"] = [index.to_bytes(16, "big") for index in range(5_000)]
    server.add(records)
    server.poll(SECOND_NS)
    view = client.line()
    assert len(view["rows"]) == 500  # type: ignore[arg-type]  # parsed JSON
    assert view["not_shown"] == 4_500


def test_watch_clients_share_what_may_be_kept(
    server: WatchServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_HOPS", 10)
    other = Client(server)
    for each in (client, other):
        each.send("WATCH 1\n")
    server.poll(0)
    server.poll(SECOND_NS)
    server.add(hops(7))
    server.poll(2 * SECOND_NS)
    for each in (client, other):
        assert each.line()["rows"] == []
        view = each.line()
        assert [row["count"] for row in view["rows"]] == [5]  # type: ignore[attr-defined]  # parsed JSON
        assert view["not_shown"] == 2
    other.close()


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
        ("WATCH 1 x\n", "the least latency of WATCH is a number of ns below 2^32"),
        ("WATCH 1 4294967296\n", "the least latency of WATCH is a number of ns below 2^32"),
        ("WATCH 1 1 1\n", "the least latency of WATCH is a number of ns below 2^32"),
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
