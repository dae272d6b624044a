# SPDX-License-Identifier: Apache-2.0
"""HTTP to one server: who we are, what went wrong in words, statements of InfluxQL."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from store.influxdb.target import Flavour, Secret, Target
from store.query import StoreError

TIMEOUT_S: Final = 30.0
CHUNK_ROWS: Final = 5_000
"""Rows that a server sends at once: it reads on while we decode."""
_NO_SPACE: Final = "no space left on device"
_FULL: Final = "its disk is full: make room, then restart it, it does not recover by itself"
_SHOWN: Final = 300
"""Characters of what a server says that are shown."""


class Unreachable(StoreError):  # noqa: N818  says what is the case
    """Nobody answers there, or not in time; it may pass."""


class Refused(StoreError):  # noqa: N818
    """The server answered, and not as was hoped. `status` is HTTP's, `said` the server's own words."""

    def __init__(self, message: str, status: int, said: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.said = said
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `clock_ns`: the server's clock, ns since 1970, by the second; None: it did not say."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    clock_ns: int | None


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one series as InfluxQL gives them: `values` row by row, `None` where there is nothing."""

    name: str
    tags: Mapping[str, str]
    columns: Sequence[str]
    values: list[list[Any]] = field(default_factory=list)  # Any: JSON


class Connection:
    """Requests to `target`; for one thread. Nothing is tried twice: callers know what may be."""

    def __init__(
        self,
        target: Target,
        secret: Secret | None,
        ca_file: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.target = target
        self.secret = secret
        self.ca_file = ca_file
        more: dict[str, Any] = {} if ca_file is None else {"ca_certs": str(ca_file)}
        timeout = urllib3.Timeout(connect=min(5.0, timeout_s), read=timeout_s)
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=2, retries=False, timeout=timeout, **more)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Any answer, whatever its status. Raises Unreachable."""
        try:
            answer = self._pool.request(
                method,
                self.target.base_url + path,
                fields=None if body is not None or not query else dict(query),
                body=body,
                headers={**self._identity(), **(headers or {})},
                redirect=False,
            )
        except (HTTPError, OSError) as error:
            raise self.unreachable(error) from None
        found = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status, found, answer.data, clock_ns(found.get("date")))

    def influxql(self, database: str, statements: Sequence[str]) -> list[list[Block]]:
        """The blocks of each statement, times in ns. Raises Unreachable, Refused."""
        found: list[list[Block]] = [[] for _ in statements]
        for number, block in self.blocks(database, statements):
            found[number].append(block)
        return found

    def blocks(self, database: str, statements: Sequence[str]) -> Iterator[tuple[int, Block]]:
        """Blocks as they come, each with the number of its statement; of a series there may be several.

        Raises Unreachable, Refused, also after some of them.
        """
        if not statements:
            return
        fields = {
            "db": database,
            "epoch": "ns",
            "chunked": "true",
            "chunk_size": str(CHUNK_ROWS),
            "q": ";".join(statements),
        }
        try:
            answer = self._pool.request(
                "POST",
                self.target.base_url + "/query",
                fields=fields,
                encode_multipart=False,
                headers=self._identity(),
                preload_content=False,
                redirect=False,
            )
            try:
                if answer.status != HTTPStatus.OK:
                    raise self.refused(answer.status, answer.headers, answer.data)
                for line in _lines(answer):
                    yield from self._decoded(line)
            finally:
                answer.close()  # what was read to its end is back in the pool already
        except (HTTPError, OSError) as error:
            raise self.unreachable(error) from None

    def unreachable(self, error: Exception) -> Unreachable:
        """In words, without addresses of objects and without what may be secret."""
        reason = str(error.__cause__ or error).rpartition(": ")[2][:_SHOWN]
        advice = "is it running, and is this its address?"
        if isinstance(error, SSLError) or "ssl" in str(error).lower():
            advice = "name the authority that signed its certificate with --store-ca-file"
        return Unreachable(f"store {self.target}: nobody answers: {self._safe(reason)}: {advice}")

    def refused(self, status: int, headers: Mapping[str, str], data: bytes) -> Refused:
        """What an answer of that status means, and what to do."""
        said = self._safe(_said(data, headers))
        meaning = _FULL if _NO_SPACE in said else _meaning(status, self.target)
        return Refused(
            f"store {self.target}: {meaning}: {said or _phrase(status)}",
            status,
            said,
            _seconds(headers.get("retry-after") or headers.get("Retry-After")),
        )

    def close(self) -> None:
        """Let go of the sockets."""
        self._pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _identity(self) -> dict[str, str]:
        # Not compressed: a day of 10 min rows is 45 MB, for which a server took 13 s instead of 2.
        headers = {"user-agent": "overhop", "accept-encoding": "identity"}
        if self.secret is None:
            return headers
        if self.target.flavour is Flavour.INFLUXDB1:
            basic = f"{self.target.user}:{self.secret.reveal()}"
            return headers | urllib3.make_headers(basic_auth=basic)
        return headers | {"authorization": f"Token {self.secret.reveal()}"}

    def _decoded(self, line: bytes) -> list[tuple[int, Block]]:
        """One piece of an answer."""
        try:
            answer: Any = json.loads(line)
            results = answer.get("results", [])
            said = [each["error"] for each in (answer, *results) if "error" in each]
            found = [
                (
                    result["statement_id"],
                    Block(
                        series.get("name", ""),
                        series.get("tags", {}),
                        series["columns"],
                        series.get("values", []),
                    ),
                )
                for result in results
                for series in result.get("series", ())
            ]
        except (ValueError, AttributeError, KeyError, TypeError):
            shown = self._safe(" ".join(line[:_SHOWN].decode(errors="replace").split()))
            message = f"store {self.target}: what it answers is not InfluxDB's: {shown[:60]!r}"
            raise Refused(f"{message}: is this its address?", HTTPStatus.OK, shown) from None
        if said:
            reason = self._safe(str(said[0])[:_SHOWN])
            raise Refused(f"store {self.target}: it cannot answer: {reason}", HTTPStatus.OK, reason)
        return found

    def _safe(self, text: str) -> str:
        """A server may repeat what it was sent."""
        return text.replace(self.secret.reveal(), "[token]") if self.secret is not None else text


def clock_ns(date: str | None) -> int | None:
    """ns since 1970 of an HTTP date; None: there is none that can be read."""
    if not date:
        return None
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return int(moment.astimezone(UTC).timestamp()) * 1_000_000_000


def text_time(time_ns: int) -> str:
    """For people: `2026-11-20T17:05:12Z`."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    for piece in answer.stream(1 << 20, decode_content=True):
        *lines, rest = (rest + piece).split(b"\n")
        yield from filter(bytes.strip, lines)
    if rest.strip():
        yield rest


def _said(data: bytes, headers: Mapping[str, str]) -> str:
    try:
        answer: Any = json.loads(data)
        said = answer.get("message") or answer.get("error") or ""
    except (ValueError, AttributeError):
        said = headers.get("x-influxdb-error", "") or data.decode(errors="replace")
    return " ".join(str(said).split())[:_SHOWN]


def _meaning(status: int, target: Target) -> str:
    meanings = {
        400: "it does not understand",
        401: "it does not accept the token (--store-token-file)",
        403: "the token has not the right for that (--store-token-file)",
        404: "it has no such organisation or bucket, or the token may not see it: run overhop store init",
        413: "that was too much at once",
        422: "it does not take every row",
        429: "it asks for patience",
    }
    if status == HTTPStatus.UNAUTHORIZED and target.flavour is Flavour.INFLUXDB1:
        return "it does not accept user and password (influxdb1://USER@HOST, --store-token-file)"
    known = meanings.get(status)
    return known or (f"it fails (HTTP {status})" if status >= 500 else f"HTTP {status}")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "it does not say why"


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() else None
