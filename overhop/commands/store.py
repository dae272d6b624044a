# SPDX-License-Identifier: Apache-2.0
"""`overhop store`: make, check, measure and fill the store that the configuration names."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overhop import errors, output
from overhop.stored import Place, connected
from store.influxdb.target import Flavour, Target

if TYPE_CHECKING:
    from store.influxdb.checks import Check
    from store.influxdb.usage import BucketUsage
    from store.query import Span

_USAGE_COLUMNS = (
    *("bucket", "nodes", "series", "rows", "last hour"),
    *("size", "bytes/row", "when full", "a node more"),
)
NOTHING_TO_MAKE = "VictoriaMetrics has no buckets: give it -retentionPeriod=7d or more"


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Options of all of its commands. `place` raises ConfigError."""

    place: Callable[[], Place]
    as_json: bool


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Options of `import`."""

    place: Callable[[], Place]
    source: Path
    since: str | None
    until: str | None
    as_json: bool


def do_init(options: StoreOptions) -> int:
    """Make what is missing; an embedded store is made by its agent, but can be made here too.

    Raises StoreError, UsageError.
    """
    place = _named(options.place())
    if isinstance(place.at, Path):
        from store.layout import create_store

        place.at.parent.mkdir(parents=True, exist_ok=True)
        create_store(place.at)
        return _say(options, {"store": str(place), "buckets": []}, [f"{place}: ready"])
    assert place.at is not None
    from store.influxdb.admin import init

    with output.patience("making buckets"), connected(place) as connection:
        done = init(connection)
    lines = [f"{each.bucket}: {each.what}, kept {_days(each.retention_s)}" for each in done]
    if place.at.flavour is Flavour.VICTORIAMETRICS:
        lines = [NOTHING_TO_MAKE]
    return _say(options, {"store": str(place), "buckets": [asdict(each) for each in done]}, lines)


def do_check(options: StoreOptions) -> int:
    """Check it; failed if agents could not use it. Raises UsageError; StoreError: no token can be read."""
    from store.influxdb.checks import State

    place = _named(options.place())
    with output.patience("checking the store"):
        checks = _checks(place)
    failed = any(check.state is State.FAILED for check in checks)
    if options.as_json:
        output.show_json({"store": str(place), "ok": not failed, "checks": [asdict(each) for each in checks]})
    else:
        _show_checks(place, checks)
    return errors.FAILED if failed else errors.DONE


def do_usage(options: StoreOptions) -> int:
    """How much is there, and what there would be. Raises StoreError, UsageError."""
    place = _named(options.place())
    with output.patience("counting"):
        used = _usage(place)
    if options.as_json:
        output.show_json({"store": str(place), "buckets": [_usage_json(each) for each in used]})
    else:
        _show_usage(place, used)
    return errors.DONE


def do_import(options: ImportOptions) -> int:
    """An embedded store into a server. Raises StoreError, UsageError."""
    from store.importing import import_store
    from store.influxdb.writing import line_writer
    from store.spool.sending import Sender, SetAside

    place = _named(options.place())
    if not isinstance(place.at, Target):
        raise errors.UsageError(f"--store {place}: rows are imported into a server: give its URL")
    now_ns = time.time_ns()
    span = _span(options, now_ns)
    told = _Progress()
    with connected(place) as connection:
        writer = line_writer(place.at, connection.secret, place.ca_file)
        sender = Sender(writer, "import", SetAside(options.source, "import"))
        try:
            done = import_store(options.source, place.at, sender, span, now_ns, told.hour)
        finally:
            told.end()
            sender.close()
    counts = {name: dict(getattr(done, name)) for name in ("read", "written", "too_old", "rejected")}
    lines = [
        f"{table}: {rows:,} rows read, {done.written[table]:,} written"
        + (f", {done.too_old[table]:,} older than they are kept" if done.too_old[table] else "")
        + (f", {done.rejected[table]:,} refused" if done.rejected[table] else "")
        for table, rows in done.read.items()
    ]
    lines += [f"not read: {problem}" for problem in done.problems]
    said = {"store": str(place), **counts, "problems": done.problems}
    _say(StoreOptions(options.place, options.as_json), said, lines or ["nothing to import"])
    return errors.FAILED if done.problems or sum(done.rejected.values()) else errors.DONE


def _named(place: Place) -> Place:
    """Raises UsageError."""
    if place.at is None:
        raise errors.UsageError("store: the configuration says none: give --store DIR or a server's URL")
    return place


def _checks(place: Place) -> "list[Check]":
    if isinstance(place.at, Path):
        from overhop.embedded import check_embedded

        return [*check_embedded(place.at)]
    from store.influxdb.checks import check_server

    with connected(place) as connection:
        return [*check_server(connection, os.uname().nodename)]


def _usage(place: Place) -> "list[BucketUsage]":
    if isinstance(place.at, Path):
        from overhop.embedded import embedded_usage

        return embedded_usage(place.at, time.time_ns())
    from store.influxdb.usage import usage

    with connected(place) as connection:
        return usage(connection)


def _usage_json(used: "BucketUsage") -> dict[str, object]:
    from store.influxdb.usage import projection
    from store.schema import table

    more = {"bytes_per_row": used.bytes_per_row}
    return asdict(used) | more | {"full": asdict(projection(used, table(used.table).retention_s))}


def _span(options: ImportOptions, now_ns: int) -> "Span":
    from insight.times import parse_time
    from store.query import Span

    try:
        since_ns = parse_time(options.since, now_ns) if options.since else 0
        until_ns = parse_time(options.until, now_ns) if options.until else now_ns
    except ValueError as error:
        raise errors.UsageError(str(error)) from None
    if since_ns >= until_ns:
        raise errors.UsageError(f"--since {options.since} is not before --until {options.until or 'now'}")
    return Span(since_ns, until_ns)


class _Progress:
    """A line on a terminal that says how far it is."""

    def __init__(self) -> None:
        self._rows = 0
        self._next_s = time.monotonic() + 1.0
        self._is_said = False

    def hour(self, table: object, node: str, rows: int) -> None:
        self._rows += rows
        if sys.stderr.isatty() and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + 0.5
            self._is_said = True
            sys.stderr.write(f"\r\x1b[Kimporting {getattr(table, 'name', '')} of {node}: {self._rows:,} rows")

    def end(self) -> None:
        if self._is_said:
            sys.stderr.write("\r\x1b[K")


def _show_checks(place: Place, checks: "Sequence[Check]") -> None:
    from rich.table import Table
    from rich.text import Text

    from overhop.text import printable

    marks = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        said = check.seen + (f"\n→ {check.advice}" if check.advice else "")
        table.add_row(
            Text(check.state, marks[check.state]),
            check.name,
            Text("\n".join(map(printable, said.split("\n")))),
        )
    output.show(Text(f"store {place}", "bold"))
    output.show(table)


def _show_usage(place: Place, used: "Sequence[BucketUsage]") -> None:
    from rich.table import Table
    from rich.text import Text

    from store.influxdb.usage import projection
    from store.schema import table as table_of

    now = Table(box=None, pad_edge=False, header_style="bold")
    for name in _USAGE_COLUMNS:
        now.add_column(name, justify="left" if name == "bucket" else "right")
    for each in used:
        full = projection(each, table_of(each.table).retention_s)
        now.add_row(
            each.bucket,
            f"{each.nodes:,}",
            "" if each.series is None else f"{each.series:,}",
            f"{each.rows:,}",
            f"{each.rows_hour:,}",
            _size(each.size_bytes),
            "" if each.bytes_per_row is None else f"{each.bytes_per_row:,.0f}",
            _size(full.size_bytes),
            _size(full.per_node_bytes),
        )
    output.show(Text(f"store {place}", "bold"))
    output.show(now)
    output.show(Text("when full: at the rate of the last hour, when retention is reached (docs/sizing.md)"))


def _size(size_bytes: float | None) -> str:
    if size_bytes is None:
        return "?"
    for unit, each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= each:
            return f"{size_bytes / each:,.1f} {unit}"
    return f"{size_bytes:,.0f} B"


def _days(seconds: int) -> str:
    return "for ever" if not seconds else f"{seconds / 86_400:,.0f} days"


def _say(options: StoreOptions, data: Mapping[str, object], lines: Sequence[str]) -> int:
    if options.as_json:
        output.show_json(data)
    else:
        output.show_lines(lines)
    return errors.DONE
