# SPDX-License-Identifier: Apache-2.0
"""Rows out of Parquet files by DuckDB (docs/store.md)."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import duckdb

from store.combined import Rows, Wanted
from store.conditions import Comparison, Condition, always, only
from store.parquet import SQL_TYPES, Facts, connect, quoted, read_facts, reason
from store.quarters import EXTREMES, SUMMED, Steps, summed_names
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
        return joined_rows(wanted, self._of_each(paths, partial(self._query, wanted)))

    def sums(self, wanted: Wanted, steps: Steps, paths: Sequence[Path]) -> list[Rows]:
        """Sums of the wanted rows as store.quarters says, in parts; else as `scan`."""
        return self._of_each(paths, partial(self._sums, wanted, steps))

    def facts(self, path: Path) -> Facts | None:
        """What the file says of itself; None: it cannot be read. Raises FileNotFoundError if it is gone."""
        try:
            return read_facts(self._duckdb, self._reachable(path))
        except (duckdb.Error, StoreError) as error:
            path.stat()
            self._problem(f"{path}: {reason(error)}")
            return None

    def _of_each(self, paths: Sequence[Path], ask: Callable[[Sequence[str]], Rows]) -> list[Rows]:
        """Of all files at once; where that fails, of one after the other."""
        try:
            return [ask([self._reachable(path) for path in paths])]
        except duckdb.Error:
            return [rows for path in paths for rows in self._alone(path, ask)]

    def _alone(self, path: Path, ask: Callable[[Sequence[str]], Rows]) -> list[Rows]:
        try:
            return [ask([self._reachable(path)])]
        except duckdb.Error as error:
            path.stat()
            self._problem(f"{path}: {reason(error)}")
            return []

    def _query(self, wanted: Wanted, files: Sequence[str]) -> Rows:
        conditions = wanted.conditions
        if wanted.slowest is not None:
            conditions = [*conditions, only("latency_ns", ">=", self._floor_ns(wanted, files))]
        where, parameters = _sql(conditions, wanted.table)
        names = ", ".join(map(quoted, wanted.columns))
        query = f"SELECT {names} FROM read_parquet($files) WHERE {where}"
        return self._rows(query, {**parameters, "files": files}, wanted.columns)

    def _sums(self, wanted: Wanted, steps: Steps, files: Sequence[str]) -> Rows:
        where, parameters = _sql(wanted.conditions, wanted.table)
        begin = "$since_ns::BIGINT"
        if steps.step_ns is not None:
            begin = "time // $step_ns::BIGINT * $step_ns::BIGINT"
            parameters["step_ns"] = steps.step_ns
        else:
            parameters["since_ns"] = steps.since_ns
        sums = [f"sum({quoted(name)})::UBIGINT AS {quoted(name)}" for name in SUMMED]
        ends = [
            f'coalesce({end}({name}) FILTER (WHERE "count" > 0), 0) AS {name}'
            for name, end in EXTREMES.items()
        ]
        columns = ", ".join([*map(quoted, steps.by), f"{begin} AS time", *sums, *ends])
        query = f"SELECT {columns} FROM read_parquet($files) WHERE {where} GROUP BY ALL"
        return self._rows(query, {**parameters, "files": files}, summed_names(steps.by))

    def _rows(self, query: str, parameters: Mapping[str, object], columns: Sequence[str]) -> Rows:
        found = self._duckdb.execute(query, parameters).fetchnumpy()
        return {name: found[name] for name in columns}

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
