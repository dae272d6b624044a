# SPDX-License-Identifier: Apache-2.0
"""Buckets (InfluxDB 1: databases) with their retention, and the version of what is in them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from store.errors import StoreError
from store.influxdb.asking import SCHEMA, require_known_schema
from store.influxdb.http import Connection, Refused
from store.influxdb.influxql import quoted
from store.influxdb.target import Flavour
from store.schema import EVENT, SCHEMA_VERSION, Table

SCHEMA_TIME_NS: Final = 7_258_118_400_000_000_000
"""Of the point that says the version: 2200-01-01. No retention reaches it, a newer one takes its place."""
_OK: Final = range(200, 300)
_POLICY: Final = "autogen"
_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket as it is now. `retention_s`: 0: for ever."""

    name: str
    retention_s: int
    id: str = ""
    """InfluxDB 2's."""


@dataclass(frozen=True, slots=True)
class Done:
    """What `init` did with one bucket: created, retention changed, unchanged."""

    bucket: str
    what: str
    retention_s: int
    was_s: int | None = None
    """What the retention was, if it was changed."""


def init(connection: Connection) -> list[Done]:
    """Make what is missing, set retentions; again and again with the same result. Raises StoreError.

    Nothing is deleted; a retention that is longer than ours is left alone: somebody wanted it.
    """
    if connection.target.flavour is Flavour.VICTORIAMETRICS:
        return []
    known = {bucket.name: bucket for bucket in buckets(connection)}
    if connection.target.bucket(EVENT) in known:
        require_known_schema(connection)
    done = [_make(connection, table, known) for table in connection.target.tables]
    _note_version(connection)
    return done


def buckets(connection: Connection) -> list[Bucket]:
    """Those of ours that are there. Raises StoreError."""
    wanted = {connection.target.bucket(table) for table in connection.target.tables}
    found = (
        _buckets2(connection) if connection.target.flavour is Flavour.INFLUXDB2 else _databases(connection)
    )
    return [bucket for bucket in found if bucket.name in wanted]


def _make(connection: Connection, table: Table, known: Mapping[str, Bucket]) -> Done:
    name, wanted_s = connection.target.bucket(table), table.retention_s
    is_two = connection.target.flavour is Flavour.INFLUXDB2
    bucket = known.get(name)
    if bucket is None:
        (_create2 if is_two else _create1)(connection, name, wanted_s)
        return Done(name, "created", wanted_s)
    if bucket.retention_s == 0 or bucket.retention_s >= wanted_s:
        return Done(name, "unchanged", bucket.retention_s)
    (_change2 if is_two else _change1)(connection, bucket, wanted_s)
    return Done(name, "retention changed", wanted_s, bucket.retention_s)


def _note_version(connection: Connection) -> None:
    """The version of what is in the buckets. Raises StoreError."""
    from store.influxdb.writing import line_writer  # with influxdb_client, 16 MB

    writer = line_writer(connection.target, connection.secret, connection.ca_file)
    try:
        writer.write(EVENT, [f"{SCHEMA} version={SCHEMA_VERSION}i {SCHEMA_TIME_NS}".encode()])
    finally:
        writer.close()


def _buckets2(connection: Connection) -> Iterator[Bucket]:
    query = {"org": connection.target.org, "limit": "100"}
    for offset in range(0, 10_000, 100):
        page = _json(connection, "GET", "/api/v2/buckets", query | {"offset": str(offset)})["buckets"]
        for each in page:
            rules = [rule["everySeconds"] for rule in each["retentionRules"] if rule["type"] == "expire"]
            yield Bucket(each["name"], rules[0] if rules else 0, each["id"])
        if len(page) < 100:
            return


def _create2(connection: Connection, name: str, retention_s: int) -> None:
    body = {"orgID": _organisation(connection), "name": name, "retentionRules": _rules(retention_s)}
    _json(connection, "POST", "/api/v2/buckets", body=body)


def _change2(connection: Connection, bucket: Bucket, retention_s: int) -> None:
    _json(connection, "PATCH", f"/api/v2/buckets/{bucket.id}", body={"retentionRules": _rules(retention_s)})


def _rules(retention_s: int) -> list[dict[str, object]]:
    return [{"type": "expire", "everySeconds": retention_s}]


def _organisation(connection: Connection) -> str:
    name = connection.target.org
    found = _json(connection, "GET", "/api/v2/orgs", {"org": name})["orgs"]
    if not found:
        raise StoreError(
            f"store {connection.target}: it has no organisation {name!r}, or the token may not see it"
        )
    return str(found[0]["id"])


def _databases(connection: Connection) -> Iterator[Bucket]:
    [shown] = connection.influxql("", ["SHOW DATABASES"])
    for [name] in (row for block in shown for row in block.values):
        [policies] = connection.influxql("", [f"SHOW RETENTION POLICIES ON {quoted(name)}"])
        for block in policies:
            for row in block.values:
                about = dict(zip(block.columns, row, strict=True))
                if about["default"]:
                    yield Bucket(name, _seconds(about["duration"]), about["name"])


def _create1(connection: Connection, name: str, retention_s: int) -> None:
    # Named like the one that InfluxDB makes by itself, so that a query without a policy finds it.
    hours = retention_s // _HOUR_S
    connection.influxql("", [f"CREATE DATABASE {quoted(name)} WITH DURATION {hours}h NAME {quoted(_POLICY)}"])


def _change1(connection: Connection, bucket: Bucket, retention_s: int) -> None:
    hours = retention_s // _HOUR_S
    policy, database = quoted(bucket.id), quoted(bucket.name)
    connection.influxql("", [f"ALTER RETENTION POLICY {policy} ON {database} DURATION {hours}h"])


def _seconds(duration: str) -> int:
    """Of `168h0m0s`."""
    hours, _, rest = duration.rpartition("h")
    minutes, _, seconds = rest.rpartition("m")
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(float(seconds.removesuffix("s") or 0))


def _json(
    connection: Connection,
    method: str,
    path: str,
    query: Mapping[str, str] | None = None,
    body: Mapping[str, object] | None = None,
) -> Any:  # noqa: ANN401  JSON
    data = None if body is None else json.dumps(body).encode()
    answer = connection.request(method, path, query, data, {"content-type": "application/json"})
    if answer.status not in _OK:
        raise connection.refused(answer.status, answer.headers, answer.data)
    try:
        return json.loads(answer.data)
    except ValueError:
        raise Refused(
            f"store {connection.target}: it is no InfluxDB 2: {path} is no JSON", HTTPStatus.OK, ""
        ) from None
