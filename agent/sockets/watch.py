# SPDX-License-Identifier: Apache-2.0
"""The watch socket: what a running agent tells `overhop hops` and `overhop doctor`.

One command a line, JSON lines back. `STATUS`: one line with the facts of the agent. `WATCH SECONDS [NS]`: one
line with the summary of that interval, of hops that took at least NS, again and again until the client goes.
Nothing is kept while nobody watches.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from agent.hops.records import Records
from agent.hops.series import Series, SeriesTally
from agent.naming.names import Row
from agent.reading.counters import LOSSES
from agent.sockets.unix_socket import LineClient, LineServer
from agent.storing.output import OutputFacts

MAX_CLIENTS = 8
MAX_LINE_BYTES = 256
MAX_HOPS = 200_000
"""Of one interval, shared by those who watch: 1.6 MB; the rest is counted as `not_shown`."""
MAX_ENDS = 4_000
"""Pairs of ends, shared likewise, 1 KB each; hops between others are counted as `not_shown`."""
MAX_SERIES = 500
INTERVALS_S = (0.1, 60.0)


@dataclass(frozen=True, slots=True)
class VportFacts:
    """One traced vport, and what went through it since the agent's start."""

    name: str
    tls: int
    """Packets that look like TLS records."""
    http2: int
    """Packets that begin with the HTTP/2 preface."""
    requests: int
    """HTTP/1 hops."""


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What the agent says of itself."""

    pid: int
    nic: tuple[str, ...]
    vports: tuple[VportFacts, ...]
    counters: Mapping[str, int]
    """Since the agent's start, by the names of bpf.counters.NAMES."""
    output: OutputFacts | None = None
    """None: nothing is stored."""
    node: str = ""
    """Its name in the store."""
    window: int = 0
    """Bytes of payload that its programs search for the context."""


class WatchServer:
    """Listens at `path` (mode 0600) and never blocks.

    The agent's loop calls `add` with what it read from the ring and then `poll`. `facts` is called only when
    somebody asks, `name` (by agent.names.COLUMNS) for one record of each series.

    Raises OSError if the socket cannot be made.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        facts: Callable[[], AgentFacts],
        name: Callable[[Records], Sequence[Row]],
    ) -> None:
        self._facts = facts
        self._name = name
        self._clients: list[_Client] = []
        self._server = LineServer(path, MAX_CLIENTS, MAX_LINE_BYTES)
        self.path = self._server.path

    def fileno(self) -> int:
        """For select(2): readable when somebody connects."""
        return self._server.fileno()

    def add(self, records: Records) -> None:
        """Count the records for those who watch; they must not change any more."""
        for client in self._clients:
            client.add(records)

    @property
    def has_clients(self) -> bool:
        """Whether somebody is connected."""
        return bool(self._clients)

    def poll(self, now_ns: int) -> None:
        """Accept, read commands, send what is due at `now_ns` (CLOCK_MONOTONIC)."""
        self._clients += [self._client(line) for line in self._server.accept(len(self._clients))]
        for client in self._clients:
            client.line.flush()
            client.receive(now_ns)
            if client.wants_status:
                client.wants_status = False
                client.line.send(asdict(self._facts()))
            if client.is_due(now_ns):
                client.line.send(self._view(client.taken(now_ns)))
        self._clients = [client for client in self._clients if client.line.open]

    def close(self) -> None:
        """Stop listening and remove the socket."""
        for client in self._clients:
            client.line.close()
        self._server.close()

    def _client(self, line: LineClient) -> "_Client":
        return _Client(line, self._name, lambda: sum(client.is_watching for client in self._clients))

    def _view(self, interval: "_Interval") -> dict[str, object]:
        facts = self._facts()
        return {
            "pid": facts.pid,
            "node": facts.node,
            "nic": ", ".join(facts.nic),
            "vports": len(facts.vports),
            "interval_s": round(interval.duration_s, 3),
            "rows": [_row(one) for one in interval.series[:MAX_SERIES]],
            "not_shown": interval.not_shown + _hops(interval.series[MAX_SERIES:]),
            "lost": {name: facts.counters[name] for name in LOSSES if facts.counters[name]},
            "store_problem": _store_problem(facts.output),
        }


def _row(series: Series) -> dict[str, object]:
    hops, source, destination = series.hops, series.source, series.destination
    return {
        "kind": series.kind,
        "source": str(source),
        "destination": str(destination),
        "service": series.service,
        "count": hops.count + hops.retransmitted,
        "p50_us": hops.p50_us,
        "p99_us": hops.p99_us,
        "max_us": hops.max_us,
        "quality": dict(hops.quality),
        "source_namespace": source.namespace,
        "source_workload": source.workload,
        "destination_namespace": destination.namespace,
        "destination_workload": destination.workload,
    }


def _store_problem(output: OutputFacts | None) -> str:
    """Why rows wait, were dropped or have times that are not the clock's; empty: all is well, or no store."""
    if output is None:
        return ""
    store = output.store
    waiting = sum(store.waiting.values())
    waiting += 0 if store.spool is None else sum(store.spool.waiting.values())
    parts = [store.trouble] if store.trouble is not None else []
    parts += [f"{waiting:,} rows wait"] if waiting and store.trouble is not None else []
    parts += [f"{store.lost:,} rows dropped since start"] if store.lost else []
    parts += [f"row times {store.ahead_ns / 1e9:,.0f} s ahead of the clock"] if store.ahead_ns else []
    return ", ".join(parts)


