# SPDX-License-Identifier: Apache-2.0
"""The server as the forwarder meets it: a token that is read again once it is refused."""

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final

from store.influxdb.http import Refused
from store.influxdb.target import Target, read_secret
from store.influxdb.writing import line_writer
from store.schema import Table
from store.spool.sending import Sender, SetAside

TIMEOUT_S: Final = 10.0
_NOT_US: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class Server:
    """Sends to `target`; the token's file may change at any time. For one thread."""

    def __init__(
        self, target: Target, token_file: Path | None, ca_file: Path | None, node: str, aside: SetAside
    ) -> None:
        self._target, self._token_file, self._ca_file = target, token_file, ca_file
        self._node, self._aside = node, aside
        self._sender: Sender | None = None

    def send(self, table: Table, lines: Sequence[bytes]) -> int:
        """As Sender.send. Raises StoreError: the token cannot be read; Unreachable, Refused."""
        if self._sender is None:
            secret = None if self._token_file is None else read_secret(self._token_file)
            writer = line_writer(self._target, secret, self._ca_file, TIMEOUT_S)
            self._sender = Sender(writer, self._node, self._aside)
        try:
            return self._sender.send(table, lines)
        except Refused as error:
            if error.status in _NOT_US:
                self.close()
            raise

    @property
    def clock_ns(self) -> int | None:
        """The server's clock at its last good answer, ns since 1970; None: it did not say."""
        return self._sender.clock_ns if self._sender is not None else None

    def close(self) -> None:
        """Let go of the sockets; the next rows open new ones."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None
