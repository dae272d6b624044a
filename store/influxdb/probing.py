# SPDX-License-Identifier: Apache-2.0
"""A point that is written to see whether it can be, read back, and taken away again."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from store.errors import StoreError
from store.influxdb.http import Connection, Refused, text_time
from store.influxdb.tags import stored_tag, tag_value
from store.influxdb.target import Flavour
from store.influxdb.writing import LineWriter
from store.schema import Table

MEASUREMENT: Final = "overhop_probe"
_OK: Final = range(200, 300)
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Probe:
    """How it went, of a point that the server took."""

    took_s: float
    """For writing and reading."""
    is_read: bool
    """It came back."""
    hidden: str = ""
    """Why this token may not read it."""
    left: str = ""
    """Why it is still there: it goes when the bucket's retention is over."""


@dataclass(frozen=True, slots=True)
class Prober:
    """Marks its points with `node`."""

    connection: Connection
    writer: LineWriter
    node: str
    clock: Callable[[], int] = time.time_ns
    monotonic: Callable[[], float] = time.monotonic

    def probe(self, table: Table) -> Probe:
        """One point into the bucket of a table. Raises Refused: it cannot be written; Unreachable."""
        began_s, time_ns = self.monotonic(), self.clock()
        self.writer.write(table, [f"{MEASUREMENT},node={tag_value(self.node)} ok=1i {time_ns}".encode()])
        if self.connection.target.flavour is Flavour.VICTORIAMETRICS:
            return Probe(self.monotonic() - began_s, is_read=False)
        is_read, hidden = self._read(table, time_ns)
        took_s = self.monotonic() - began_s
        return Probe(took_s, is_read, hidden, self._take_away(table, time_ns))

    def _read(self, table: Table, time_ns: int) -> tuple[bool, str]:
        statement = f'SELECT "ok" FROM "{MEASUREMENT}" WHERE time = {time_ns}'
        try:
            [found] = self.connection.influxql(self.connection.target.bucket(table), [statement])
        except Refused as error:
            return False, error.said or str(error.status)
        return any(block.values for block in found), ""

    def _take_away(self, table: Table, time_ns: int) -> str:
        """Empty: it is gone."""
        try:
            (self._delete1 if self.connection.target.flavour is Flavour.INFLUXDB1 else self._delete2)(
                self.connection.target.bucket(table), time_ns
            )
        except Refused as error:
            return error.said or str(error.status)
        except StoreError as error:
            return str(error)
        return ""

    def _delete1(self, database: str, time_ns: int) -> None:
        self.connection.influxql(database, [f'DELETE FROM "{MEASUREMENT}" WHERE time = {time_ns}'])

    def _delete2(self, bucket: str, time_ns: int) -> None:
        node = json.dumps(stored_tag(self.node), ensure_ascii=False)
        said = {
            "start": text_time(time_ns),
            "stop": text_time(time_ns + _SECOND_NS),
            "predicate": f'_measurement="{MEASUREMENT}" AND node={node}',
        }
        path = "/api/v2/delete?" + urlencode({"org": self.connection.target.org, "bucket": bucket})
        headers = {"content-type": "application/json"}
        answer = self.connection.request("POST", path, body=json.dumps(said).encode(), headers=headers)
        if answer.status not in _OK:
            raise self.connection.refused(answer.status, answer.headers, answer.data)
