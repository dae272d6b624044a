# SPDX-License-Identifier: Apache-2.0
"""One merge: files of a node and table become one Parquet file, or nothing has happened (docs/store.md)."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from store.compaction import Merge
from store.layout import Entry, sync_directory, temporary_name
from store.parquet import ParquetFiles, joined
from store.schema import Table
from store.segment import Frame, SegmentReader

_log = logging.getLogger(__name__)

BAD: Final = ".bad"
"""Ends the names of files that were set aside because they could not be read, or not all of them."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a test replaces. `step` is told each step of the protocol when it is done."""

    clock_ns: Callable[[], int] = time.time_ns
    monotonic_s: Callable[[], float] = time.monotonic
    step: Callable[[str], None] = lambda _: None
    is_ending: Callable[[], bool] = lambda: False


class Ending(Exception):  # noqa: N818 (says what is the case)
    """The process shall end: what was begun is removed, the inputs are there."""


class UnreadableSegment(Exception):  # noqa: N818 (says what is the case)
    """The system does not give us the bytes of a segment; the message says why."""

    def __init__(self, entry: Entry, error: OSError) -> None:
        super().__init__(str(error))
        self.entry = entry


class Merging:
    """Files on the way to become one; at the end of the context those without a name are removed."""

    def __init__(
        self, directory: Path, table: Table, merge: Merge, around: Surroundings, told: set[Entry]
    ) -> None:
        self._directory, self._table, self._plan, self._around = directory, table, merge, around
        self._told = told
        """Segments of which was said already what is wrong with them: a merge may be tried many times."""
        self._made: list[Path] = []

    def make(self, files: ParquetFiles, chunk_rows: int) -> bool:
        """Whether there is a file now: False if there are no rows.

        Raises Ending, Interrupted, UnreadableSegment, StoreError, duckdb.Error, OSError.
        """
        files.close()  # what was done before would come on top: 20 MB
        sources = self._sources(files, chunk_rows)
        self._around.step("parts")
        if not sources:
            return False
        written = sources[0]
        if len(sources) > 1 or written not in self._made:
            written = self._new()
            files.close()  # what the parts took would come on top: 15 MB
            files.merge(self._table, sources, written, spare=self._new())
        self._around.step("written")
        _sync_file(written)
        self._around.step("synced")
        written.rename(self._directory / self._plan.name)
        self._around.step("renamed")
        sync_directory(self._directory)
        self._around.step("directory synced")
        return True

    def _sources(self, files: ParquetFiles, chunk_rows: int) -> list[Path]:
        """Parquet files of all rows, in order of time."""
        sources: list[Path] = []
        waiting: list[Frame] = []
        for entry in self._plan.inputs:
            if entry.is_parquet:
                sources += self._part(waiting, files)
                sources.append(self._directory / entry.name)
                continue
            for frame in self._frames(entry):
                waiting.append(frame)
                if sum(each.rows for each in waiting) >= chunk_rows:
                    sources += self._part(waiting, files)
        return sources + self._part(waiting, files)

    def _part(self, frames: list[Frame], files: ParquetFiles) -> list[Path]:
        """The rows of the frames as a file of their own; forgets the frames."""
        if not frames:
            return []
        if self._around.is_ending():
            raise Ending
        columns = joined(self._table, [frame.columns for frame in frames])
        frames.clear()
        path = self._new()
        files.write(self._table, columns, path)
        return [path]

    def _frames(self, entry: Entry) -> Iterator[Frame]:
        try:
            with SegmentReader(self._directory / entry.name) as reader:
                yield from reader
        except OSError as error:
            raise UnreadableSegment(entry, error) from error
        if entry not in self._told:
            self._tell(entry, reader)
        if reader.damages:
            self._keep_copy(entry.name)

    def _tell(self, entry: Entry, reader: SegmentReader) -> None:
        self._told.add(entry)
        for damage in reader.damages:
            _log.error("%s: kept as %s%s, the other rows are used", damage, entry.name, BAD)
        if reader.unread_bytes and not reader.damages:
            _log.warning("%s: ends in %d bytes of an append that failed", reader.path, reader.unread_bytes)

    def _keep_copy(self, name: str) -> None:
        with contextlib.suppress(FileExistsError):  # of an attempt before
            os.link(self._directory / name, self._directory / (name + BAD))

    def _new(self) -> Path:
        """The name of a further file."""
        self._made.append(self._directory / temporary_name(f"{len(self._made)}-{self._plan.name}"))
        return self._made[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in self._made:
            path.unlink(missing_ok=True)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
