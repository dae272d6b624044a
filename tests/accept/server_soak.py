# SPDX-License-Identifier: Apache-2.0
"""A server that is stopped, killed and has a full disk, while two agents send it 5,000 hops/s (issue 5).

`./dev accept server-soak [--seconds N] [--server influxdb1]`; a short form: tests/e2e/test_server_soak.py.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.sockets.record import record_client
from store.influxdb.admin import init
from store.influxdb.http import Connection
from store.influxdb.target import Secret, measurement, parse_target
from store.schema import EVENT, HOP_SAMPLE, TABLES
from tests.accept.agents import AgentProcess
from tests.accept.lifecycle import Stage, stage
from tests.accept.lines import Line
from tests.accept.store_disk import fill, small_disk
from tests.accept.traffic import SteadyLoad
from tests.accept.verdict import Verdict, until
from tests.servers import Server, influxdb1, influxdb2

RATE_HZ = 2900.0
"""Of requests between the nodes: each is a tx and an rx hop. Loads of a second with pauses between them: that
more than 2,500 a second come of it is checked.
"""
LEAST_HOPS_PER_S = 5000.0
SECONDS = 600.0
FIELD = {HOP_SAMPLE.name: "latency_ns", EVENT.name: "state"}
"""A field of every row of a table; of the others `count`."""
DRAIN_TIMEOUT_S = 120.0
OPEN_INTERVAL_S = 10.0
SETTLE_S = 3.0
"""Between a sign of an agent's life and its kill: its rows of the last second."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Two nodes with an agent each, a server outside the cluster on a small disk, requests."""

    place: Stage
    server: Server
    disk: Path
    agents: tuple[AgentProcess, ...]
    load: SteadyLoad
    spool: Path
    begun_s: float
    """When requests began, CLOCK_MONOTONIC."""
    is_full_load: bool

    def connection(self) -> Connection:
        """To be used within `server.entered()`."""
        return _connection(self.server)


def _connection(server: Server) -> Connection:
    return Connection(parse_target(server.target), Secret(server.token) if server.token else None)


@contextmanager
def scene(kind: str, rate_hz: float) -> Iterator[Scene]:
    """All of it, gone at the end."""
    with ExitStack() as stack:
        place = stack.enter_context(stage())
        disk = stack.enter_context(small_disk(place.directory / "disk", 256 << 20))
        outside = place.lab.external
        files = place.directory / "server"
        files.mkdir()
        make = influxdb2 if kind == "influxdb2" else influxdb1
        host = str(outside.address)
        server = stack.enter_context(make(files, disk / "data", host=host, netns=outside.netns))
        with server.entered(), _connection(server) as connection:
            init(connection)
        spool = place.directory / "spool"
        agents = []
        for node in place.lab.nodes:
            token = ("--store-token-file", str(server.token_file)) if server.token else ()
            store = ("--store", server.target, *token, "--spool", str(spool), "--cluster", "soak")
            agents.append(AgentProcess(node, place.directory, node.plan(), store))
        for agent in agents:
            stack.enter_context(agent)
        load = stack.enter_context(SteadyLoad(place.client, place.server, rate_hz))
        is_full = rate_hz >= RATE_HZ
        yield Scene(place, server, disk, tuple(agents), load, spool, time.monotonic(), is_full)


def server_soak(kind: str, seconds: float = SECONDS, rate_hz: float = RATE_HZ) -> Verdict:
    """Afterwards each row is there, once, and counts are the kernel's."""
    verdict = Verdict(f"{kind} stopped, killed, with a full disk")
    with scene(kind, rate_hz) as now:
        at = _Timeline(seconds)
        at.wait(0.08)
        now.server.stop()
        at.wait(0.38)  # three of ten minutes
        trouble = [_spool(agent) for agent in now.agents]
        verdict.equal("said why rows wait", [bool(each["error"]) for each in trouble], [True, True])
        waiting = sum(sum(each["waiting"].values()) for each in trouble)
        verdict.numbers["rows waiting while it was stopped"] = waiting
        now.server.start()
        at.wait(0.5)
        now.server.kill()
        now.server.start()
        at.wait(0.6)
        fill(now.disk / "filler")
        at.wait(0.7)
        causes = {_cause(_spool(agent)["error"]) for agent in now.agents}
        verdict.numbers["said of the full disk"] = sorted(causes)
        (now.disk / "filler").unlink()
        now.server.kill()  # it does not recover by itself: docs/spool.md
        now.server.start()
        at.wait(1.0)
        _end(verdict, now)
    return verdict


def agent_soak(kind: str, seconds: float = SECONDS, rate_hz: float = RATE_HZ) -> Verdict:
    """kill -9 in the middle: what is lost is the ring and the open interval, and an event says it."""
    verdict = Verdict(f"{kind}, the agent killed")
    with scene(kind, rate_hz) as now:
        at, agent = _Timeline(seconds), now.agents[0]
        at.wait(0.5)
        stored_before = _status(agent)["output"]
        before = {"hops": stored_before["totals"]["hops"] + stored_before["totals"]["retransmitted"]}
        records = _status(agent)["counters"]["records"]
        agent.kill()
        killed_s = time.monotonic()
        verdict.numbers["restart_s"] = round(agent.start(), 2)
        away_s = time.monotonic() - killed_s
        at.wait(1.0)
        _end(verdict, now, killed=agent)
        verdict.numbers["hops of the killed agent that were in rows"] = before["hops"]
        open_hops = records - before["hops"]
        verdict.numbers["hops in its open interval and ring"] = open_hops
        verdict.at_most("open interval, s of hops", open_hops / rate_hz, OPEN_INTERVAL_S + 1.5)
        verdict.numbers["s without an agent"] = round(away_s, 2)
        with now.server.entered(), now.connection() as connection:
            hops = _sum(connection, agent.node.name)
            sent = now.load.requests
            lost = sent - hops
            verdict.numbers |= {"requests": sent, "hops stored": hops}
            verdict.at_most("hops lost, s of them", lost / rate_hz, OPEN_INTERVAL_S + 1.5 + away_s)
            where = f"\"what\" = 'gap' AND \"node\" = '{agent.node.name}'"
            statement = f'SELECT "state" FROM "event" WHERE {where}'
            [gaps] = connection.influxql(connection.target.bucket(EVENT), [statement])
            said = [row[1] for block in gaps for row in block.values]
        verdict.equal("the gap is an event", said, ["agent killed"])
    return verdict


