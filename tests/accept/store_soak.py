# SPDX-License-Identifier: Apache-2.0
"""Agents, writer and readers killed in turn under load: no acknowledged row is lost, none is there twice.

Two agents on two nodes store into one directory. A row is acknowledged once its agent says so (STATUS).
`./dev accept store-soak [--seconds N]`; tests/e2e/test_store_soak.py runs a short form.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent.sockets.record import record_client
from overhop.lab import Node
from store.reading import RowReader
from store.schema import HOP_10S, HOP_SAMPLE, TABLES
from tests.accept import store_look
from tests.accept.agents import AgentProcess
from tests.accept.lifecycle import stage
from tests.accept.lines import ROOT, Line
from tests.accept.traffic import SteadyLoad
from tests.accept.verdict import Verdict, until

RATE_HZ = 1000.0
BETWEEN_KILLS_S = 5.0
NEW_WRITER_S = 90.0
"""The other agent's writer looks for the lock every 30 s."""


@dataclass(slots=True)
class Run:
    """One life of an agent; `stored` what it last said that it had stored, by table."""

    node: str
    begun_ns: int
    stored: dict[str, int] = field(default_factory=dict)
    records: int | None = None
    """Hops that it read in all, where it ended well."""


class StoringAgent:
    """An agent that stores, started again and again; `runs` are its lives."""

    def __init__(self, node: Node, directory: Path, store: Path, metrics: str = "none") -> None:
        self.name = node.name
        stores = ("--store", str(store), "--node", node.name, "--cluster", "soak")
        arguments = (*stores, "--metrics-listen", metrics)
        self.process = AgentProcess(node, directory, plan=node.plan(), arguments=arguments)
        self.runs: list[Run] = []

    def start(self) -> None:
        """The next life."""
        self.runs.append(Run(self.name, time.time_ns()))
        self.process.start()

    def status(self) -> dict[str, Any]:
        """What it says of itself; its acknowledgements are noted."""
        said: dict[str, Any] = record_client(self.process.socket("watch"), "STATUS")
        self.runs[-1].stored = dict(said["output"]["store"]["appended"])
        return said

    def kill(self) -> None:
        """kill -9, right after it said what is stored."""
        self.status()
        self.process.kill()

    def writer_pid(self) -> int:
        """Of the store's writer, if it is this agent's; else 0."""
        return int(self.status()["output"]["store"]["writer"]["pid"])

    def end(self) -> dict[str, Any]:
        """SIGTERM; its last words."""
        said = self.process.terminate()
        self.runs[-1].stored = dict(said["stored"]["rows"])
        self.runs[-1].records = said["counters"]["records"]
        return said


class Reader:
    """A process that looks at the store again and again, killed and started by the way."""

    def __init__(self, store: Path, file: Path) -> None:
        self._argv = (sys.executable, "-m", "tests.accept.store_look", str(store))
        self._file = file
        self._errors = file.with_suffix(".errors")
        self._start()

    def kill(self) -> None:
        """kill -9 and a new one. A problem if it had ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"reader ended: {self._errors.read_text()[-500:]}")
        self._process.kill()
        self._process.wait()
        self._start()

    def end(self) -> list[dict[str, Any]]:
        """What it saw, look by look."""
        self._process.kill()
        self._process.wait()
        whole = [line for line in self._file.read_text().splitlines(keepends=True) if line.endswith("}\n")]
        return [json.loads(line) for line in whole]

    def _start(self) -> None:
        with self._file.open("ab") as out, self._errors.open("ab") as errors:
            self._process = subprocess.Popen(self._argv, cwd=ROOT, stdout=out, stderr=errors)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is alive during the soak."""

    store: Path
    agents: tuple[StoringAgent, ...]
    reader: Reader
    load: SteadyLoad


@contextmanager
def scene(rate_hz: float) -> Iterator[Scene]:
    """Two nodes, an agent on each, requests between them, a reader."""
    with ExitStack() as stack:
        place = stack.enter_context(stage())
        store = place.directory / "store"
        agents = tuple(StoringAgent(node, place.directory, store) for node in place.lab.nodes)
        for one in agents:
            one.start()
            stack.callback(one.process.__exit__, None, None, None)
        reader = Reader(store, place.directory / "looks")
        stack.callback(reader.end)
        load = stack.enter_context(SteadyLoad(place.client, place.server, rate_hz))
        yield Scene(store, agents, reader, load)


def soak(seconds: float, rate_hz: float = RATE_HZ) -> Verdict:
    """Kill one after the other for so long, then count."""
    verdict = Verdict("kill -9 of agent, writer and reader in turn")
    with scene(rate_hz) as place:
        kills = _kill_in_turn(place, time.monotonic() + seconds)
        verdict.numbers |= {"seconds": seconds, "kills": dict(kills)}
        _await_hops(place)
        looks = place.reader.end()
        for one in place.agents:
            said = one.end()
            verdict.equal(f"{one.name}: counters that do not add up", any(said["imbalances"].values()), False)
            verdict.equal(f"{one.name}: dropped", said["stored"]["dropped"], {})
        _check_looks(verdict, looks)
        _check_rows(verdict, place)
        verdict.numbers["failed requests"] = place.load.requests - place.load.answered
    return verdict


