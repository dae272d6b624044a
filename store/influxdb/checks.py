# SPDX-License-Identifier: Apache-2.0
"""Is a server fit to keep hops: reachable, known, ours to read and write, on time (`overhop store check`)."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from store.errors import StoreError
from store.influxdb.admin import Bucket, buckets
from store.influxdb.asking import schema_version
from store.influxdb.http import Connection, Refused, Response, Unreachable
from store.influxdb.probing import Probe, Prober
from store.influxdb.target import Flavour
from store.influxdb.victoriametrics import VictoriaMetrics, ask
from store.influxdb.writing import line_writer
from store.schema import HOP_10S, SCHEMA_VERSION, Table

_CLOCK_WARN_NS: Final = 2_000_000_000
_CLOCK_FAIL_NS: Final = 60_000_000_000
_SECOND_NS: Final = 1_000_000_000
_DAY_S: Final = 86_400
_MISSING: Final = "is missing, or the token may not see it"
_NOT_IN: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND})
"""Where buckets are asked for: no such token, no such organisation."""
_VERSION: Final = "x-influxdb-version"
_OLDEST_1: Final = (1, 6)
_HINTS: Final = {
    Flavour.INFLUXDB2: "is this its address? of an InfluxDB 1 the URL begins with influxdb1://",
    Flavour.INFLUXDB1: "is this its address? of an InfluxDB 2 the URL begins with influxdb2://",
    Flavour.VICTORIAMETRICS: "is this its address? of an InfluxDB the URL begins with influxdb2:// or influxdb1://",
}


class State(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was seen, and what to do about it (empty: nothing)."""

    name: str
    state: State
    seen: str
    advice: str = ""


def check_server(
    connection: Connection,
    node: str,
    clock: Callable[[], int] = time.time_ns,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Check]:
    """All checks of a server, each as it is done; `node` marks the probes. Never raises StoreError."""
    began_s, began_ns = monotonic(), clock()
    try:
        answer = connection.request("GET", "/ping")
    except Unreachable as error:
        yield Check("reachable", State.FAILED, _bare(connection, error))
        return
    yield Check("reachable", State.OK, f"{connection.target.base_url} in {_ms(monotonic() - began_s)}")
    is_known = True
    for check in _server_checks(connection, answer):
        yield check
        is_known = is_known and check.state is not State.FAILED
    yield clock_check(answer.clock_ns, began_ns, clock())
    if is_known:
        yield from _inside(connection, node, clock, monotonic)


def _server_checks(connection: Connection, answer: Response) -> list[Check]:
    if connection.target.flavour is not Flavour.VICTORIAMETRICS:
        return [version_check(connection.target.flavour, answer.headers)]
    if answer.headers.get(_VERSION):
        return [
            Check("version", State.FAILED, f"InfluxDB {answer.headers[_VERSION]}", _HINTS[Flavour.INFLUXDB2])
        ]
    try:
        return victoriametrics_checks(ask(connection))
    except Unreachable as error:
        return [Check("version", State.SKIPPED, _bare(connection, error))]


def version_check(flavour: Flavour, headers: Mapping[str, str]) -> Check:
    """Whether its /ping says that it is the InfluxDB of the URL, in a version that we know."""
    said = headers.get(_VERSION, "")
    found = re.match(r"v?(\d+)\.(\d+)", said)
    if not found:
        return Check("version", State.FAILED, "it is no InfluxDB", _HINTS[flavour])
    number = int(found[1]), int(found[2])
    is_known = number[0] == 2 if flavour is Flavour.INFLUXDB2 else number[0] == 1 and number >= _OLDEST_1
    if is_known:
        return Check("version", State.OK, f"InfluxDB {said}")
    wanted = "2.x" if flavour is Flavour.INFLUXDB2 else "1.6 to 1.x"
    return Check("version", State.FAILED, f"InfluxDB {said}, not {wanted}", _HINTS[flavour])


def victoriametrics_checks(found: VictoriaMetrics | int | None) -> list[Check]:
    """What it said, as store.influxdb.victoriametrics.ask gives it."""
    if found is None:
        return [Check("version", State.FAILED, "it is no VictoriaMetrics", _HINTS[Flavour.VICTORIAMETRICS])]
    if isinstance(found, int):
        seen = f"it does not say what it is: /metrics is HTTP {found}"
        return [
            Check("version", State.WARNING, seen, "make sure that it is a VictoriaMetrics, or one's proxy")
        ]
    checks = [Check("version", State.OK, f"VictoriaMetrics {found.version}".rstrip())]
    if found.retention_s is not None:
        checks.append(_retention_check(found.retention_s))
    if found.is_deduplicating is False:
        seen = "a row that is sent again counts twice"
        checks.append(Check("duplicates", State.WARNING, seen, "start it with -dedup.minScrapeInterval=1ms"))
    elif found.is_deduplicating:
        checks.append(Check("duplicates", State.OK, "a row that is sent again counts once"))
    return checks


