# SPDX-License-Identifier: Apache-2.0
"""An agent on a node of a lab, and the store that it fills."""

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.sockets.record import record_client
from overhop.lab import Lab, Node, Pod
from store.embedded import EmbeddedStore
from store.query import Span, TraceId, Where
from tests.accept.agents import AgentProcess
from tests.accept.verdict import until
from tests.require import require_commands

ALL = Span(0, 1 << 62)
ANY = Where()
READABLE_S = 2.0
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A client's pod on n1, a server's on n2."""

    n1: Node
    n2: Node
    client: Pod
    server: Pod


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool", "tc")
    with Lab.make() as lab:
        n1, n2 = lab.nodes
        client, server = n1.pod("client"), n2.pod("server", namespace="shop", workload="web")
        server.serve_http(80)
        yield Stage(n1, n2, client, server)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def agent_on(node: Node, directory: Path, store: Path, name: str = "n2") -> AgentProcess:
    return AgentProcess(node, directory, node.plan(), arguments=("--store", str(store), "--node", name))


def output_of(agent: AgentProcess) -> dict[str, Any]:
    """What its status says of the store."""
    status = record_client(agent.socket("watch"), "STATUS")
    output: dict[str, Any] = status["output"]  # type: ignore[assignment]  # JSON of our own agent
    return output


def rows_of(store: Path, table: str) -> dict[str, np.ndarray]:
    reader = EmbeddedStore(store)
    try:
        if table == "event":
            return dict(reader.events(ALL))
        if table == "hop_sample":
            return dict(reader.samples(ALL, ANY, limit=10_000_000))
        return dict(reader.summaries(ALL, ANY, table))
    finally:
        reader.close()


def events_of(store: Path, what: str) -> list[tuple[str, int, int]]:
    """State, since and time of each."""
    rows = rows_of(store, "event")
    chosen = rows["what"] == what
    return list(
        zip(
            rows["state"][chosen].tolist(),
            rows["since"][chosen].tolist(),
            rows["time"][chosen].tolist(),
            strict=True,
        )
    )


def test_agent_in_the_lab_stores_every_hop_and_all_adds_up(stage: Stage, tmp_path: Path, store: Path) -> None:
    with agent_on(stage.n2, tmp_path, store) as agent:
        stage.client.http(stage.server, requests=6_000, connections=16).require_ok()
        totals = agent.terminate()
    records = totals["counters"]["records"]
    assert records == 6_000
    assert {name: value for name, value in totals["imbalances"].items() if value} == {}
    stored = totals["stored"]
    assert stored["dropped"] == {}
    for table in ("hop_10s", "hop_1m", "hop_10m"):
        rows = rows_of(store, table)
        assert int(rows["count"].sum() + rows["retransmitted"].sum()) == 6_000
        assert set(rows["dst_workload"]) == {"web"}
        assert set(rows["dst_ns"]) == {"shop"}
        assert set(rows["node"]) == {"n2"}
        assert len(rows["time"]) == stored["rows"][table]
    samples = rows_of(store, "hop_sample")
    assert len(samples["time"]) == stored["rows"]["hop_sample"] == stored["samples"]
    assert stored["samples"] + stored["samples_not_kept"] == 6_000
    assert set(samples["dst_pod"]) == {"server"}
    assert [state for state, _, _ in events_of(store, "agent")] == ["started", "stopped"]
    assert store.stat().st_mode & 0o777 == 0o700


def test_agent_request_is_in_the_store_within_two_seconds(stage: Stage, tmp_path: Path, store: Path) -> None:
    with agent_on(stage.n2, tmp_path, store) as agent:
        took_s = []
        for _ in range(3):
            sent = stage.client.http(stage.server, requests=1)
            asked_s = time.monotonic()
            found = until(partial(hops_of, store, bytes(sent.trace_ids[0])), bool, TIMEOUT_S)
            took_s.append(time.monotonic() - asked_s)
            assert found == 1
        agent.terminate()
    assert min(took_s) < READABLE_S, took_s


def hops_of(store: Path, trace: bytes) -> int:
    reader = EmbeddedStore(store)
    try:
        return len(reader.trace(TraceId(int.from_bytes(trace[:8]), int.from_bytes(trace[8:])))["time"])
    finally:
        reader.close()


def test_agent_killed_and_started_again_leaves_a_gap_and_no_row_twice(
    stage: Stage, tmp_path: Path, store: Path
) -> None:
    agent = agent_on(stage.n2, tmp_path, store)
    with agent:
        stage.client.http(stage.server, requests=500, connections=4).require_ok()
        until(lambda: output_of(agent)["totals"]["samples"], lambda count: count == 500, TIMEOUT_S)
        agent.kill()
        killed_ns = time.time_ns()
        agent.start()
        stage.client.http(stage.server, requests=500, connections=4).require_ok()
        totals = agent.terminate()
    assert totals["counters"]["records"] == 500
    [(state, since_ns, time_ns)] = events_of(store, "gap")
    assert state == "agent killed"
    assert killed_ns - 3_000_000_000 < since_ns <= killed_ns < time_ns
    samples = rows_of(store, "hop_sample")
    keys = set(zip(samples["mono_ns"].tolist(), samples["seq"].tolist(), strict=True))
    assert len(samples["time"]) == len(keys) == 1_000
    assert len(set(samples["time"].tolist())) == 1_000
    assert [state for state, _, _ in events_of(store, "agent")] == ["started", "started", "stopped"]


def test_agent_whose_writer_is_killed_goes_on_and_starts_it_again(
    stage: Stage, tmp_path: Path, store: Path
) -> None:
    with agent_on(stage.n2, tmp_path, store) as agent:
        first = until(lambda: output_of(agent)["store"]["writer"]["pid"], bool, TIMEOUT_S)
        os.kill(first, signal.SIGKILL)
        stage.client.http(stage.server, requests=100).require_ok()
        writer = until(
            lambda: output_of(agent)["store"]["writer"],
            lambda found: found["pid"] not in (0, first),
            TIMEOUT_S,
        )
        assert writer["deaths"] == 1
        totals = agent.terminate()
        assert not Path(f"/proc/{writer['pid']}").exists()
    assert totals["counters"]["records"] == 100
    assert totals["stored"]["dropped"] == {}
    states = [state for state, _, _ in events_of(store, "writer")]
    assert states[:3] == ["running", "ended", "running"]


def test_agents_of_one_store_have_one_writer(stage: Stage, tmp_path: Path, store: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with agent_on(stage.n1, one, store, "n1") as first:
        until(lambda: output_of(first)["store"]["writer"]["pid"], bool, TIMEOUT_S)
        until((store / "writer.lock").exists, bool, TIMEOUT_S)
        with agent_on(stage.n2, two, store, "n2") as second:
            second.await_line("another process works instead of the store's writer", TIMEOUT_S)
            assert output_of(second)["store"]["writer"] == {"pid": 0, "elsewhere": True, "deaths": 0}
            stage.client.http(stage.server, requests=50).require_ok()
            second.terminate()
        first.terminate()
    samples = rows_of(store, "hop_sample")
    assert sorted(set(samples["node"])) == ["n1", "n2"]
    assert len(samples["time"]) == 100


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
    disk = tmp_path / f"disk-{secrets.token_hex(3)}"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "overhop-test", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_agent_with_a_full_disk_goes_on_says_so_and_recovers(
    stage: Stage, tmp_path: Path, small_disk: Path
) -> None:
    store = small_disk / "store"
    with agent_on(stage.n2, tmp_path, store) as agent:
        stage.client.http(stage.server, requests=100).require_ok()
        until(lambda: output_of(agent)["totals"]["samples"], lambda count: count == 100, TIMEOUT_S)
        filler = small_disk / "filler"
        fill(filler)
        stage.client.http(stage.server, requests=2_000, connections=4).require_ok()
        agent.await_line("rows cannot be stored, they wait in memory", TIMEOUT_S)
        facts = output_of(agent)["store"]
        assert "No space left on device" in facts["error"]
        assert facts["waiting"]["hop_sample"] > 0
        filler.unlink()
        agent.await_line("rows are stored again", TIMEOUT_S)
        stage.client.http(stage.server, requests=100).require_ok()
        totals = agent.terminate()
        assert len(agent.lines("rows cannot be stored, they wait in memory")) == 1
        assert len(agent.lines("rows are stored again")) == 1
    assert totals["counters"]["records"] == 2_200
    assert totals["stored"]["dropped"] == {}
    rows = rows_of(store, "hop_10s")
    assert int(rows["count"].sum() + rows["retransmitted"].sum()) == 2_200
    assert len(rows_of(store, "hop_sample")["time"]) == 2_200
    assert [state for state, _, _ in events_of(store, "store")] == ["good", "trouble", "good"]


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
