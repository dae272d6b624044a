# SPDX-License-Identifier: Apache-2.0
"""Carries out what store.compaction plans, for all nodes and tables of one store (docs/store.md)."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from store.compaction import HOUR_S, Input, Merge, Rules, is_expired, plan
from store.layout import TEMPORARY, Entry, parse_name, table_directory, visible
from store.merging import BAD, Ending, Merging, Surroundings, UnreadableSegment
from store.parquet import CHUNK_ROWS, DuckError, Interrupted, ParquetFiles, reason
from store.query import StoreError
from store.schema import TABLES, Table
from store.segment import SegmentReader, is_held

_log = logging.getLogger(__name__)

_HOUR_NS: Final = HOUR_S * 1_000_000_000
_Failures = (OSError, StoreError, DuckError)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a store is compacted."""

    rules: Rules = field(default_factory=Rules)
    grace_s: float = 60
    """How long a file stays that another one covers: who has listed it may still open it."""
    first_retry_s: float = 10
    last_retry_s: float = 300
    chunk_rows: int = CHUNK_ROWS


class Compactor:
    """Compacts the store at `store`; only one may do so at a time (store.writer holds the lock)."""

    def __init__(
        self, store: Path, settings: Settings | None = None, around: Surroundings | None = None
    ) -> None:
        self._store = store
        self._settings = settings or Settings()
        self._around = around or Surroundings()
        self._directories: dict[Path, _Directory] = {}
        self._files = ParquetFiles()

    def remove_unfinished(self) -> None:
        """What a killed writer left: nobody else makes Parquet files. Raises OSError."""
        for table in TABLES:
            for path in table_directory(self._store, table.name).glob(f"*/{TEMPORARY}*.parquet"):
                path.unlink(missing_ok=True)

    def round(self) -> None:
        """Whatever is due now in each directory; what fails there is logged and tried again later."""
        try:
            for directory in self._all():
                if self._around.is_ending():
                    return
                directory.work(self._files)
        except (Ending, Interrupted):
            return
        finally:
            self._files.close()

    def interrupt(self) -> None:
        """From another thread: the merge that runs now ends without a trace; round() returns."""
        self._files.interrupt()

    def _all(self) -> "Iterator[_Directory]":
        for table in TABLES:
            for path in _subdirectories(table_directory(self._store, table.name)):
                if path not in self._directories:
                    self._directories[path] = _Directory(path, table, self._settings, self._around)
                yield self._directories[path]