def _retention_check(retention_s: int) -> Check:
    seen = f"rows are kept {_days(retention_s)}"
    if retention_s >= HOP_10S.retention_s:
        return Check("retention", State.OK, seen)
    advice = f"start it with -retentionPeriod={HOP_10S.retention_s // _DAY_S}d or more"
    return Check("retention", State.WARNING, seen, advice)


def clock_check(server_ns: int | None, began_ns: int, ended_ns: int) -> Check:
    """The server says its time by the second, at some moment between `began_ns` and `ended_ns`."""
    if server_ns is None:
        return Check("clock", State.SKIPPED, "the server does not say its time")
    behind_ns = began_ns - (server_ns + _SECOND_NS)
    ahead_ns = server_ns - ended_ns
    off_ns = max(behind_ns, ahead_ns, 0)
    way = "behind" if behind_ns > 0 else "ahead of"
    if off_ns <= _CLOCK_WARN_NS:
        return Check("clock", State.OK, "the server's is ours, within the second that it says")
    seen = f"the server's is {off_ns / 1e9:,.0f} s {way} ours"
    advice = "set both clocks (NTP): rows have the time of who writes them, and queries that of who asks"
    return Check("clock", State.FAILED if off_ns > _CLOCK_FAIL_NS else State.WARNING, seen, advice)


def _inside(
    connection: Connection, node: str, clock: Callable[[], int], monotonic: Callable[[], float]
) -> Iterator[Check]:
    """What the token opens."""
    is_read = connection.target.flavour is not Flavour.VICTORIAMETRICS
    try:
        writer = line_writer(connection.target, connection.secret, connection.ca_file)
    except StoreError as error:
        yield Check("token", State.FAILED, _bare(connection, error))
        return
    try:
        known = {bucket.name: bucket for bucket in buckets(connection)} if is_read else {}
    except Refused as error:
        if error.status in _NOT_IN:
            yield Check("token", State.FAILED, _bare(connection, error))
            return
        known = {}  # it may write all the same
    except StoreError as error:
        yield Check("token", State.FAILED, _bare(connection, error))
        return
    yield Check("token", State.OK, "accepted" if connection.secret is not None else "none is asked for")
    prober = Prober(connection, writer, node, clock, monotonic)
    try:
        for table in connection.target.tables:
            yield _bucket_check(prober, table, known.get(connection.target.bucket(table)))
    finally:
        writer.close()
    if is_read:
        yield _schema_check(connection)


def _bucket_check(prober: Prober, table: Table, bucket: Bucket | None) -> Check:
    name = f"bucket {prober.connection.target.bucket(table)}"
    try:
        probe = prober.probe(table)
    except Refused as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return Check(name, State.FAILED, _MISSING, "run overhop store init")
        return Check(name, State.FAILED, f"cannot be written: {_bare(prober.connection, error)}")
    except StoreError as error:
        return Check(name, State.FAILED, f"cannot be written or read: {_bare(prober.connection, error)}")
    if prober.connection.target.flavour is Flavour.VICTORIAMETRICS:
        return Check(name, State.OK, f"written in {_ms(probe.took_s)}; overhop does not read there")
    return probe_check(name, probe, table.retention_s, bucket)


def probe_check(name: str, probe: Probe, wanted_s: int, bucket: Bucket | None) -> Check:
    """What a point that was written tells of a bucket. `bucket`: None: the token may not see it."""
    left = f"; the probe stays there: {probe.left}" if probe.left else ""
    if probe.hidden:
        seen = f"written in {_ms(probe.took_s)}; it cannot be read with this token: {probe.hidden}{left}"
        return Check(name, State.WARNING, seen, "good for agents; hops and trace need a token that reads")
    if not probe.is_read:
        seen = f"a point was written and is not there{left}"
        return Check(name, State.FAILED, seen, "look at the server's log")
    seen = f"written and read back in {_ms(probe.took_s)}"
    if bucket is None:
        return Check(name, State.OK, seen + left)
    seen = f"{seen}, kept {_days(bucket.retention_s)}{left}"
    if bucket.retention_s and bucket.retention_s < wanted_s:
        return Check(name, State.WARNING, seen, f"{_days(wanted_s)} are meant: run overhop store init")
    return Check(name, State.OK, seen)


def _schema_check(connection: Connection) -> Check:
    try:
        version = schema_version(connection)
    except StoreError as error:
        return Check("schema", State.SKIPPED, _bare(connection, error))
    if version is None:
        return Check("schema", State.WARNING, "no version is noted", "run overhop store init")
    if version > SCHEMA_VERSION:
        seen = f"version {version}; this overhop knows up to {SCHEMA_VERSION}"
        return Check("schema", State.FAILED, seen, "use the overhop that made it, or another prefix")
    return Check("schema", State.OK, f"version {version}")


def _bare(connection: Connection, error: StoreError) -> str:
    """What it says, without whose it is: that stands above."""
    return str(error).removeprefix(f"store {connection.target}: ")


def _days(seconds: int) -> str:
    if not seconds:
        return "for ever"
    if seconds == _DAY_S:
        return "1 day"
    return f"{seconds / _DAY_S:,.{0 if seconds % _DAY_S == 0 else 1}f} days"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
