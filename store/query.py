# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a store, whichever it is: one narrow interface (docs/store.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from store.errors import StoreError

__all__ = ["POINTS", "Columns", "Span", "Store", "StoreError", "TraceId", "Where"]

Columns = Mapping[str, npt.NDArray[np.generic]]
"""Columns of store.schema by name, of equal length; text as object arrays of str."""

POINTS: Final = 60
"""A question over time gets rows of the coarsest table that gives so many in the span."""


@dataclass(frozen=True, slots=True)
class Span:
    """Rows with since_ns <= time < until_ns, ns since 1970."""

    since_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Where:
    """Which hops; None: any. A workload or namespace fits at either end of the hop."""

    namespace: str | None = None
    workload: str | None = None
    node: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class TraceId:
    """The 16 bytes of a trace id as two big-endian halves."""

    hi: int
    lo: int


class Store(Protocol):
    """Reading. Every method raises StoreError; a store without rows gives columns of length 0."""

    def summaries(
        self,
        span: Span,
        where: Where,
        table: str | None = None,
        columns: Sequence[str] | None = None,
        points: int = POINTS,
    ) -> Columns:
        """Summary rows in order of time; `columns`: only these.

        `table` is one of store.schema. Without it: rows of the coarsest that gives so many points, and finer
        ones where a node has none of them, or where one began before the span by more than a sixtieth of it
        (and 10 s): each hop is counted once, and the last seconds are there.
        """
        ...

    def samples(
        self,
        span: Span,
        where: Where,
        min_latency_ns: int = 0,
        limit: int = 10_000,
        columns: Sequence[str] | None = None,
    ) -> Columns:
        """Samples, the slowest first; `columns`: only these."""
        ...

    def quarters(
        self,
        span: Span,
        where: Where,
        by: Sequence[str] = (),
        step_s: int | None = None,
        table: str | None = None,
    ) -> Columns:
        """Sums over summary rows of one table: by the labels `by` (cluster, node, or of store.schema.SERIES)
        and by steps of `step_s` seconds since 1970, in which rows were written (None: the span is one step).

        Columns: those of `by`, `time` (begin of the step, ns), `count`, `retransmitted`, `sum_ns`, `q00` to
        `q79` (u8), `min_ns`, `max_ns` (u4, of rows that count hops); in order of time, then of the labels.
        `table`: by default the coarsest that gives 60 points; its last interval is not taken from finer ones.
        """
        ...

    def summary_count(self, span: Span, where: Where) -> int:
        """How many rows the coarsest table has that gives 60 points: what reading all of them would cost."""
        ...

    def trace(self, trace: TraceId) -> Columns:
        """All samples of one trace, in order of time."""
        ...

    def events(self, span: Span) -> Columns:
        """Events in order of time."""
        ...

    def nodes(self) -> Mapping[str, Mapping[str, int]]:
        """For each node that wrote: `first_ns`, `last_ns` (times of its samples), `kept_shift` (the last)."""
        ...

    def close(self) -> None:
        """Let go of files and memory."""
        ...
