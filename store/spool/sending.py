# SPDX-License-Identifier: Apache-2.0
"""One batch into the server; where it refuses rows, down to the row that is bad."""

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final

from store.influxdb.http import Refused, Response
from store.influxdb.writing import LineWriter
from store.layout import FILE_MODE, encode_node
from store.schema import Table

REJECTED: Final = "rejected"
MAX_REJECTED_BYTES: Final = 4 << 20
"""Of rows set aside per node; further ones are counted only."""
_OF_ROWS: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
"""What a server answers because of rows; anything else is about the server or about us."""
_log = logging.getLogger(__name__)


class SetAside:
    """Rows that the server refuses, with its words: one JSON object a line (docs/spool.md)."""

    def __init__(self, spool: Path, node: str) -> None:
        self._path = spool / REJECTED / f"{encode_node(node)}.jsonl"
        self._is_said = False

    def add(self, table: Table, line: bytes, said: str) -> None:
        """Keep one; a file that is full or cannot be written costs the row, never the next one."""
        if not self._is_said:
            _log.warning("a row of %s is refused and set aside in %s: %s", table.name, self._path, said)
        self._is_said = True
        entry = {"table": table.name, "said": said, "line": line.decode(errors="replace")}
        try:
            self._path.parent.mkdir(0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            with open(os.open(self._path, flags, FILE_MODE), "a", encoding="utf-8") as file:
                if file.tell() < MAX_REJECTED_BYTES:
                    file.write(json.dumps(entry) + "\n")
        except OSError as error:
            _log.warning("%s: %s: refused rows are counted only", self._path, error.strerror)


class Sender:
    """Writes the lines of one table after the other."""

    def __init__(
        self, writer: LineWriter, node: str, aside: SetAside, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._answer: Response | None = None
        self._writer, self._aside, self._clock = writer, aside, clock
        self._probe = f"overhop_probe,node={encode_node(node)} ok=1i".encode()

    def send(self, table: Table, lines: Sequence[bytes]) -> int:
        """Returns how many of the lines were refused and set aside; all others are in the server.

        Raises Unreachable, or Refused if it is not for the rows: send them again later.
        """
        bad: list[tuple[bytes, str]] = []
        self._send(table, lines, bad)
        for line, said in bad:
            self._aside.add(table, line, said)
        return len(bad)

    @property
    def clock_ns(self) -> int | None:
        """The server's clock at its last good answer, ns since 1970; None: it did not say."""
        return self._answer.clock_ns if self._answer is not None else None

    def close(self) -> None:
        """Let go of the sockets."""
        self._writer.close()

    def _send(self, table: Table, lines: Sequence[bytes], bad: list[tuple[bytes, str]]) -> None:
        try:
            self._answer = self._writer.write(table, lines)
        except Refused as error:
            if error.status not in _OF_ROWS:
                raise
            if len(lines) > 1:
                half = len(lines) // 2
                self._send(table, lines[:half], bad)
                self._send(table, lines[half:], bad)
                return
            if not bad:
                self._require_sane(table)
            bad.append((lines[0], error.said))

    def _require_sane(self, table: Table) -> None:
        """A server, or something before it, that refuses a good row too does not refuse for the rows."""
        self._writer.write(table, [self._probe + f" {self._clock()}".encode()])
