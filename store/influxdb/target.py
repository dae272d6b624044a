# SPDX-License-Identifier: Apache-2.0
"""Which server, which organisation, which buckets: one line of text, without any secret (docs/store.md)."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from store.errors import StoreError
from store.schema import EVENT, HOP_1M, HOP_10M, HOP_10S, HOP_SAMPLE, TABLES, Table

SCHEMES: Final = ("influxdb2", "influxdb1", "victoriametrics")
TLS: Final = "+https"
DEFAULT_NAME: Final = "overhop"
_BUCKETS: Final = {
    HOP_10S.name: "10s",
    HOP_1M.name: "1m",
    HOP_10M.name: "10m",
    HOP_SAMPLE.name: "samples",
    EVENT.name: "events",
}
_MEASUREMENTS: Final = {HOP_SAMPLE.name: "hop_sample", EVENT.name: "event"}
_PORTS: Final = {"influxdb2": 8086, "influxdb1": 8086, "victoriametrics": 8428}
_MAX_SECRET_BYTES: Final = 4096
_EXAMPLE: Final = "such as influxdb2://influxdb.example:8086/ORG"


class Flavour(StrEnum):
    """What the server speaks."""

    INFLUXDB2 = "influxdb2"
    INFLUXDB1 = "influxdb1"
    VICTORIAMETRICS = "victoriametrics"
    """Numbers of summaries only, and only to be written by us; other line-protocol clusters likewise."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server and what of it is ours."""

    flavour: Flavour
    base_url: str
    """`http://HOST:PORT` or `https://HOST:PORT`, without a slash at the end."""
    org: str = DEFAULT_NAME
    """InfluxDB 2's organisation."""
    user: str = ""
    """InfluxDB 1's user; empty: nobody logs in."""
    prefix: str = DEFAULT_NAME
    """What names of buckets (databases) begin with."""

    @property
    def tables(self) -> tuple[Table, ...]:
        """Those that are kept there. VictoriaMetrics merges 10 s rows itself, and takes no texts."""
        return (HOP_10S,) if self.flavour is Flavour.VICTORIAMETRICS else TABLES

    def bucket(self, table: Table) -> str:
        """The bucket (InfluxDB 1: database) of a table."""
        return f"{self.prefix}_{_BUCKETS[table.name]}"

    def __str__(self) -> str:
        tls = TLS if self.base_url.startswith("https:") else ""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        org = quote(self.org, safe="") if self.flavour is Flavour.INFLUXDB2 else ""
        prefix = f"?prefix={quote(self.prefix, safe='')}" if self.prefix != DEFAULT_NAME else ""
        return f"{self.flavour}{tls}://{user}{self.base_url.partition('://')[2]}/{org}{prefix}"


class Secret:
    """A token or password: nothing shows it but `reveal`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"


def measurement(target: Target, table: Table) -> str:
    """What rows of the table are called there: InfluxDB's resolutions are told apart by their buckets."""
    if target.flavour is Flavour.VICTORIAMETRICS:
        return table.name
    return _MEASUREMENTS.get(table.name, "hop")


def is_target(text: str) -> bool:
    """Whether the text is meant as a server, not as a directory."""
    return "://" in text


def parse_target(text: str) -> Target:
    """`influxdb2[+https]://HOST[:PORT]/[ORG][?prefix=NAME]`, `influxdb1[+https]://[USER@]HOST[:PORT]/`,
    `victoriametrics[+https]://HOST[:PORT]/`. Raises ValueError; the message never has what may be a secret.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"it is no address of a server, {_EXAMPLE}") from None
    scheme, _, tls = parts.scheme.partition("+")
    if scheme not in SCHEMES or tls not in ("", "https"):
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise ValueError(f"{parts.scheme[:40]}:// is none of {known} ({SCHEMES[0]}{TLS}:// with TLS)")
    if parts.password is not None:
        raise ValueError("it has a password in it: put that into a file and name it with --store-token-file")
    if not host:
        raise ValueError(f"it names no host, {_EXAMPLE}")
    flavour = Flavour(scheme)
    org, prefix, user = _org(flavour, parts), _prefix(parts), _user(flavour, parts)
    place = f"[{host}]" if ":" in host else host
    base_url = f"{'https' if tls else 'http'}://{place}:{port or _PORTS[scheme]}"
    return Target(flavour, base_url, org, user, prefix)


def read_secret(path: Path) -> Secret:
    """The token (InfluxDB 1: password) in a file, without the end of its line. Raises StoreError."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_SECRET_BYTES + 1).decode("ascii").strip()
    except OSError as error:
        raise StoreError(f"token file {path}: {error.strerror}: look at its path and its rights") from None
    except UnicodeDecodeError:
        raise StoreError(f"token file {path}: it holds no token (bytes that are not ASCII)") from None
    if not text or len(text) > _MAX_SECRET_BYTES or not text.isprintable():
        raise StoreError(f"token file {path}: it holds no token (one line of at most 4096 characters)")
    return Secret(text)


def _org(flavour: Flavour, parts: SplitResult) -> str:
    path = unquote(parts.path.strip("/"))
    if not path:
        return DEFAULT_NAME
    if flavour is not Flavour.INFLUXDB2:
        raise ValueError(f"{flavour} has no organisations: nothing stands behind the host")
    if "/" in path:
        raise ValueError("behind the host there is one name, the organisation")
    return path


def _user(flavour: Flavour, parts: SplitResult) -> str:
    if parts.username and flavour is not Flavour.INFLUXDB1:
        raise ValueError(f"{flavour} has no users: give a token with --store-token-file")
    return unquote(parts.username or "")


def _prefix(parts: SplitResult) -> str:
    if parts.fragment:
        raise ValueError("there is nothing behind a #")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    unknown = sorted({name for name, _ in pairs} - {"prefix"})
    if unknown:
        raise ValueError(f"{unknown[0][:40]!r} is unknown: there is prefix only")
    prefix = dict(pairs).get("prefix", DEFAULT_NAME)
    if not prefix or len(prefix) > 40 or not all(each.isalnum() or each in "-_" for each in prefix):
        raise ValueError("prefix is 1 to 40 letters, digits, - and _")
    return prefix
