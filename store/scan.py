# SPDX-License-Identifier: Apache-2.0
"""Rows out of Parquet files by DuckDB (docs/store.md)."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import duckdb

from store.combined import Rows, Wanted
from store.conditions import Comparison, Condition, always, only
from store.parquet import SQL_TYPES, Facts, connect, quoted, read_facts, reason
from store.query import StoreError
from store.reading import joined_rows
from store.schema import Table

MOST_THREADS: Final = 8


class Scanner:
    """One DuckDB for all questions to a store; `problem` is told what cannot be read. Raises StoreError."""

    def __init__(self, store: Path, problem: Callable[[str], None]) -> None:
        self._store, self._problem = store, problem
        # Paths through it hold no letter that DuckDB takes for a pattern, whatever the store is called.
        try:
            self._descriptor = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StoreError(
                f"store {store}: {error.strerror}: look at the directory and its rights"
            ) from error
        try:
            self._duckdb = connect("80%", min(MOST_THREADS, len(os.sched_getaffinity(0))))
        except duckdb.Error as error:
            os.close(self._descriptor)
            raise StoreError(f"store {store}: DuckDB does not start: {reason(error)}") from error

    def close(self) -> None:
        """Let go of memory and files."""
        self._duckdb.close()
        os.close(self._descriptor)

    def scan(self, wanted: Wanted, paths: Sequence[Path]) -> Rows:
        """The wanted rows; of files that cannot be read, none. Raises FileNotFoundError if one is gone."""
        try:
            return self._query(wanted, paths)
        except duckdb.Error:
            return joined_rows(wanted, [rows for path in paths for rows in self._alone(wanted, path)])

    def facts(self, path: Path) -> Facts | None:
        """What the file says of itself; None: it cannot be read. Raises FileNotFoundError if it is gone."""
        try:
            return read_facts(self._duckdb, self._reachable(path))
        except (duckdb.Error, StoreError) as error:
            path.stat()
            self._problem(f"{path}: {reason(error)}")
            return None

    def _alone(self, wanted: Wanted, path: Path) -> list[Rows]:
        try:
            return [self._query(wanted, [path])]
        except duckdb.Error as error:
            path.stat()
            self._problem(f"{path}: {reason(error)}")
            return []

    def _query(self, wanted: Wanted, paths: Sequence[Path]) -> Rows:
        files = [self._reachable(path) for path in paths]
        conditions = wanted.conditions
        if wanted.slowest is not None:
            conditions = [*conditions, only("latency_ns", ">=", self._floor_ns(wanted, files))]
        where, parameters = _sql(conditions, wanted.table)
        names = ", ".join(map(quoted, wanted.columns))
        query = f"SELECT {names} FROM read_parquet($files) WHERE {where}"
        found = self._duckdb.execute(query, {**parameters, "files": files}).fetchnumpy()
        return {name: found[name] for name in wanted.columns}

    def _floor_ns(self, wanted: Wanted, files: Sequence[str]) -> int:
        """The least latency of the slowest: from one column; of the others few row groups are read then."""
        where, parameters = _sql(wanted.conditions, wanted.table)
        query = (
            f"SELECT min(latency_ns) FROM (SELECT latency_ns FROM read_parquet($files) WHERE {where} "
            f"ORDER BY latency_ns DESC LIMIT {wanted.slowest:d})"
        )
        row = self._duckdb.execute(query, {**parameters, "files": files}).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def _reachable(self, path: Path) -> str:
        return f"/proc/self/fd/{self._descriptor}/{path.relative_to(self._store).as_posix()}"


def _sql(conditions: Sequence[Condition], table: Table) -> tuple[str, dict[str, int | str]]:
    """The conditions as a text without any value, and the values."""
    parameters: dict[str, int | str] = {}

    def one(test: Comparison) -> str:
        dtype = table.dtype_of(test.column)
        known = always(test, dtype)
        if known is not None:
            return "true" if known else "false"
        name = f"v{len(parameters)}"
        parameters[name] = test.value
        return f"{quoted(test.column)} {test.operator} ${name}::{SQL_TYPES[dtype]}"

    texts = [
        "(" + " OR ".join("(" + " AND ".join(map(one, tests)) + ")" for tests in condition) + ")"
        for condition in conditions
    ]
    return " AND ".join(texts) or "true", parameters
