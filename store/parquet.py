# SPDX-License-Identifier: Apache-2.0
"""Parquet files of the store through DuckDB: written, merged, their facts read (docs/store.md)."""

import ctypes
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np

from store.batch import Labels, Numbers
from store.compaction import group_rows
from store.layout import FORMAT_VERSION
from store.query import StoreError
from store.schema import HOP_SAMPLE, SCHEMA_VERSION, TEXT, Table

DuckError: Final = duckdb.Error
SQL_TYPES: Final = {
    "i8": "BIGINT",
    "u8": "UBIGINT",
    "u4": "UINTEGER",
    "u2": "USMALLINT",
    "u1": "UTINYINT",
    TEXT: "VARCHAR",
}
SLOW_SHARE: Final = 64
"""One in so many samples of a file, at least a row group, lie at its begin as the slowest."""
CHUNK_ROWS: Final = 1_024
"""Rows (at least) that become one part, and that lie in memory as numpy arrays meanwhile."""

_PARQUET: Final = "format parquet, compression zstd, parquet_version v2, dictionary_size_limit 1024"
_LIBC: Final = ctypes.CDLL(None)
_READ_BYTES: Final = 1 << 20
_ROWS: Final = "rows_in_memory"


class Interrupted(Exception):  # noqa: N818 (says what is the case)
    """What was under way was ended by interrupt(); no file is damaged because of that."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a Parquet file says of itself without reading rows; times of its first and last row."""

    first_ns: int
    last_ns: int
    rows: int


def connect(memory_limit: str, threads: int, spill: str = "") -> duckdb.DuckDBPyConnection:
    """DuckDB without a database; it loads no extension. `spill`: a directory for what passes the limit."""
    connection = duckdb.connect(
        config={
            "memory_limit": memory_limit,
            "threads": threads,
            "temp_directory": spill,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "enable_external_file_cache": False,
        }
    )
    connection.execute("SET enable_progress_bar = false")  # it goes to standard output
    return connection


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


class ParquetFiles:
    """Writes and merges Parquet files with bounded memory. Raises duckdb.Error, OSError, Interrupted."""

    def __init__(self, memory_limit: str = "40MB", threads: int = 1) -> None:
        self._memory_limit, self._threads = memory_limit, threads
        self._closing = threading.Lock()

    @cached_property
    def _duckdb(self) -> duckdb.DuckDBPyConnection:
        """Connected when first needed: that takes 40 ms and 25 MB."""
        return connect(self._memory_limit, self._threads)

    def close(self) -> None:
        """Let go of the memory; the next call connects again."""
        with self._closing:
            connection = self.__dict__.pop("_duckdb", None)
            if connection:
                connection.close()
                _LIBC.malloc_trim(0)

    def interrupt(self) -> None:
        """From another thread: end the query that runs now; the next one is not affected."""
        with self._closing:
            connection = self.__dict__.get("_duckdb")
            if connection:
                connection.interrupt()

    def write(self, table: Table, columns: Mapping[str, Numbers | Labels], path: Path) -> Facts:
        """The rows, in order of time, as a new file. Raises StoreError if rows got lost."""
        chosen: list[str] = []
        arrays: dict[str, Numbers] = {}
        texts: dict[str, list[str]] = {}
        for number, column in enumerate(table.columns):
            values, name = columns[column.name], quoted(column.name)
            if isinstance(values, Labels):
                arrays[column.name] = values.codes
                texts[f"t{number}"] = [*values.values]
                chosen.append(f"list_extract($t{number}::VARCHAR[], {name}::BIGINT + 1) AS {name}")
            else:
                arrays[column.name] = values
                chosen.append(name)
        time = arrays["time"]
        facts = Facts(int(time[0]), int(time[-1]), len(time))
        with self._registered(arrays):
            written = self._copy(table, f"SELECT {', '.join(chosen)} FROM {_ROWS}", texts, path, facts)
        _check_rows(written, facts, path)
        return facts

    def merge(self, table: Table, inputs: Sequence[Path], path: Path, spare: Path) -> Facts:
        """The rows of all files, given in order of time, as one. Raises StoreError if rows got lost.

        They stay in order of time, but the slowest samples come first: whoever asks for the slowest reads few
        row groups, because each says what its greatest latency is. `spare` is a file for what is in between.
        """
        each = [self.facts(source) for source in inputs]
        facts = Facts(each[0].first_ns, each[-1].last_ns, sum(one.rows for one in each))
        sources = [str(source) for source in inputs]
        kept = "true"
        if table is HOP_SAMPLE and facts.rows > group_rows(HOP_SAMPLE):
            slow_ns = self._slow_ns(sources, facts.rows)
            self._copy(table, _select(table, f"latency_ns >= {slow_ns}"), {"inputs": sources}, spare, facts)
            self.close()
            sources = [str(spare), *sources]
            kept = f"(latency_ns < {slow_ns} OR filename = $inputs[1])"
        written = self._copy(table, _select(table, kept), {"inputs": sources}, path, facts)
        _check_rows(written, facts, path)
        return facts

    def facts(self, path: Path) -> Facts:
        """Raises StoreError if the file is none of ours or of a newer format."""
        with _interruptible():
            return read_facts(self._duckdb, path)

    def damage(self, path: Path) -> str | None:
        """Why rows of the file cannot be read though the system gives us its bytes; None: they can.

        Raises duckdb.Error if DuckDB does not work at all, OSError if the file cannot be read.
        """
        with _interruptible():
            self._duckdb.execute("SELECT 1")
        try:
            query = "SELECT bit_xor(hash(each)) FROM read_parquet($path) each"
            with _interruptible():
                self._duckdb.execute(query, {"path": str(path)}).fetchall()
        except duckdb.OutOfMemoryException:
            return None
        except duckdb.Error as error:
            with path.open("rb") as file:
                while file.read(_READ_BYTES):
                    pass
            return reason(error)
        return None

    def _slow_ns(self, inputs: Sequence[str], rows: int) -> int:
        """The latency from which on a sample is among the slowest."""
        share = 1 - max(group_rows(HOP_SAMPLE) / rows, 1 / SLOW_SHARE)
        query = f"SELECT approx_quantile(latency_ns, {share:.6f}) FROM read_parquet($inputs)"
        with _interruptible():
            row = self._duckdb.execute(query, {"inputs": inputs}).fetchone()
        return int(row[0]) if row else 0

    def _copy(
        self, table: Table, query: str, parameters: Mapping[str, object], path: Path, facts: Facts
    ) -> int:
        about = {
            "format": FORMAT_VERSION,
            "schema": SCHEMA_VERSION,
            "first_ns": facts.first_ns,
            "last_ns": facts.last_ns,
            "rows": facts.rows,
        }
        kept = ", ".join(f"{name}: '{int(value)}'" for name, value in about.items())
        options = f"{_PARQUET}, row_group_size {group_rows(table)}, kv_metadata {{{kept}}}"
        statement = f"COPY ({query}) TO $to ({options})"
        with _interruptible():
            row = self._duckdb.execute(statement, {**parameters, "to": str(path)}).fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def _registered(self, arrays: Mapping[str, Numbers]) -> Iterator[None]:
        self._duckdb.register(_ROWS, dict(arrays))
        try:
            yield
        finally:
            self._duckdb.unregister(_ROWS)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException as error:
        raise Interrupted from error


