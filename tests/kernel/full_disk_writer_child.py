# SPDX-License-Identifier: Apache-2.0
"""On a file system that is nearly full: what the compactor does, as JSON. `python -m ... DIRECTORY`."""

import json
import logging
import os
import sys
import time
from pathlib import Path

import numpy as np

from store.appender import Appender
from store.batch import APPENDED, Batch, Labels, Numbers
from store.compaction import Rules
from store.compactor import Compactor, Settings
from store.embedded import EmbeddedStore
from store.query import Span, Where
from store.schema import HOP_SAMPLE, TEXT

FREE_BYTES = 300_000
ROWS = 8_000
BATCHES = 10


def main() -> None:
    """Fill, compact, make room, compact."""
    disk = Path(sys.argv[1])
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]  # a list is enough
    logging.getLogger("store").addHandler(handler)
    random = np.random.default_rng(1)
    with Appender(disk / "s", "c", "n1") as appender:
        for _ in range(BATCHES):
            appender.append(batch(random))
    ballast = disk / "ballast"
    fill(disk, ballast)
    compactor = Compactor(disk / "s", Settings(Rules(age_s=0), first_retry_s=0, grace_s=0))
    rows = []
    for _ in range(3):
        compactor.round()
        rows.append(count(disk / "s"))
    full = names(disk)
    ballast.unlink()
    for _ in range(2):
        compactor.round()
        rows.append(count(disk / "s"))
    print(json.dumps({"rows": rows, "full": full, "after": names(disk), "said": said}))


def batch(random: np.random.Generator) -> Batch:
    """Samples that do not compress."""
    columns: dict[str, Numbers | Labels] = {}
    for column in HOP_SAMPLE.columns[len(APPENDED) :]:
        if column.dtype == TEXT:
            columns[column.name] = Labels.same("", ROWS)
        else:
            limits = np.iinfo(column.dtype)
            columns[column.name] = random.integers(0, limits.max, ROWS, dtype=column.dtype)
    return Batch(HOP_SAMPLE, columns)


def fill(disk: Path, ballast: Path) -> None:
    """Until a little is free: less than the Parquet file needs."""
    found = os.statvfs(disk)
    with ballast.open("wb") as file:
        file.write(b"\xff" * max(0, found.f_bavail * found.f_frsize - FREE_BYTES))


def count(store: Path) -> int:
    """Rows that a reader sees."""
    reader = EmbeddedStore(store)
    found = reader.samples(Span(0, 2 * time.time_ns()), Where(), limit=10**9, columns=("time",))
    reader.close()
    return len(np.unique(found["time"]))


def names(disk: Path) -> list[str]:
    """Files of the table."""
    return sorted(os.listdir(disk / "s/hop_sample/n1"))


if __name__ == "__main__":
    main()
