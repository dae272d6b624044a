# SPDX-License-Identifier: Apache-2.0
"""Is a server fit to keep hops: reachable, known, ours to read and write, on time (`overhop store check`)."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from store.errors import StoreError
from store.influxdb.admin import Bucket, buckets
from store.influxdb.asking import schema_version
from store.influxdb.http import Connection, Refused, Response, Unreachable
from store.influxdb.tags import tag_value
from store.influxdb.target import Flavour
from store.influxdb.writing import LineWriter, line_writer
from store.schema import SCHEMA_VERSION, Table

PROBE: Final = "overhop_probe"
"""Measurement of points that are written to see whether they can be."""
_CLOCK_WARN_NS: Final = 2_000_000_000
_CLOCK_FAIL_NS: Final = 60_000_000_000
_SECOND_NS: Final = 1_000_000_000
_DAY_S: Final = 86_400
_MISSING: Final = "is missing, or the token may not see it"
_OLDEST_1: Final = (1, 6)
_HINTS: Final = {
    Flavour.INFLUXDB2: "is this its address? of an InfluxDB 1 the URL begins with influxdb1://",
    Flavour.INFLUXDB1: "is this its address? of an InfluxDB 2 the URL begins with influxdb2://",
    Flavour.VICTORIAMETRICS: "is this its address?",
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
    version = version_check(connection, answer)
    yield version
    yield clock_check(answer.clock_ns, began_ns, clock())
    if version.state is State.FAILED:
        return
    yield from _inside(connection, node, clock, monotonic)


def version_check(connection: Connection, answer: Response) -> Check:
    """Whether it is the server that the URL says, in a version that we know."""
    said = answer.headers.get("x-influxdb-version", "")
    flavour = connection.target.flavour
    found = re.match(r"v?(\d+)\.(\d+)", said)
    if flavour is Flavour.VICTORIAMETRICS:
        if found:
            return Check("version", State.FAILED, f"InfluxDB {said}", _HINTS[Flavour.INFLUXDB2])
        return Check("version", State.OK, "not InfluxDB: summaries are written, and not read by overhop")
    if not found:
        return Check("version", State.FAILED, "it is no InfluxDB", _HINTS[flavour])
    number = int(found[1]), int(found[2])
    is_known = number[0] == 2 if flavour is Flavour.INFLUXDB2 else number[0] == 1 and number >= _OLDEST_1
    if is_known:
        return Check("version", State.OK, f"InfluxDB {said}")
    wanted = "2.x" if flavour is Flavour.INFLUXDB2 else "1.6 to 1.x"
    return Check("version", State.FAILED, f"InfluxDB {said}, not {wanted}", _HINTS[flavour])


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
    """What wants a token."""
    try:
        writer = line_writer(connection.target, connection.secret, connection.ca_file)
        known = {} if _is_blind(connection) else {bucket.name: bucket for bucket in buckets(connection)}
    except StoreError as error:
        yield Check("token", State.FAILED, _bare(connection, error))
        return
    yield Check("token", State.OK, "accepted" if connection.secret is not None else "none is asked for")
    try:
        for table in connection.target.tables:
            yield _bucket_check(connection, writer, table, known, node, clock(), monotonic)
    finally:
        writer.close()
    if not _is_blind(connection):
        yield _schema_check(connection)


def _is_blind(connection: Connection) -> bool:
    return connection.target.flavour is Flavour.VICTORIAMETRICS


def _bucket_check(
    connection: Connection,
    writer: LineWriter,
    table: Table,
    known: dict[str, Bucket],
    node: str,
    time_ns: int,
    monotonic: Callable[[], float],
) -> Check:
    """A probe point written and read back, and taken away again."""
    name = f"bucket {connection.target.bucket(table)}"
    began_s = monotonic()
    try:
        writer.write(table, [f"{PROBE},node={tag_value(node)} ok=1i {time_ns}".encode()])
    except Refused as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return Check(
                name, State.FAILED, "is missing, or the token may not see it", "run overhop store init"
            )
        return Check(name, State.FAILED, f"cannot be written: {_bare(connection, error)}")
    except StoreError as error:
        return Check(name, State.FAILED, f"cannot be written: {_bare(connection, error)}")
    if _is_blind(connection):
        return Check(name, State.OK, f"written in {_ms(monotonic() - began_s)}")
    try:
        statement = f'SELECT "ok" FROM "{PROBE}" WHERE time = {time_ns}'
        [found] = connection.influxql(connection.target.bucket(table), [statement])
    except Unreachable as error:
        return Check(name, State.FAILED, f"cannot be read: {_bare(connection, error)}")
    except Refused as error:
        seen = f"written; it cannot be read with this token: {error.said}"
        return Check(name, State.WARNING, seen, "good for agents; hops and trace need a token that reads")
    took = _ms(monotonic() - began_s)
    _take_away(connection, table, time_ns)
    if not any(block.values for block in found):
        return Check(name, State.FAILED, "a point was written and is not there", "look at the server's log")
    return _retention_check(name, table, known.get(connection.target.bucket(table)), took)


def _retention_check(name: str, table: Table, bucket: Bucket | None, took: str) -> Check:
    seen = f"written and read back in {took}"
    if bucket is None:
        return Check(name, State.OK, seen)
    kept = "for ever" if not bucket.retention_s else f"{bucket.retention_s / _DAY_S:,.0f} days"
    seen = f"{seen}, kept {kept}"
    if bucket.retention_s and bucket.retention_s < table.retention_s:
        wanted = f"{table.retention_s / _DAY_S:,.0f} days are meant: run overhop store init"
        return Check(name, State.WARNING, seen, wanted)
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


def _take_away(connection: Connection, table: Table, time_ns: int) -> None:
    """What cannot be taken away goes with the retention."""
    bucket = connection.target.bucket(table)
    try:
        if connection.target.flavour is Flavour.INFLUXDB1:
            connection.influxql(bucket, [f'DELETE FROM "{PROBE}" WHERE time = {time_ns}'])
            return
        span = {"start": _rfc3339(time_ns), "stop": _rfc3339(time_ns + _SECOND_NS)}
        body = json.dumps(span | {"predicate": f'_measurement="{PROBE}"'}).encode()
        path = f"/api/v2/delete?org={connection.target.org}&bucket={bucket}"
        connection.request("POST", path, body=body, headers={"content-type": "application/json"})
    except StoreError:
        return


def _bare(connection: Connection, error: StoreError) -> str:
    """What it says, without whose it is: that stands above."""
    return str(error).removeprefix(f"store {connection.target}: ")


def _rfc3339(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // _SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
