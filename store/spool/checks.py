# SPDX-License-Identifier: Apache-2.0
"""How a spool stands, seen from outside: what waits, who sends it, what was lost (`overhop store check`)."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from store.errors import StoreError
from store.influxdb.checks import Check, State
from store.layout import APPENDERS, decode_node, encode_node, listing, node_directory
from store.locks import FORWARDERS, WRITER_LOCK
from store.schema import TABLES, Table
from store.segment import SegmentReader, is_held
from store.spool.facts import REASONS
from store.spool.position import Position, positions

LONG_S: Final = 60.0
"""Rows are sent within a second or two of their being written."""
_WORDS: Final = {
    "rejected": "refused by the server",
    "no_room": "lost because the spool was full",
    "too_old": "lost because they waited too long",
    "damaged": "that could not be read",
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """Of one node: rows that are not sent. `oldest_ns`: of the first of them."""

    rows: int = 0
    size_bytes: int = 0
    oldest_ns: int | None = None


def check_spool(spool: Path, now_ns: int) -> Iterator[Check]:
    """One check for each node that has rows there; none if there is no spool. Changes nothing."""
    if (spool / WRITER_LOCK).exists():
        return  # an embedded store
    try:
        names = sorted(os.listdir(spool / APPENDERS))
    except FileNotFoundError:
        return
    except OSError as error:
        yield Check("spool", State.SKIPPED, f"{spool}: {error.strerror}", "run it as who runs the agent")
        return
    for node in filter(None, map(decode_node, names)):
        try:
            sent = _positions(spool, node)
            yield spool_check(node, waiting(spool, node, sent), sent, now_ns, is_sent=_is_sent(spool, node))
        except (OSError, StoreError) as error:
            yield Check(f"spool of {node}", State.SKIPPED, str(error), "look at the directory and its rights")


def spool_check(
    node: str, found: Waiting, sent: Mapping[str, Position], now_ns: int, *, is_sent: bool
) -> Check:
    """What it means. `is_sent`: a forwarder runs."""
    name = f"spool of {node}"
    lost = _lost(sent)
    seen = f"{sum(each.sent for each in sent.values()):,} rows sent{lost}; "
    if found.oldest_ns is None:
        state = State.WARNING if lost else State.OK
        return Check(
            name, state, seen + "none waits", "docs/spool.md says what becomes of rows" if lost else ""
        )
    age_s = max(0.0, (now_ns - found.oldest_ns) / 1e9)
    seen += f"{found.rows:,} wait ({found.size_bytes:,} bytes), the oldest for {age_s:,.0f} s"
    if not is_sent:
        return Check(name, State.WARNING, f"{seen}; nobody sends them", "start the agent of that node")
    if age_s > LONG_S:
        return Check(name, State.WARNING, seen, "does the server take rows? its checks stand above")
    return Check(name, State.WARNING if lost else State.OK, seen)


def waiting(spool: Path, node: str, sent: Mapping[str, Position]) -> Waiting:
    """Rows behind the positions. Raises OSError, StoreError."""
    found = [each for table in TABLES for each in _segments(spool, table, node, sent[table.name])]
    return Waiting(
        sum(each.rows for each in found),
        sum(each.size_bytes for each in found),
        min((each.oldest_ns for each in found if each.oldest_ns is not None), default=None),
    )


def _segments(spool: Path, table: Table, node: str, position: Position) -> Iterator[Waiting]:
    directory = node_directory(spool, table.name, node)
    for entry in listing(directory):
        if entry.is_parquet or entry.first < position.number:
            continue
        with suppress(FileNotFoundError), SegmentReader(directory / entry.name) as reader:  # sent meanwhile
            reader.skip_to(position.offset if entry.first == position.number else 0)
            begin = reader.offset
            starts = list(reader.starts())
            first_ns = starts[0].first_ns if starts else None
            yield Waiting(sum(start.rows for start in starts), reader.offset - begin, first_ns)


def _lost(sent: Mapping[str, Position]) -> str:
    counts = {reason: sum(getattr(each, reason) for each in sent.values()) for reason in REASONS}
    return "".join(f", {count:,} {_WORDS[reason]}" for reason, count in counts.items() if count)


def _positions(spool: Path, node: str) -> Mapping[str, Position]:
    try:
        return positions(spool, node)
    except FileNotFoundError:  # no forwarder ever ran
        return {table.name: Position() for table in TABLES}


def _is_sent(spool: Path, node: str) -> bool:
    """Whether somebody holds the forwarder's lock."""
    try:
        return is_held(spool / FORWARDERS / encode_node(node))
    except FileNotFoundError:
        return False
