# SPDX-License-Identifier: Apache-2.0
"""How many nodes one InfluxDB takes: `./dev bench server_nodes [--nodes N] [--server NAME] [--json]`.

Ten minutes of nodes with 500 series each, a hundred thousand together: rows of three resolutions and samples,
lines as agents write them, in batches as forwarders send them, by several writers at once and as fast as the
server takes them. Then what it holds, and how long questions take (whole processes). Server and writers share
the machine, so what counts is the server's CPU time a row: nodes are what a server of four cores takes with
half of its time, each node with as many hops per second as is said.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.machine import environment
from bench.store_data import Node, Shape, Sums, summaries, trace_halves
from store.batch import Batch, Labels, Numbers
from store.influxdb.admin import init
from store.influxdb.http import Connection
from store.influxdb.lines import lines_of
from store.influxdb.sizing import Cluster, estimate
from store.influxdb.target import Secret, Target, parse_target
from store.influxdb.writing import LineWriter, line_writer
from store.query import StoreError
from store.schema import HOP_SAMPLE, SUMMARIES, Table
from tests.servers import Server, influxdb1, influxdb2

NODES, SERIES, MINUTES = 200, 500, 10
HOPS_PER_S = 1_000
"""Of a node: two a second in each of its series."""
SAMPLES = 1_000_000
VARIANTS = 16
"""Different histograms of a series and table; they take turns."""
BATCH_ROWS, WRITERS = 5_000, 4
TRIES, AGAIN_S = 100, 0.5
ROUNDS, PATIENCE_S = 3, 60.0
"""How often a question is asked after the first time, unless that takes so long."""
CORES, SHARE = 4, 0.5
LOADS = (50, 200, 1_000)
"""Hops per second of a node for which nodes are counted."""
PAIRS_PER_NODE = 100
"""Series of such a node."""
_S_NS = 1_000_000_000
SNAPSHOT_MB = 512
"""What InfluxDB collects before it writes a file; its own default is 25, which many series fill at once."""
_SNAPSHOT = ("INFLUXD_STORAGE_CACHE_SNAPSHOT_MEMORY_SIZE", "INFLUXDB_DATA_CACHE_SNAPSHOT_MEMORY_SIZE")
_MAKERS: Mapping[str, Callable[[Path, Mapping[str, str]], AbstractContextManager[Server]]] = {
    "influxdb2": lambda path, env: influxdb2(path, env=env),
    "influxdb1": lambda path, env: influxdb1(path, env=env),
}


@dataclass(frozen=True, slots=True)
class Written:
    """Rows of one kind. `refused`: batches that had to be sent again."""

    rows: int
    rows_per_s: float
    server_us_per_row: float
    refused: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: median seconds and greatest memory of the process that asks."""

    seconds: float
    rss_mb: float
    rows: int


@dataclass(frozen=True, slots=True)
class Result:
    """Of one server. Memory is its greatest so far."""

    summaries: Written
    samples: Written
    rss_mb_written: float
    rss_mb_asked: float
    disk_mb: float
    asked: Mapping[str, Asked]
    nodes: Mapping[str, int]
    """By hops per second of a node, as text."""


class Lines:
    """Lines of one node's series without their times: made once, only times are new."""

    def __init__(self, target: Target, table: Table) -> None:
        self._target = target
        self._table = table
        random = np.random.default_rng(table.interval_s)
        hops = HOPS_PER_S * table.interval_s
        self._fields = [self._made(random, hops) for _ in range(VARIANTS)]

    def _made(self, random: np.random.Generator, hops: int) -> list[bytes]:
        sums = Sums(SERIES)
        series = random.integers(0, SERIES, hops)
        sums.add(series, random.lognormal(np.log(20_000), 0.5, hops).astype(np.uint32))
        lines = self._lines(summaries(self._table, sums, SERIES), "n0")
        return [line.split(b" ")[1] for line in lines]

    def _lines(self, batch: Batch, node: str) -> list[bytes]:
        rows = len(batch.columns["count"])
        about: dict[str, Numbers | Labels] = {
            "time": np.zeros(rows, np.int64),
            "cluster": Labels.same("bench", rows),
        }
        return lines_of(
            self._target, self._table, {**batch.columns, **about, "node": Labels.same(node, rows)}
        )

    def heads(self, node: str) -> list[bytes]:
        """Measurement and tags of each series of a node."""
        empty = summaries(self._table, Sums(SERIES), SERIES)
        return [line.split(b" ")[0] for line in self._lines(empty, node)]

    def at(self, heads: Sequence[bytes], variant: int, time_ns: int) -> list[bytes]:
        """A row of each series."""
        fields = self._fields[variant % VARIANTS]
        return [
            b"%b %b %d" % (head, said, time_ns + row)
            for row, (head, said) in enumerate(zip(heads, fields, strict=True))
        ]


