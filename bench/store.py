# SPDX-License-Identifier: Apache-2.0
"""How fast each kind of store takes and gives a thousand series: `./dev bench store [--json]`.

A day of 10 min rows, then an hour with everything: a million hops, each kept in full, and summaries of three
resolutions. The embedded store is filled by appender and compactor; servers get the same rows, out of it.
Questions are whole processes (`overhop hops --since ...`), so that Python and its imports count. Servers
compact before they are weighed and asked: a million hops in a minute keep them busy for another.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.aggregate import BATCHES, measure
from bench.machine import environment
from bench.store_data import Shape, Sums, fill, summaries
from store.appender import Appender
from store.importing import import_store
from store.influxdb.admin import init
from store.influxdb.http import Connection
from store.influxdb.target import Secret, parse_target
from store.influxdb.writing import line_writer
from store.query import Span
from store.schema import HOP_10M, Table
from store.spool.sending import Sender, SetAside
from tests.servers import Server, influxdb1, influxdb2, victoriametrics

HOPS = 1_000_000
NODES = 2
SERIES = 500
"""Of each node: a thousand together."""
DAY_S = 86_400
HOPS_PER_ROW = 100
"""Of the day: some 60 of the 902 buckets are occupied."""
ROUNDS = 5
HOUR_S_MAX, DAY_S_MAX, AGGREGATE_MIN = 1.0, 3.0, 200_000
_S_NS = 1_000_000_000
_QUICK = {
    "INFLUXD_STORAGE_CACHE_SNAPSHOT_WRITE_COLD_DURATION": "1s",
    "INFLUXD_STORAGE_COMPACT_FULL_WRITE_COLD_DURATION": "1s",
    "INFLUXDB_DATA_CACHE_SNAPSHOT_WRITE_COLD_DURATION": "1s",
    "INFLUXDB_DATA_COMPACT_FULL_WRITE_COLD_DURATION": "1s",
}
"""Files are compacted as they are after hours."""
_SETTLE_S = 90.0
_MAKERS: Mapping[str, Callable[[Path], AbstractContextManager[Server]]] = {
    "influxdb2": lambda path: influxdb2(path, env=_QUICK),
    "influxdb1": lambda path: influxdb1(path, env=_QUICK),
    "victoriametrics": victoriametrics,
}


@dataclass(frozen=True, slots=True)
class Result:
    """Of one store; what VictoriaMetrics is not asked is None. Times are medians."""

    rows_per_s: float
    bytes_per_million_hops: float | None = None
    last_hour_s: float | None = None
    last_day_s: float | None = None


def fill_embedded(path: Path, hops: int, tell: Callable[[str], None]) -> float:
    """A day of coarse rows and an hour of all; returns rows per second of that hour."""
    until_ns = time.time_ns()
    tell("a day of 10 min rows")
    _fill_day(path, until_ns - 3600 * _S_NS)
    tell(f"an hour of {hops:,} hops")
    begun_s, used_s = time.monotonic(), time.process_time()
    for _ in fill(path, Shape(hops, NODES, SERIES, 3600, until_ns)):
        pass
    took_s = max(time.process_time() - used_s, time.monotonic() - begun_s)
    rows = hops + NODES * SERIES * (360 + 60 + 6)
    return rows / took_s


def _fill_day(path: Path, until_ns: int) -> None:
    for number in range(NODES):
        random = np.random.default_rng(number)
        clock = _Clock(until_ns - (DAY_S - 3600) * _S_NS)
        with Appender(path, "bench", f"n{number + 1}", clock=clock) as appender:
            while clock.now_ns < until_ns:
                clock.now_ns += 600 * _S_NS
                sums = Sums(SERIES)
                series = np.repeat(np.arange(SERIES), HOPS_PER_ROW)
                sums.add(series, random.lognormal(np.log(20_000), 0.5, len(series)).astype(np.uint32))
                appender.append(summaries(HOP_10M, sums, SERIES))


@dataclass(slots=True)
class _Clock:
    """Says what it was set to."""

    now_ns: int

    def __call__(self) -> int:
        return self.now_ns


class _Timed:
    """A sender that counts the time and the rows that its server takes."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.rows, self.seconds = 0, 0.0

    @property
    def clock_ns(self) -> int | None:
        """Of the server."""
        return self._sender.clock_ns

    def send(self, table: Table, lines: Sequence[bytes]) -> int:
        """As Sender.send."""
        begun_s = time.monotonic()
        refused = self._sender.send(table, lines)
        self.seconds += time.monotonic() - begun_s
        self.rows += len(lines)
        return refused


