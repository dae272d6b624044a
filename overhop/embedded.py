# SPDX-License-Identifier: Apache-2.0
"""Checks and usage of an embedded store, beside those of servers (store.influxdb.checks, usage)."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from store.errors import StoreError
from store.extents import extents, rows_since
from store.influxdb.checks import Check, State
from store.influxdb.sizing import Used
from store.influxdb.usage import BucketUsage
from store.layout import check_store
from store.locks import WRITER_LOCK
from store.reading import RowReader
from store.schema import TABLES, Table
from store.spool.places import require_store

LEAST_FREE: float = 0.05
_HOUR_NS = 3_600_000_000_000
_DAY_NS = 24 * _HOUR_NS


def check_embedded(directory: Path) -> Iterator[Check]:
    """Each as it is done."""
    try:
        require_store(directory)
        check_store(directory)
    except (StoreError, OSError) as error:
        yield Check("directory", State.FAILED, str(error))
        return
    yield Check("directory", State.OK, f"{directory}, its format and schema are known")
    yield _rights(directory)
    yield _room(directory)
    yield _writer(directory)


def embedded_usage(directory: Path, now_ns: int) -> list[BucketUsage]:
    """Of each table. Raises StoreError, OSError."""
    check_store(directory)
    reader = RowReader(directory.absolute())
    try:
        return [_usage(reader, table, now_ns) for table in TABLES]
    finally:
        reader.close()


def _rights(directory: Path) -> Check:
    if os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return Check("rights", State.OK, "may be read and written")
    return Check(
        "rights", State.FAILED, "may not be read and written by this user", "run it as who runs the agent"
    )


def _room(directory: Path) -> Check:
    about = os.statvfs(directory)
    free, share = about.f_bavail * about.f_frsize, about.f_bavail / max(about.f_blocks, 1)
    seen = f"{free / 1e9:,.1f} GB free, {share:.0%} of the disk"
    if share < LEAST_FREE:
        return Check("room", State.WARNING, seen, "make room, or give the store another disk")
    return Check("room", State.OK, seen)


def _writer(directory: Path) -> Check:
    """Whether somebody holds its lock."""
    try:
        descriptor = os.open(directory / WRITER_LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return Check("writer", State.WARNING, "none ever ran", "an agent starts it: does one write there?")
    except OSError as error:
        return Check("writer", State.SKIPPED, str(error))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Check("writer", State.OK, "runs")
    finally:
        os.close(descriptor)
    return Check("writer", State.WARNING, "none runs", "an agent starts it: does one write there?")


def _usage(reader: RowReader, table: Table, now_ns: int) -> BucketUsage:
    directories = reader.directories(table)
    rows = sum(extent.rows for path in directories for extent in extents(reader, path))
    hour, day = (
        sum(rows_since(reader, table, path, now_ns - span_ns) for path in directories)
        for span_ns in (_HOUR_NS, _DAY_NS)
    )
    size = sum(map(_size, directories))
    used = Used(None, len(directories), hour, day, rows, size)
    return BucketUsage(table, table.name, used, table.retention_s)


def _size(directory: Path) -> int:
    size = 0
    for path in directory.iterdir():
        with suppress(FileNotFoundError):  # compacted meanwhile
            size += path.stat().st_size
    return size
