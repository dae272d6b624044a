# SPDX-License-Identifier: Apache-2.0
import select
import socket
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from agent.naming.names import Row
from agent.sockets.watch import AgentFacts, VportFacts, WatchServer
from bpf.record import RECORD, Kind
from overhop.errors import CommandError
from overhop.running import NoAgentError, asked, read_facts, views

FACTS = AgentFacts(812, ("eth0",), (VportFacts("veth1", 3, 0, 97),), dict.fromkeys(
    ("slot_busy", "overwritten", "slot_busy_second", "ring_full", "scratch_busy"), 0
))  # fmt: skip


def names_of(records: np.ndarray) -> list[Row]:
    row: Row = ("local", "request", "shop", "a", "front", "shop", "b", "cart", "", "none", "w3c")
    return [row] * len(records)


def two_hops() -> np.ndarray:
    records = np.zeros(2, RECORD)
    records["kind_message"] = Kind.LOCAL
    records["latency_ns"] = [4_000, 8_000]
    records["first_ifindex"] = 1
    records["second_ifindex"] = 2
    records["segments"] = 1
    records["encap_context"] = 0x10
    return records


class Agent:
    """A watch server in a thread, with two hops every 20 ms."""

    def __init__(self, path: Path) -> None:
        self._server = WatchServer(path, lambda: FACTS, names_of)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            select.select([self._server], [], [], 0.02)
            self._server.add(two_hops())
            self._server.poll(time.monotonic_ns())

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        self._server.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "watch.sock"


@pytest.fixture
def agent(path: Path) -> Iterator[Agent]:
    agent = Agent(path)
    yield agent
    agent.end()


def test_read_facts_gives_what_the_agent_says(agent: Agent, path: Path) -> None:
    assert read_facts(path) == FACTS


def test_views_give_each_interval(agent: Agent, path: Path) -> None:
    first, second = islice(views(path, 0.1), 2)
    assert (first.pid, first.nic, first.vports) == (812, "eth0", 1)
    (row,) = second.rows
    assert (row.kind, row.source, row.destination) == ("local", "shop/a", "shop/b")
    assert (row.source_workload, row.destination_workload) == ("front", "cart")
    assert (row.p50_us, row.p99_us, row.max_us) == (4.0, 8.0, 8.0)
    assert 0.1 <= second.interval_s < 2


def test_views_agent_that_ends_is_an_error(path: Path) -> None:
    agent = Agent(path)
    found = views(path, 0.1)
    next(found)
    agent.end()
    with pytest.raises(CommandError, match=r"watch socket .*: the agent ended"):
        list(found)


def test_views_refused_interval_says_why(agent: Agent, path: Path) -> None:
    with pytest.raises(CommandError, match=r"watch socket .*: WATCH takes seconds, 0.1 to 60.0"):
        next(views(path, 99))


def test_views_without_an_agent_say_what_to_do(path: Path) -> None:
    with pytest.raises(
        NoAgentError, match="no agent runs in this network namespace: start it with overhop agent"
    ):
        next(views(path, 1))


def test_views_of_slow_hops_have_no_others(agent: Agent, path: Path) -> None:
    first, second = islice(views(path, 0.1, 5.0), 2)
    assert {row.p50_us for row in (*first.rows, *second.rows)} == {8.0}


def test_asked_agent_that_is_stopped_is_silent_with_the_reason(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        found = asked(812, path, patience_s=0.1)
    assert (found.pid, found.silence) == (812, f"watch socket {path}: no answer within 0.1 s")


def test_asked_agent_without_a_socket_is_only_running(path: Path) -> None:
    assert asked(812, path).silence == ""
