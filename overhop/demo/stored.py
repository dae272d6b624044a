# SPDX-License-Identifier: Apache-2.0
"""What the store gives back of a demo, read as anybody reads it: series with names, samples, one trace."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from insight.identifiers import is_kept, parse_trace_id
from insight.series import Series, stored_series
from insight.stored_trace import read_trace
from insight.trace import TraceHop
from overhop.demo.keeping import Keeping
from store.query import Span, Store, Where


@dataclass(frozen=True, slots=True)
class KeptHops:
    """The hops of one node."""

    hops: int
    """Counted by summary rows, retransmitted ones with them."""
    samples: int
    """Kept in full."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What was read back."""

    nodes: Mapping[str, KeptHops]
    series: tuple[Series, ...]


def read_back(keeping: Keeping, since_ns: int, nodes: Iterable[str], most_samples: int) -> tuple[Stored, int]:
    """What has been stored since then, and how few traces were kept: one in 2^n. Raises StoreError."""
    span = Span(since_ns, time.time_ns())
    with keeping.opened() as store:
        series = stored_series(store, span, Where()).series
        kept = {}
        shift = 0
        for node in nodes:
            samples = store.samples(span, Where(node=node), limit=most_samples)["kept_shift"]
            kept[node] = KeptHops(_hops(series, node), len(samples))
            shift = max(shift, int(np.max(samples, initial=0)))
    return Stored(kept, series), shift


def read_hops(keeping: Keeping, trace_id: str) -> tuple[TraceHop, ...]:
    """The hops of one trace in causal order. Raises StoreError."""
    with keeping.opened() as store:
        return _trace(store, trace_id)


def kept_of(trace_ids: Sequence[str], shift: int) -> list[str]:
    """Those that nodes keep which keep one in 2^shift."""
    return [trace_id for trace_id in trace_ids if is_kept(parse_trace_id(trace_id), shift)]


def _trace(store: Store, trace_id: str) -> tuple[TraceHop, ...]:
    return read_trace(store, parse_trace_id(trace_id)).hops


def _hops(series: Iterable[Series], node: str) -> int:
    return sum(each.count + each.retransmitted for each in series if each.node == node)