def summary_batches(target: Target, nodes: int, until_ns: int) -> Iterator[tuple[Table, list[bytes]]]:
    """Rows of all nodes, interval by interval, in batches."""
    lines = {table.name: Lines(target, table) for table in SUMMARIES}
    heads = {
        table.name: [lines[table.name].heads(f"n{node}") for node in range(nodes)] for table in SUMMARIES
    }
    begin_ns = until_ns - MINUTES * 60 * _S_NS
    for elapsed_s in range(10, MINUTES * 60 + 1, 10):
        for table in SUMMARIES:
            if elapsed_s % table.interval_s:
                continue
            batch: list[bytes] = []
            for node, of_node in enumerate(heads[table.name]):
                time_ns = begin_ns + elapsed_s * _S_NS + node * 1_000_000
                batch += lines[table.name].at(of_node, elapsed_s + node, time_ns)
                if len(batch) >= BATCH_ROWS:
                    yield table, batch
                    batch = []
            if batch:
                yield table, batch


def sample_batches(target: Target, until_ns: int, directory: Path) -> Iterator[tuple[Table, list[bytes]]]:
    """Samples of many nodes."""
    random = np.random.default_rng(1)
    made = Node(directory / "embedded", 0, Shape(nodes=1, series=SERIES, until_ns=until_ns))
    made.now_ns = until_ns
    for number in range(SAMPLES // BATCH_ROWS):
        latency_ns = np.minimum(random.lognormal(np.log(20_000), 0.5, BATCH_ROWS), 2e9).astype(np.uint32)
        batch = made.samples(random.integers(0, SERIES, BATCH_ROWS), latency_ns)
        about: dict[str, Numbers | Labels] = {
            "time": until_ns - (number + 1) * BATCH_ROWS + np.arange(BATCH_ROWS),
            "cluster": Labels.same("bench", BATCH_ROWS),
            "node": Labels.same(f"n{number % NODES}", BATCH_ROWS),
        }
        yield HOP_SAMPLE, lines_of(target, HOP_SAMPLE, {**batch.columns, **about})
    made.close()


def write(server: Server, target: Target, batches: Iterator[tuple[Table, list[bytes]]]) -> Written:
    """All of them, by several writers at once."""
    secret = Secret(server.token) if server.token else None
    before_s, begun_s = _cpu_s(server.pid), time.monotonic()
    rows, refused = 0, 0
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = cycle([line_writer(target, secret) for _ in range(WRITERS)])
        while some := list(islice(batches, WRITERS)):
            tasks = [
                pool.submit(_sent, writer, table, lines)
                for writer, (table, lines) in zip(writers, some, strict=False)
            ]
            refused += sum(task.result() for task in tasks)
            rows += sum(len(lines) for _, lines in some)
    took_s = time.monotonic() - begun_s
    return Written(rows, rows / took_s, (_cpu_s(server.pid) - before_s) / rows * 1e6, refused)


def _sent(writer: LineWriter, table: Table, lines: Sequence[bytes]) -> int:
    """Send until it is taken; returns how often it was refused."""
    for refused in range(TRIES):
        try:
            writer.write(table, lines)
        except StoreError as error:
            said = error
            time.sleep(AGAIN_S)
        else:
            return refused
    raise said


def ask(place: Sequence[str], *question: str) -> Asked:
    """`overhop ...` as a whole process; the first time warms up, if it is not the only one."""
    argv = [sys.executable, "-m", "overhop", *question, "--json", "--store", *place]
    took_s: list[float] = []
    rss_mb, rows = 0.0, 0
    while len(took_s) <= ROUNDS and sum(took_s) < PATIENCE_S:
        begun_s = time.monotonic()
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took_s.append(time.monotonic() - begun_s)
        if process.returncode:
            raise RuntimeError(f"{' '.join(question)}: exit code {process.returncode}")
        found = json.loads(out)
        rows = len(found.get("rows", found.get("hops", ())))
        rss_mb = max(rss_mb, used.ru_maxrss / 1024)
    return Asked(statistics.median(took_s[1:] or took_s), rss_mb, rows)


def measure(server: Server, directory: Path, nodes: int, tell: Callable[[str], None]) -> Result:
    """Write, weigh, ask."""
    target = parse_target(server.target)
    init(Connection(target, Secret(server.token) if server.token else None))
    until_ns = time.time_ns()
    tell(f"{nodes} nodes of {SERIES} series, {MINUTES} minutes")
    summed = write(server, target, summary_batches(target, nodes, until_ns))
    tell(f"{SAMPLES:,} samples")
    sampled = write(server, target, sample_batches(target, until_ns, directory))
    rss_mb, disk_mb = _peak_mb(server.pid), _disk_mb(server.directory)
    [hi], [lo] = (half.tolist() for half in trace_halves(np.zeros(1, np.uint64)))
    place = [server.target, *(["--store-token-file", str(server.token_file)] if server.token else [])]
    since = ("--since", f"{MINUTES + 1}m")
    asked = {}
    for name, question in {
        "one node": ("hops", *since, "--node", "n1"),
        "one workload": ("hops", *since, "--workload", "workload-7"),
        "everything": ("hops", *since),
        "slowest samples": ("hops", *since, "--min-latency", "100"),
        "one trace": ("trace", f"{hi:016x}{lo:016x}"),
    }.items():
        tell(f"asking: {name}")
        asked[name] = ask(place, *question)
    return Result(
        summed,
        sampled,
        rss_mb,
        _peak_mb(server.pid),
        disk_mb,
        asked,
        {str(load): nodes_for(summed, sampled, load) for load in LOADS},
    )


def nodes_for(summed: Written, sampled: Written, hops_per_s: int) -> int:
    """Nodes that a server of CORES takes with SHARE of its time; rows as store.influxdb.sizing says."""
    cluster = Cluster(nodes=1, workloads=PAIRS_PER_NODE, calls=1, spread=1, hops_per_s=hops_per_s)
    us = sum(
        estimate(table, cluster).rows_per_s * (sampled if table is HOP_SAMPLE else summed).server_us_per_row
        for table in (*SUMMARIES, HOP_SAMPLE)
    )
    return int(CORES * SHARE * 1e6 / us)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float:
    """VmHWM: the most that was resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def _disk_mb(directory: Path) -> float:
    total = 0
    for path, _, names in os.walk(directory):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except FileNotFoundError:  # compacted meanwhile
                continue
    return total / 1e6


def _tell(kind: str, what: str) -> None:
    print(f"{kind}: {what}", file=sys.stderr, flush=True)


def _show(kind: str, result: Result) -> None:
    for name, each in (("summaries", result.summaries), ("samples", result.samples)):
        print(
            f"{kind}: {name}: {each.rows:,} rows, {each.rows_per_s:,.0f} rows/s,"
            f" {each.server_us_per_row:.1f} us of the server each, {each.refused} batches sent again"
        )
    memory = (
        f"{result.rss_mb_written:,.0f} MB resident after writing, {result.rss_mb_asked:,.0f} after asking"
    )
    print(f"{kind}: {memory}, {result.disk_mb:,.0f} MB on disk")
    for name, one in result.asked.items():
        print(f"{kind}: {name}: {one.seconds:.2f} s, {one.rss_mb:,.0f} MB, {one.rows:,} rows shown")
    for load, nodes in result.nodes.items():
        print(f"{kind}: {nodes:,} nodes of {load} hops/s and {PAIRS_PER_NODE} pairs")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="./dev bench server_nodes", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--nodes", type=int, default=NODES, help="default %(default)s")
    parser.add_argument("--snapshot-mb", type=int, default=SNAPSHOT_MB, help="default %(default)s")
    parser.add_argument("--server", choices=_MAKERS, action="append", help="only this one; repeatable")
    given = parser.parse_args()
    env = dict.fromkeys(_SNAPSHOT, str(given.snapshot_mb << 20))
    found: dict[str, object] = {
        "environment": environment()
        | {"nodes": given.nodes, "series": SERIES, "snapshot_mb": given.snapshot_mb}
    }
    for kind in given.server or _MAKERS:
        with TemporaryDirectory(prefix="overhop-bench-") as name:
            place = Path(name) / kind
            place.mkdir()
            with _MAKERS[kind](place, env) as server:
                result = measure(server, Path(name), given.nodes, partial(_tell, kind))
        found[kind] = asdict(result)
        if not given.json:
            _show(kind, result)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