class _Directory:
    """The files of one node and table."""

    def __init__(self, path: Path, table: Table, settings: Settings, around: Surroundings) -> None:
        self._path, self._table, self._settings, self._around = path, table, settings, around
        self._known: dict[Entry, Input] = {}
        self._unreadable: set[Entry] = set()
        """Left alone until the writer starts again; readers say what is wrong with them."""
        self._told: set[Entry] = set()
        self._covered_since_s: dict[Entry, float] = {}
        self._error: str | None = None
        self._retry_s, self._retry_at_s = settings.first_retry_s, 0.0

    def work(self, files: ParquetFiles) -> None:
        """One round here: what is no longer needed goes, what is due is merged."""
        try:
            inputs = self._retire(self._look(files))
            if self._around.monotonic_s() < self._retry_at_s:
                return
            self._merge_due(inputs, files)
        except _Failures as error:
            self._fail(reason(error))
            return
        if self._error:
            _log.warning("%s: compacting works again", self._path)
        self._error, self._retry_s = None, self._settings.first_retry_s

    def _retire(self, inputs: list[Input]) -> list[Input]:
        """Remove what is too old; the others."""
        now_ns = self._around.clock_ns()
        expired = [
            each
            for each in inputs
            if each.is_ready
            and is_expired(_end_ns(each), self._table, now_ns)
            and not any(
                each.entry.covers(entry) for entry in self._covered_since_s
            )  # they would be read again
        ]
        for each in expired:
            self._remove(each.entry.name)
        return [each for each in inputs if each not in expired]

    def _merge_due(self, inputs: list[Input], files: ParquetFiles) -> None:
        for merge in plan(inputs, self._table, self._around.clock_ns(), self._settings.rules):
            if self._around.is_ending():
                return
            self._merge(merge, files)

    def _fail(self, error: str) -> None:
        if error != self._error:
            _log.error("compact %s: %s: its inputs stay, tried again until it works", self._path, error)
        self._error = error
        self._retry_at_s = self._around.monotonic_s() + self._retry_s
        self._retry_s = min(2 * self._retry_s, self._settings.last_retry_s)

    # ---- looking --------------------------------------------------------------------------------

    def _look(self, files: ParquetFiles) -> list[Input]:
        """The files to compact, in order of their rows; those no longer needed go."""
        names = _names(self._path)
        entries = visible(names)
        self._told &= set(entries)
        self._known = {entry: each for entry, each in self._known.items() if entry in entries}
        looked = [self._input(entry, entry is entries[-1], files) for entry in entries]
        inputs = [each for each in looked if each]
        readable = [each.entry for each in inputs if each.is_ready]
        found = {entry for entry in map(parse_name, names) if entry} - set(entries)
        self._drop_covered({entry for entry in found if any(one.covers(entry) for one in readable)})
        self._drop_expired_bad([name for name in names if name.endswith(BAD)])
        return inputs

    def _input(self, entry: Entry, is_last: bool, files: ParquetFiles) -> Input | None:
        """None: it was set aside."""
        known = self._known.get(entry)
        if known and known.is_ready:
            return known
        if entry not in self._unreadable:
            try:
                found = self._parquet(entry, files) if entry.is_parquet else self._segment(entry, is_last)
            except _Failures as error:
                self._leave(entry, error)
            else:
                if found:
                    self._known[entry] = found
                return found
        return Input(entry, 0, 0, 0, is_ready=False)  # keeps its place: no file is made that would cover it

    def _leave(self, entry: Entry, error: Exception) -> None:
        _log.error("%s: %s: left as it is", self._path / entry.name, reason(error))
        self._unreadable.add(entry)

    def _parquet(self, entry: Entry, files: ParquetFiles) -> Input | None:
        path = self._path / entry.name
        try:
            facts = files.facts(path)
        except DuckError:
            why = files.damage(path)
            if why is None:
                raise
            self._set_aside(entry.name, why)
            return None
        return Input(entry, facts.first_ns, facts.last_ns, path.stat().st_size, rows=facts.rows)

    def _segment(self, entry: Entry, is_last: bool) -> Input | None:
        path = self._path / entry.name
        is_ready = not is_last or not is_held(path)
        with SegmentReader(path) as reader:
            header, damages = reader.header, reader.damages
            rows = sum(start.rows for start in reader.starts()) if is_ready else 0
        if header and header.columns != self._table.columns:
            raise StoreError(f"its columns are not those of {self._table.name}")
        if header:
            return Input(entry, header.first_ns, header.first_ns, path.stat().st_size, is_ready, rows)
        why = damages[0].reason if damages else "it ends within its header"
        self._set_aside(entry.name, why)
        return None

    def _merge(self, merge: Merge, files: ParquetFiles) -> None:
        try:
            with Merging(self._path, self._table, merge, self._around, self._told) as merging:
                if not merging.make(files, self._settings.chunk_rows):  # segments without a row
                    for entry in merge.inputs:
                        self._remove(entry.name)
        except UnreadableSegment as error:
            self._known.pop(error.entry, None)
            self._leave(error.entry, error)
        except DuckError:
            self._set_aside_damaged(merge, files)
            raise

    # ---- what goes ------------------------------------------------------------------------------

    def _drop_covered(self, covered: set[Entry]) -> None:
        now_s = self._around.monotonic_s()
        since_s = {
            entry: self._covered_since_s.get(entry, now_s) for entry in sorted(covered, key=_by_number)
        }
        old = [entry for entry, begin_s in since_s.items() if now_s - begin_s >= self._settings.grace_s]
        for entry in old:
            self._remove(entry.name)
        self._covered_since_s = {entry: begin_s for entry, begin_s in since_s.items() if entry not in old}

    def _drop_expired_bad(self, names: list[str]) -> None:
        for name in names:
            try:
                changed_ns = (self._path / name).stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if is_expired(changed_ns, self._table, self._around.clock_ns()):
                self._remove(name)

    def _remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)
        self._around.step("removed")

    def _set_aside_damaged(self, merge: Merge, files: ParquetFiles) -> None:
        """After a failure: the Parquet inputs that cannot be read; the others are merged next time."""
        for entry in merge.inputs:
            why = files.damage(self._path / entry.name) if entry.is_parquet else None
            if why is not None:
                self._set_aside(entry.name, why)

    def _set_aside(self, name: str, why: str) -> None:
        _log.error("%s: %s: set aside as %s%s", self._path / name, why, name, BAD)
        (self._path / name).rename(self._path / (name + BAD))


def _by_number(entry: Entry) -> tuple[int, int]:
    return entry.first, entry.last


def _end_ns(each: Input) -> int:
    """Not before the file's last row: all rows of a segment are of one hour."""
    if each.entry.is_parquet:
        return each.last_ns
    return (each.first_ns // _HOUR_NS + 1) * _HOUR_NS


def _subdirectories(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as found:
            return sorted(directory / each.name for each in found if each.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