def _kill_in_turn(place: Scene, until_s: float) -> Counter[str]:
    kills: Counter[str] = Counter()
    turn = 0
    while time.monotonic() < until_s:
        _pause(place, BETWEEN_KILLS_S)
        victim = ("agent", "writer", "reader")[turn % 3]
        if victim == "agent":
            one = place.agents[turn // 3 % len(place.agents)]
            one.kill()
            one.start()
        elif victim == "writer":
            _kill_writer(place)
        else:
            place.reader.kill()
        kills[victim] += 1
        turn += 1
    return kills


def _kill_writer(place: Scene) -> None:
    """Whichever agent's child it is; then there must be another one."""
    old = until(lambda: _writer(place), lambda pid: pid != 0, NEW_WRITER_S)
    if not old:
        raise RuntimeError(f"no writer within {NEW_WRITER_S} s")
    os.kill(old, signal.SIGKILL)


def _writer(place: Scene) -> int:
    return next((pid for one in place.agents if (pid := one.writer_pid())), 0)


def _pause(place: Scene, seconds: float) -> None:
    """Let things go on; acknowledgements are noted all the while."""
    end_s = time.monotonic() + seconds
    until(lambda: [one.status() for one in place.agents], lambda _: time.monotonic() >= end_s, seconds + 30)


def _await_hops(place: Scene) -> None:
    """A last interval without kills."""
    _pause(place, 2.5)


def _check_looks(verdict: Verdict, looks: Sequence[dict[str, Any]]) -> None:
    """No look saw a row twice or a file that cannot be read, and rows never went away."""
    verdict.numbers["looks"] = len(looks)
    verdict.equal("looks without any", len(looks) == 0, False)
    last: dict[str, int] = {}
    for one in looks:
        verdict.equal("rows seen twice", {name: n for name, n in one["twice"].items() if n}, {})
        verdict.equal("unreadable", one["problems"], [])
        less = {name: rows for name, rows in one["rows"].items() if rows < last.get(name, 0)}
        verdict.equal("rows that went away", less, {})
        last = one["rows"]


def _check_rows(verdict: Verdict, place: Scene) -> None:
    """At the end: what each life acknowledged is there, once; lives that ended well have exactly theirs."""
    end = store_look.look(place.store)
    verdict.numbers["rows"] = end.rows
    verdict.equal("rows twice at the end", {name: n for name, n in end.twice.items() if n}, {})
    verdict.equal("unreadable at the end", end.problems, [])
    reader = RowReader(place.store)
    acknowledged = 0
    for table in TABLES:
        rows = store_look.rows_of(reader, table)
        for life, there in _lives(place, rows["node"], rows["time"]):
            said = life.stored.get(table.name, 0)
            acknowledged += said
            if life.records is None:
                verdict.equal(f"{life.node} {table.name}: acknowledged rows lost", max(0, said - there), 0)
            else:
                verdict.equal(f"{life.node} {table.name}: rows of the last life", there, said)
    verdict.numbers["acknowledged"] = acknowledged
    _check_totals(verdict, place, reader)
    reader.close()


def _check_totals(verdict: Verdict, place: Scene, reader: RowReader) -> None:
    """Of the lives that ended well every hop is in the summaries."""
    for table in (HOP_10S, HOP_SAMPLE):
        rows = store_look.rows_of(reader, table)
        for one in place.agents:
            life = one.runs[-1]
            mine = (rows["node"] == life.node) & (rows["time"].astype(np.int64) >= life.begun_ns)
            hops = int(mine.sum())
            if table is HOP_10S:
                hops = int((rows["count"][mine] + rows["retransmitted"][mine]).sum())
                verdict.equal(f"{life.node}: hops in the summaries of the last life", hops, life.records)
            verdict.numbers[f"{life.node} {table.name} hops"] = hops


def _lives(place: Scene, nodes: Any, times: Any) -> Iterator[tuple[Run, int]]:  # noqa: ANN401  numpy columns
    for one in place.agents:
        begins = [run.begun_ns for run in one.runs]
        of_node = np.sort(times[nodes == one.name])
        ends = [*begins[1:], np.iinfo(np.int64).max]
        for run, begin, end in zip(one.runs, begins, ends, strict=True):
            yield run, int(np.searchsorted(of_node, end) - np.searchsorted(of_node, begin))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it once; exit code 1 on FAIL."""
    parser = argparse.ArgumentParser(prog="./dev accept store-soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="default %(default)s")
    line = Line.of(soak(parser.parse_args(arguments).seconds))
    print(line, flush=True)
    return 0 if line.passed else 1


if __name__ == "__main__":
    sys.exit(main())