def _check_rows(written: int, facts: Facts, path: Path) -> None:
    if written != facts.rows:
        raise StoreError(f"write {path}: {written} rows of {facts.rows} came out")


def _select(table: Table, where: str) -> str:
    names = ", ".join(quoted(column.name) for column in table.columns)
    return f"SELECT {names} FROM read_parquet($inputs) WHERE {where}"


def read_facts(connection: duckdb.DuckDBPyConnection, path: Path | str) -> Facts:
    """Raises StoreError if the file is none of ours or newer than we know, duckdb.Error if it is damaged."""
    rows = connection.execute(
        "SELECT key, value FROM parquet_kv_metadata($path)", {"path": str(path)}
    ).fetchall()
    about: dict[str, Any] = {bytes(key).decode(): value for key, value in rows}
    try:
        version = int(about["format"]), int(about["schema"])
        facts = Facts(*(int(about[name]) for name in ("first_ns", "last_ns", "rows")))
    except (KeyError, ValueError) as error:
        raise StoreError(f"{path}: no Parquet file of a store") from error
    if version[0] > FORMAT_VERSION or version[1] > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: it has format {version[0]}, schema {version[1]}; this overhop knows up to format "
            f"{FORMAT_VERSION}, schema {SCHEMA_VERSION}: use the overhop that wrote it"
        )
    return facts


def reason(error: Exception) -> str:
    """What went wrong, in one line; DuckDB adds advice that is none for our users."""
    return str(error).split("\n", 1)[0]


def joined(table: Table, frames: Sequence[Mapping[str, Numbers | Labels]]) -> dict[str, Numbers | Labels]:
    """The rows of several frames of one table as one."""
    columns: dict[str, Numbers | Labels] = {}
    for column in table.columns:
        parts = [frame[column.name] for frame in frames]
        columns[column.name] = _joined_labels(parts) if column.dtype == TEXT else _joined_numbers(parts)
    return columns


def _joined_numbers(parts: Sequence[Numbers | Labels]) -> Numbers:
    return np.concatenate([part for part in parts if not isinstance(part, Labels)])


def _joined_labels(parts: Sequence[Numbers | Labels]) -> Labels:
    """Each distinct text once."""
    numbers: dict[str, int] = {}
    codes: list[Numbers] = []
    for part in parts:
        assert isinstance(part, Labels)
        mapped = np.array([numbers.setdefault(text, len(numbers)) for text in part.values], np.uint32)
        codes.append(mapped[part.codes] if len(part.values) else part.codes)
    return Labels(tuple(numbers), np.concatenate(codes).astype(np.uint32, copy=False))
