# SPDX-License-Identifier: Apache-2.0
"""Rows of one table as they are at one look: Parquet files by DuckDB, segments by numpy (docs/store.md)."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import numpy.typing as npt

from store.batch import Labels, Numbers
from store.combined import Rows, Wanted
from store.conditions import Condition, Mask, mask
from store.layout import Entry, encode_node, table_directory, visible
from store.quarters import Steps, sums_of_parts
from store.query import Columns, StoreError
from store.schema import TEXT, Table
from store.segment import SegmentReader

if TYPE_CHECKING:  # 0.15 s, and a new store has no Parquet file yet
    from store.scan import Scanner

LOOKS: Final = 20
"""How often directories are listed because a file was gone; files that are listed stay for a minute."""
MAX_PROBLEMS: Final = 100
Answer = TypeVar("Answer")
File = tuple[Path, Entry]
"""A file by its directory and its name."""
_BAD: Final = ".bad"
_HOUR_NS: Final = 3_600_000_000_000


class RowReader:
    """Reads while appenders append and the writer compacts. Raises StoreError."""

    def __init__(self, store: Path) -> None:
        self.problems: list[str] = []
        """Files, or parts of files, that could not be read; each once. The rest is answered."""
        self._store = store
        self._scanner: Scanner | None = None

    def close(self) -> None:
        """Let go of files and memory."""
        if self._scanner:
            self._scanner.close()

    def directories(self, table: Table, node: str | None = None) -> list[Path]:
        """Those of the nodes that have rows, or of one node."""
        above = table_directory(self._store, table.name)
        try:
            names = sorted(os.listdir(above))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(f"store {above}: {error.strerror}: look at its rights") from error
        return [above / name for name in names if node is None or name == encode_node(node)]

    def entries(self, directory: Path) -> list[Entry]:
        """The files of one directory to read, in order of their rows. Raises FileNotFoundError."""
        try:
            names = os.listdir(directory)
        except NotADirectoryError:
            return []
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"store {directory}: {error.strerror}: look at its rights") from error
        for name in names:
            if name.endswith(_BAD):
                self._problem(f"{directory / name}: set aside by the writer, rows of it are missing")
        return visible(names)

    def read(self, wanted: Wanted, directories: Iterable[Path]) -> Rows:
        """The wanted rows of these directories, in no particular order."""
        return self._at_one_look(directories, partial(self.read_files, wanted))

    def sums(self, wanted: Wanted, steps: Steps, directories: Iterable[Path]) -> Columns:
        """Sums of the wanted rows as store.quarters says; rows of Parquet files are summed up by DuckDB."""
        return self._at_one_look(directories, partial(self._sums_of_files, wanted, steps))

    def read_files(self, wanted: Wanted, files: Sequence[File]) -> Rows:
        """The wanted rows of these files. Raises FileNotFoundError."""
        parquet, parts = self._segments(wanted, files)
        return joined_rows(wanted, [*parts, *([self.scanner().scan(wanted, parquet)] if parquet else [])])

    def _sums_of_files(self, wanted: Wanted, steps: Steps, files: Sequence[File]) -> Columns:
        parquet, parts = self._segments(wanted, files)
        sums = self.scanner().sums(wanted, steps, parquet) if parquet else []
        return sums_of_parts([joined_rows(wanted, parts), *sums], steps)

    def _segments(self, wanted: Wanted, files: Sequence[File]) -> tuple[list[Path], list[Rows]]:
        """The Parquet files, and rows of segments: those are read first, they are the ones that go soon."""
        found = Found(wanted)
        for directory, entry in files:
            if not entry.is_parquet:
                self._read_segment(found, directory / entry.name)
        return [directory / entry.name for directory, entry in files if entry.is_parquet], found.parts

    def _at_one_look(self, directories: Iterable[Path], read: Callable[[Sequence[File]], Answer]) -> Answer:
        """What `read` makes of the files of these directories; again if one is gone meanwhile."""
        chosen = [*directories]
        for _ in range(LOOKS):
            try:
                return read(self._files(chosen))
            except FileNotFoundError as error:
                gone = error.filename
        raise StoreError(f"store {self._store}: {gone} and other files go while they are read: try again")

    def _files(self, directories: Iterable[Path]) -> list[File]:
        found: list[File] = []
        for directory in directories:
            try:
                found += [(directory, entry) for entry in self.entries(directory)]
            except FileNotFoundError:  # the directory itself was removed
                continue
        return found

    def scanner(self) -> "Scanner":
        """For Parquet files; imports DuckDB."""
        from store.scan import Scanner

        if not self._scanner:
            self._scanner = Scanner(self._store, self._problem)
        return self._scanner

    def _read_segment(self, found: "Found", path: Path) -> None:
        try:
            with SegmentReader(path) as reader:
                found.take(reader)
        except FileNotFoundError:
            raise
        except OSError as error:
            self._problem(f"{path}: {error.strerror}")
        except StoreError as error:
            self._problem(str(error))
        else:
            for damage in reader.damages:
                self._problem(str(damage))
            if not reader.header and not reader.damages:
                self._problem(f"{path}: ends within its header, rows of it are missing")

    def _problem(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


class Found:
    """Rows of segments so far."""

    def __init__(self, wanted: Wanted) -> None:
        self.parts: list[Rows] = []
        self._wanted = wanted
        self._latencies: list[npt.NDArray[np.generic]] = []
        self._floor_ns = 0
        """What is faster is not among the slowest."""

    def take(self, reader: SegmentReader) -> None:
        """The wanted rows of one segment. Raises StoreError, OSError."""
        if not reader.header:
            return
        if reader.header.columns != self._wanted.table.columns:
            raise StoreError(f"{reader.path}: its columns are not those of {self._wanted.table.name}")
        if _is_elsewhere(self._wanted.conditions, reader.header.first_ns):
            return
        for frame in reader:
            rows = mask(self._wanted.conditions, frame.columns, frame.rows)
            if self._wanted.slowest is not None:
                rows &= self._is_slow(frame.columns["latency_ns"], rows)
            if rows.any():
                self.parts.append(_chosen(self._wanted.columns, frame.columns, rows))

    def _is_slow(self, column: Numbers | Labels, rows: Mask) -> Mask:
        assert self._wanted.slowest is not None
        latencies = np.asarray(column)
        is_slow = np.asarray(latencies >= self._floor_ns)
        self._latencies.append(latencies[rows & is_slow])
        most = self._wanted.slowest
        if sum(map(len, self._latencies)) > 2 * most:
            together = np.partition(np.concatenate(self._latencies), -most)[-most:]
            self._latencies, self._floor_ns = [together], int(together[0])
        return is_slow


def joined_rows(wanted: Wanted, parts: Sequence[Rows]) -> Rows:
    """The rows of all parts."""
    joined: Rows = {}
    for name in wanted.columns:
        dtype = numpy_type(wanted.table, name)
        columns = [part[name] for part in parts]
        joined[name] = np.concatenate(columns).astype(dtype, copy=False) if columns else np.zeros(0, dtype)
    return joined


def in_order(rows: Rows) -> Rows:
    """In order of time."""
    times = rows["time"].astype(np.int64, copy=False)
    if np.all(times[1:] >= times[:-1]):
        return rows
    order = np.argsort(times, kind="stable")
    return {name: column[order] for name, column in rows.items()}


def numpy_type(table: Table, column: str) -> np.dtype[np.generic]:
    """Of a column of rows that were read."""
    dtype = table.dtype_of(column)
    return np.dtype(object if dtype == TEXT else dtype)


def _chosen(names: Iterable[str], columns: Mapping[str, Numbers | Labels], rows: Mask) -> Rows:
    at = np.flatnonzero(rows)
    chosen: Rows = {}
    for name in names:
        column = columns[name]
        chosen[name] = column.take(at).texts() if isinstance(column, Labels) else column[at]
    return chosen


def _is_elsewhere(conditions: Sequence[Condition], first_ns: int) -> bool:
    """Whether no row of a segment that begins at `first_ns` fits: they are all of its hour."""
    hour_ends_ns = (first_ns // _HOUR_NS + 1) * _HOUR_NS
    for condition in conditions:
        for test in condition[0] if len(condition) == 1 else ():
            if test.column != "time":
                continue
            if test.operator == "<" and first_ns >= int(test.value):
                return True
            if test.operator == ">=" and hour_ends_ns <= int(test.value):
                return True
    return False
