# SPDX-License-Identifier: Apache-2.0
"""Fills the file system of a directory, then makes room; test_full_disk runs it in a mount namespace."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from store.appender import Appender
from tests.unit.store.rows import events, stored


def numbered() -> Iterator[str]:
    for number in range(10_000):
        yield f"{number} {os.urandom(15_000).hex()}"


def main(directory: Path) -> dict[str, object]:
    (directory / "filler").write_bytes(bytes(500_000))
    store, now_s, rows = directory / "store", [0.0], numbered()
    with Appender(store, "lab", "n1", monotonic=lambda: now_s[0]) as appender:
        while appender.status().error is None:
            appender.append(events(next(rows)))
        for _ in range(5):
            appender.append(events(next(rows)))
        full = appender.status()
    with Appender(store, "lab", "n1", monotonic=lambda: now_s[0]) as appender:
        appender.append(events(next(rows)))
        restarted = appender.status()
        (directory / "filler").unlink()
        now_s[0] += 10
        appender.poll()
        after = appender.status()
    return {
        "appended": full.appended["event"],
        "waiting": full.waiting,
        "error": full.error,
        "restarted": [restarted.appended, restarted.waiting],
        "after": [after.appended, after.waiting, after.error],
        "stored": [int(detail.split()[0]) for detail in stored(store)],
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
