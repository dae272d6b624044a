# SPDX-License-Identifier: Apache-2.0
"""`overhop store`: make, check, measure and fill the store that the configuration names."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overhop import errors, output, store_view
from overhop.stored import Place, connected
from store.errors import StoreError
from store.influxdb.target import Flavour, Target

if TYPE_CHECKING:
    from store.influxdb.checks import Check
    from store.influxdb.http import Connection
    from store.influxdb.usage import BucketUsage
    from store.query import Span
    from store.schema import Table

_log = logging.getLogger(__name__)
_ALWAYS_NS = (1 << 63) - 1
"""Row times can be ahead of the clock (docs/store.md)."""
_IMPORTED = ("read", "written", "too_old", "rejected")


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
    if place.at.flavour is Flavour.VICTORIAMETRICS:
        return _say(options, {"store": str(place), "buckets": []}, [_nothing_to_make(place)])
    from store.influxdb.admin import init

    with output.patience("making buckets"), connected(place) as connection:
        done = init(connection)
    said = {"store": str(place), "buckets": [asdict(each) for each in done]}
    return _say(options, said, store_view.made_lines(done))


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
        output.show(store_view.checks_view(str(place), checks))
    return errors.FAILED if failed else errors.DONE


def do_usage(options: StoreOptions) -> int:
    """How much is there, and what there would be. Raises StoreError, UsageError."""
    place = _named(options.place())
    with output.patience("counting"):
        used = _usage(place)
    if options.as_json:
        buckets = [store_view.usage_json(each) for each in used]
        output.show_json({"store": str(place), "buckets": buckets})
    else:
        output.show(store_view.usage_view(str(place), used))
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
        kept_s = _kept_by(connection)
        writer = line_writer(place.at, connection.secret, place.ca_file)
        sender = Sender(writer, "import", SetAside(options.source, "import"))
        try:
            done = import_store(options.source, place.at, sender, span, now_ns, told.piece, kept_s)
        except (StoreError, KeyboardInterrupt):
            told.end()
            if told.rows:
                _log.warning("%s rows are there: the same command goes on from here", f"{told.rows:,}")
            raise
        finally:
            told.end()
            sender.close()
    counts = {name: dict(getattr(done, name)) for name in _IMPORTED}
    said = {"store": str(place), "continued": done.is_continued, **counts, "problems": done.problems}
    _say(options, said, store_view.imported_lines(done))
    return errors.FAILED if done.problems or sum(done.rejected.values()) else errors.DONE


def _named(place: Place) -> Place:
    """Raises UsageError."""
    if place.at is None:
        raise errors.UsageError("store: the configuration says none: give --store DIR or a server's URL")
    return place


def _nothing_to_make(place: Place) -> str:
    """Raises StoreError if no VictoriaMetrics is there."""
    from store.influxdb.checks import State, victoriametrics_checks
    from store.influxdb.victoriametrics import ask

    with connected(place) as connection:
        checks = victoriametrics_checks(ask(connection))
    for check in checks:
        if check.state is State.FAILED:
            raise StoreError(f"store {place}: {check.seen}: {check.advice}")
    told = checks[1:] or checks  # the version, unless that is all there is
    said = [f"{check.seen}: {check.advice}" if check.advice else check.seen for check in told]
    return "; ".join(["nothing to make in VictoriaMetrics", *said])


def _kept_by(connection: "Connection") -> dict[str, int]:
    """How long the server keeps rows, by table, as far as it tells. Raises StoreError: a newer schema."""
    from store.influxdb.admin import buckets
    from store.influxdb.asking import require_known_schema

    if connection.target.flavour is Flavour.VICTORIAMETRICS:
        return {}
    require_known_schema(connection)
    kept_s = {bucket.name: bucket.retention_s for bucket in buckets(connection)}
    names = {table.name: connection.target.bucket(table) for table in connection.target.tables}
    return {name: kept_s[bucket] for name, bucket in names.items() if bucket in kept_s}


def _checks(place: Place) -> "list[Check]":
    from store.spool.checks import check_spool

    if isinstance(place.at, Path):
        from overhop.embedded import check_embedded

        found = [*check_embedded(place.at)]
    else:
        from store.influxdb.checks import check_server

        with connected(place) as connection:
            found = [*check_server(connection, os.uname().nodename)]
    return [*found, *(check_spool(place.spool, time.time_ns()) if place.spool else ())]


def _usage(place: Place) -> "list[BucketUsage]":
    if isinstance(place.at, Path):
        from overhop.embedded import embedded_usage

        return embedded_usage(place.at, time.time_ns())
    from store.influxdb.usage import usage

    with connected(place) as connection:
        return usage(connection)


def _span(options: ImportOptions, now_ns: int) -> "Span":
    from insight.times import parse_time
    from store.query import Span

    try:
        since_ns = parse_time(options.since, now_ns) if options.since else 0
        until_ns = parse_time(options.until, now_ns) if options.until else _ALWAYS_NS
    except ValueError as error:
        raise errors.UsageError(str(error)) from None
    if since_ns >= until_ns:
        raise errors.UsageError(f"--since {options.since} is not before --until {options.until}")
    return Span(since_ns, until_ns)


class _Progress:
    """A line on a terminal that says how far it is."""

    def __init__(self) -> None:
        self.rows = 0
        self._next_s = time.monotonic() + 1.0
        self._is_said = False

    def piece(self, table: "Table", node: str, rows: int) -> None:
        self.rows += rows
        if sys.stderr.isatty() and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + 0.5
            self._is_said = True
            sys.stderr.write(f"\r\x1b[Kimporting {table.name} of {node}: {self.rows:,} rows ...")
            sys.stderr.flush()

    def end(self) -> None:
        if self._is_said:
            sys.stderr.write("\r\x1b[K")
            self._is_said = False


def _say(options: StoreOptions | ImportOptions, data: Mapping[str, object], lines: Sequence[str]) -> int:
    if options.as_json:
        output.show_json(data)
    else:
        output.show_lines(lines)
    return errors.DONE