class _Timeline:
    """Moments as shares of the whole."""

    def __init__(self, seconds: float) -> None:
        self._begun_s = time.monotonic()
        self._seconds = seconds

    def wait(self, share: float) -> None:
        end_s = self._begun_s + share * self._seconds
        until(time.monotonic, lambda now_s: now_s >= end_s, self._seconds + 60)


def _end(verdict: Verdict, now: Scene, killed: AgentProcess | None = None) -> None:
    """Traffic ends, spools run empty, agents end; then everything is counted."""
    now.load.__exit__(None, None, None)
    now.load.check(verdict)
    per_s = 2 * now.load.requests / max(time.monotonic() - now.begun_s, 1.0)
    verdict.numbers["hops/s"] = round(per_s)
    if now.is_full_load:
        verdict.equal("fewer hops/s than 5,000", per_s < LEAST_HOPS_PER_S, False)
    for agent in now.agents:
        until(lambda agent=agent: _is_sent(agent), bool, DRAIN_TIMEOUT_S)  # type: ignore[misc]  # bound now
    totals = {agent.node.name: agent.terminate() for agent in now.agents}
    with now.server.entered(), now.connection() as connection:
        for agent in now.agents:
            node, is_whole = agent.node.name, agent is not killed
            _check_node(verdict, connection, node, totals[node], is_whole=is_whole)
    left = sum(1 for _ in now.spool.glob("*/*/*.seg"))
    verdict.equal("segments left in the spool", left, 0)


def _check_node(
    verdict: Verdict, connection: Connection, node: str, said: dict[str, Any], *, is_whole: bool
) -> None:
    """What reached the spool is in the server, once; of a whole life the hops are the kernel's records."""
    stored, spool = said["stored"], said["stored"]["spool"]
    verdict.equal(f"{node}: counters that do not add up", any(said["imbalances"].values()), False)
    verdict.equal(f"{node}: lost before the spool", stored["dropped"], {})
    for reason in ("rejected", "no_room", "too_old", "damaged"):
        verdict.equal(f"{node}: {reason}", sum(spool[reason].values()), 0)
    verdict.equal(f"{node}: rows that wait", sum(spool["waiting"].values()), 0)
    there = {table.name: _rows(connection, table.name, node) for table in TABLES}
    verdict.equal(f"{node}: rows in the server and sent", there, spool["sent"])
    if is_whole:
        verdict.equal(f"{node}: rows in the server and in the spool", there, dict(stored["rows"]))
        hops = _sum(connection, node)
        verdict.equal(
            f"{node}: hops in the server and the kernel's records", hops, said["counters"]["records"]
        )
    verdict.numbers[f"{node} rows"] = sum(there.values())
    verdict.numbers[f"{node} records"] = said["counters"]["records"]


def _rows(connection: Connection, table: str, node: str) -> int:
    """A point is a row: equal tags and times would be one."""
    which = next(each for each in TABLES if each.name == table)
    source, field = measurement(connection.target, which), FIELD.get(table, "count")
    statement = f'SELECT count("{field}") FROM "{source}" WHERE "node" = \'{node}\''
    [found] = connection.influxql(connection.target.bucket(which), [statement])
    return int(found[0].values[0][1]) if found else 0


def _sum(connection: Connection, node: str) -> int:
    """Hops that the 10 s rows count."""
    statement = f'SELECT sum("count"), sum("retransmitted") FROM "hop" WHERE "node" = \'{node}\''
    [found] = connection.influxql(connection.target.bucket(TABLES[0]), [statement])
    return sum(found[0].values[0][1:]) if found else 0


def _status(agent: AgentProcess) -> dict[str, Any]:
    said: dict[str, Any] = record_client(agent.socket("watch"), "STATUS")
    return said


def _spool(agent: AgentProcess) -> dict[str, Any]:
    spool: dict[str, Any] = _status(agent)["output"]["store"]["spool"]
    return spool


def _is_sent(agent: AgentProcess) -> bool:
    """All but the rows of the last moment."""
    spool = _spool(agent)
    return spool["error"] is None and sum(spool["waiting"].values()) < 5_000


def _cause(error: str | None) -> str:
    """Without the server's own words, which have paths."""
    return "nothing" if error is None else error.split(": ")[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Both runs; exit code 1 on FAIL."""
    parser = argparse.ArgumentParser(prog="./dev accept server-soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each run, default %(default)s")
    parser.add_argument("--rate", type=float, default=RATE_HZ, help="requests/s, default %(default)s")
    parser.add_argument("--server", choices=("influxdb2", "influxdb1"), default="influxdb2")
    given = parser.parse_args(arguments)
    failed = False
    for run in (server_soak, agent_soak):
        line = Line.of(run(given.server, given.seconds, given.rate))
        print(line, flush=True)
        failed |= not line.passed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
