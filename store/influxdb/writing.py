# SPDX-License-Identifier: Apache-2.0
"""Lines into a server: InfluxDB 2 by influxdb_client, what speaks InfluxDB 1's protocol by plain HTTP."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException
from influxdb_client.service.write_service import WriteService
from urllib3.exceptions import HTTPError

from store.influxdb.http import TIMEOUT_S, Connection, Response, clock_ns
from store.influxdb.target import Flavour, Secret, Target
from store.query import StoreError
from store.schema import Table

_TEXT: Final = "text/plain; charset=utf-8"
_GZIP_WBITS: Final = zlib.MAX_WBITS | 16
_OK: Final = range(200, 300)


class LineWriter(Protocol):
    """Writes lines of one table; for one thread."""

    def write(self, table: Table, lines: Sequence[bytes]) -> Response:
        """All of them are there when this returns. Raises Unreachable, Refused: some of them may be there."""
        ...

    def close(self) -> None:
        """Let go of the sockets."""
        ...


def line_writer(
    target: Target, secret: Secret | None, ca_file: Path | None = None, timeout_s: float = TIMEOUT_S
) -> LineWriter:
    """The writer for that server. Raises StoreError: InfluxDB 2 without a token."""
    if target.flavour is not Flavour.INFLUXDB2:
        return _HttpWriter(Connection(target, secret, ca_file, timeout_s))
    if secret is None:
        raise StoreError(
            f"store {target}: it takes nothing without a token: name its file (--store-token-file)"
        )
    return _ClientWriter(target, secret, ca_file, timeout_s)


class _HttpWriter:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, table: Table, lines: Sequence[bytes]) -> Response:
        answer = self._connection.request(
            "POST",
            f"/write?db={self._connection.target.bucket(table)}&precision=ns",
            body=_packed(lines),
            headers={"content-encoding": "gzip", "content-type": _TEXT},
        )
        if answer.status not in _OK:
            raise self._connection.refused(answer.status, answer.headers, answer.data)
        return answer

    def close(self) -> None:
        self._connection.close()


class _ClientWriter:
    """`Connection` says in words what went wrong, so that all servers fail alike."""

    def __init__(self, target: Target, secret: Secret, ca_file: Path | None, timeout_s: float) -> None:
        self._target = target
        self._words = Connection(target, secret, ca_file, timeout_s)
        self._client = InfluxDBClient(
            target.base_url,
            secret.reveal(),
            org=target.org,
            timeout=int(timeout_s * 1000),
            ssl_ca_cert=None if ca_file is None else str(ca_file),
            retries=False,
        )
        self._service = WriteService(self._client.api_client)

    def write(self, table: Table, lines: Sequence[bytes]) -> Response:
        # Packed here: influxdb_client packs at level 9, ten times the time for a tenth less.
        try:
            _, status, headers = self._service.post_write_with_http_info(
                self._target.org,
                self._target.bucket(table),
                _packed(lines),
                precision="ns",
                content_encoding="gzip",
                content_type=_TEXT,
                _return_http_data_only=False,
            )
        except ApiException as error:
            headers = _lower(error.headers or {})
            raise self._words.refused(int(error.status or 0), headers, _bytes(error.body)) from None
        except (HTTPError, OSError) as error:
            raise self._words.unreachable(error) from None
        found = _lower(headers)
        return Response(status, found, b"", clock_ns(found.get("date")))

    def close(self) -> None:
        self._client.close()
        self._words.close()


def _packed(lines: Sequence[bytes]) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WBITS)
    return packer.compress(b"\n".join(lines)) + packer.flush()


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _bytes(body: object) -> bytes:
    return body if isinstance(body, bytes) else str(body or "").encode()