def measure_server(server: Server, source: Path, hops: int, tell: Callable[[str], None]) -> Result:
    """The rows of the embedded store into the server, and the questions."""
    connection = _connection(server)
    init(connection)
    sender = Sender(line_writer(connection.target, connection.secret), "bench", SetAside(source, "bench"))
    timed = _Timed(sender)
    tell("writing")
    now_ns = time.time_ns()
    import_store(source, connection.target, timed, Span(0, now_ns), now_ns)
    rows_per_s = timed.rows / timed.seconds
    if server.name == "victoriametrics":
        return Result(rows_per_s)
    tell("compacting")
    size = _settled(server.directory)
    tell("asking")
    place = [server.target, *(["--store-token-file", str(server.token_file)] if server.token else [])]
    hour_s, day_s = _ask("1h", place), _ask("24h", place)
    return Result(rows_per_s, size / hops * 1e6, hour_s, day_s)


def _connection(server: Server) -> Connection:
    return Connection(parse_target(server.target), Secret(server.token) if server.token else None)


def _ask(since: str, place: list[str]) -> float:
    """Median seconds of a whole process; the first one warms up."""
    argv = [sys.executable, "-m", "overhop", "hops", "--since", since, "--json", "--store", *place]
    took_s = []
    for _ in range(ROUNDS + 1):
        begun_s = time.monotonic()
        done = subprocess.run(argv, capture_output=True, check=True)
        took_s.append(time.monotonic() - begun_s)
        if not json.loads(done.stdout)["rows"]:
            raise RuntimeError(f"hops --since {since}: nothing is there")
    return statistics.median(took_s[1:])


def _settled(directory: Path) -> int:
    """Size once it does not change any more, or after a while."""
    deadline_s, last, since_s = time.monotonic() + _SETTLE_S, -1, time.monotonic()
    while time.monotonic() < deadline_s:
        size = _size(directory)
        if size != last:
            last, since_s = size, time.monotonic()
        if time.monotonic() - since_s > 8:
            break
        time.sleep(0.5)
    return last


def _size(directory: Path) -> int:
    total = 0
    for path, _, names in os.walk(directory):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except FileNotFoundError:  # compacted meanwhile
                continue
    return total


def measure_all(hops: int, tell: Callable[[str], None]) -> Iterator[tuple[str, Result]]:
    """Embedded first: the others get its rows."""
    with TemporaryDirectory(prefix="overhop-bench-") as name:
        directory = Path(name)
        source = directory / "embedded"
        rows_per_s = fill_embedded(source, hops, lambda what: tell(f"embedded: {what}"))
        tell("embedded: asking")
        hour_s, day_s = _ask("1h", [str(source)]), _ask("24h", [str(source)])
        yield "embedded", Result(rows_per_s, _size(source) / hops * 1e6, hour_s, day_s)
        for kind, make in _MAKERS.items():
            place = directory / kind
            place.mkdir()
            tell(f"{kind}: start")
            with make(place) as server:
                yield kind, measure_server(server, source, hops, partial(_tell, tell, kind))


def _tell(tell: Callable[[str], None], kind: str, what: str) -> None:
    tell(f"{kind}: {what}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="./dev bench store", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--hops", type=int, default=HOPS, help="in the hour (default %(default)s)")
    given = parser.parse_args()
    where = environment() | {"series": NODES * SERIES, "hops": given.hops, "rounds": ROUNDS}
    aggregate = measure(BATCHES[0], 7).median_per_s
    stores = {}
    for name, result in measure_all(given.hops, lambda what: print(what, file=sys.stderr, flush=True)):
        values = {
            "rows_per_s": result.rows_per_s,
            "bytes_per_million_hops": result.bytes_per_million_hops,
            "last_hour_s": result.last_hour_s,
            "last_day_s": result.last_day_s,
        }
        stores[name] = {key: round(value, 3) for key, value in values.items() if value is not None}
    asked = [each for each in stores.values() if "last_hour_s" in each]
    met = {
        "aggregate_hops_per_s": aggregate >= AGGREGATE_MIN,
        "last_hour_s": all(each["last_hour_s"] <= HOUR_S_MAX for each in asked),
        "last_day_s": all(each["last_day_s"] <= DAY_S_MAX for each in asked),
    }
    found = {"environment": where, "aggregate_hops_per_s": aggregate, "stores": stores, "met": met}
    if given.json:
        print(json.dumps(found))
        return
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    print(f"aggregate: {aggregate:,.0f} hops/s (asked {AGGREGATE_MIN:,})")
    for name, each in stores.items():
        print(f"{name}: " + ", ".join(f"{key} {value:,}" for key, value in each.items()))
    print(", ".join(f"{name} {'met' if is_met else 'MISSED'}" for name, is_met in met.items()))


if __name__ == "__main__":
    main()
