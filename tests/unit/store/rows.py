# SPDX-License-Identifier: Apache-2.0
"""Small batches, and what a directory of segments holds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from store.batch import Batch, Labels
from store.layout import listing, node_directory
from store.schema import EVENT
from store.segment import SegmentReader


def events(*details: str) -> Batch:
    """One event a detail."""
    rows = len(details)
    return Batch(
        EVENT,
        {
            "what": Labels.same("agent", rows),
            "state": Labels.same("running", rows),
            "detail": Labels.of(details),
            "since": np.arange(rows, dtype=np.int64),
        },
    )


def details_of(path: Path) -> list[str]:
    """Details of the events in one segment, which must be whole."""
    reader = SegmentReader(path)
    details = [text for frame in reader for text in texts(frame.columns["detail"])]
    assert (reader.unread_bytes, reader.damages) == (0, [])
    return details


def texts(column: object) -> list[str]:
    assert isinstance(column, Labels)
    return [*column.texts()]


def segments(store: Path, node: str = "n1", table: str = "event") -> list[Path]:
    directory = node_directory(store, table, node)
    return [directory / entry.name for entry in listing(directory)]


def stored(store: Path, node: str = "n1") -> list[str]:
    """Details of all events of a node, in order."""
    return [detail for path in segments(store, node) for detail in details_of(path)]


def times(store: Path, node: str = "n1", table: str = "event") -> list[int]:
    """Times of all rows of a node and table, in order of the files."""
    found: list[int] = []
    for path in segments(store, node, table):
        for frame in SegmentReader(path):
            column = frame.columns["time"]
            assert isinstance(column, np.ndarray)
            found.extend(column.tolist())
    return found


def names(paths: Sequence[Path]) -> list[str]:
    return [path.name for path in paths]