def _hops(series: Sequence[Series]) -> int:
    return sum(one.hops.count + one.hops.retransmitted for one in series)


@dataclass(frozen=True, slots=True)
class _Interval:
    series: Sequence[Series]
    not_shown: int
    duration_s: float


class _Client:
    """One client, and what it watches."""

    def __init__(
        self, line: LineClient, name: Callable[[Records], Sequence[Row]], watchers: Callable[[], int]
    ) -> None:
        """`watchers` says how many share what may be kept."""
        self.line = line
        self.wants_status = False
        self._name = name
        self._watchers = watchers
        self._interval_ns = 0
        self._min_latency_ns = 0
        self._since_ns = 0
        self._tally = SeriesTally(name, 0, 0)

    @property
    def is_watching(self) -> bool:
        return self._interval_ns > 0

    def add(self, records: Records) -> None:
        if not self.is_watching:
            return
        if self._min_latency_ns:
            records = records[records["latency_ns"] >= self._min_latency_ns]
        self._tally.add(records)

    def is_due(self, now_ns: int) -> bool:
        """An interval is over, and the client has read the one before (else this one grows)."""
        return self.is_watching and not self.line.has_unsent and now_ns - self._since_ns >= self._interval_ns

    def taken(self, now_ns: int) -> _Interval:
        series = self._tally.series()
        interval = _Interval(series, self._tally.left_out, (now_ns - self._since_ns) / 1e9)
        self._begin(now_ns)
        return interval

    def receive(self, now_ns: int) -> None:
        self.line.receive()
        while (command := self.line.next_line()) is not None:
            self._execute(command.decode("ascii", "replace").split(), now_ns)

    def _execute(self, words: list[str], now_ns: int) -> None:
        match words:
            case ["STATUS"]:
                self.wants_status = True
            case ["WATCH", seconds, *least] if (interval_s := _interval_s(seconds)) is not None:
                self._watch(interval_s, least, now_ns)
            case ["WATCH", *_]:
                self.line.refuse(f"WATCH takes seconds, {INTERVALS_S[0]} to {INTERVALS_S[1]}")
            case _:
                self.line.refuse("unknown command: STATUS or WATCH SECONDS [NS]")

    def _watch(self, interval_s: float, least: Sequence[str], now_ns: int) -> None:
        number = least[0] if len(least) == 1 else "" if least else "0"
        if not (number.isascii() and number.isdigit() and int(number) < 1 << 32):
            self.line.refuse("the least latency of WATCH is a number of ns below 2^32")
            return
        self._interval_ns = int(interval_s * 1e9)
        self._min_latency_ns = int(number)
        self._begin(now_ns)

    def _begin(self, now_ns: int) -> None:
        self._since_ns = now_ns
        self._tally = SeriesTally(self._name, MAX_HOPS // self._watchers(), MAX_ENDS // self._watchers())


def _interval_s(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and INTERVALS_S[0] <= seconds <= INTERVALS_S[1] else None
