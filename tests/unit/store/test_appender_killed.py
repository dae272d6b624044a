# SPDX-License-Identifier: Apache-2.0
"""kill -9 of an appender at random moments: what it acknowledged is there, once; every file is readable."""

import itertools
import multiprocessing
import os
import random
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from store.appender import Appender, Limits
from store.segment import SegmentReader
from tests.unit.store.rows import events, segments, texts

KILLS = 50
DEADLINE_S = 30.0
FORK = multiprocessing.get_context("fork")  # 50 interpreters would take a minute


def _append_until_killed(store: Path, life: int, seed: int, acknowledge: Connection) -> None:
    chosen = random.Random(seed)
    with Appender(store, "lab", "n1", limits=Limits(segment_bytes=200_000)) as appender:
        for number in itertools.count():
            name = f"{life}/{number}"
            # Some appends are of many pages, so that kills find a write(2) in the middle.
            filler = chosen.randbytes(chosen.choice((0, 100, 150_000))).hex()
            appender.append(events(f"{name}/a", f"{name}/b {filler}"))
            assert appender.status().error is None
            acknowledge.send_bytes(name.encode())


def _live_and_be_killed(store: Path, life: int, chosen: random.Random) -> list[str]:
    """What one appender acknowledged before it was killed."""
    ours, theirs = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_append_until_killed, args=(store, life, chosen.getrandbits(32), theirs))
    child.start()
    theirs.close()
    acknowledged: list[str] = []
    for _ in range(chosen.randrange(8)):
        assert ours.poll(DEADLINE_S)
        acknowledged.append(ours.recv_bytes().decode())
        _assert_readable(store)
    child.join(chosen.random() * 0.005)  # any moment
    child.kill()
    child.join()
    while True:
        try:
            acknowledged.append(ours.recv_bytes().decode())
        except EOFError:
            ours.close()
            return acknowledged


def _assert_readable(store: Path) -> None:
    """While an appender writes: whole frames, at most the last one incomplete."""
    for path in segments(store)[-2:]:
        reader = SegmentReader(path)
        assert list(reader) or reader.unread_bytes or reader.header
        assert reader.damages == []


def test_appender_killed_50_times_loses_nothing_acknowledged_and_nothing_is_there_twice(
    tmp_path: Path,
) -> None:
    seed = int(os.environ.get("OVERHOP_FUZZ_SEED") or random.SystemRandom().getrandbits(32))
    print(f"seed {seed}")
    chosen = random.Random(seed)
    acknowledged = [name for life in range(KILLS) for name in _live_and_be_killed(tmp_path, life, chosen)]

    rows: list[str] = []
    last_ns, torn = 0, 0
    for path in segments(tmp_path):
        reader = SegmentReader(path)
        for frame in reader:
            assert frame.first_ns > last_ns
            last_ns = frame.first_ns + frame.rows - 1
            rows += [text.split()[0] for text in texts(frame.columns["detail"])]
        assert reader.header
        assert reader.damages == []
        torn += reader.unread_bytes > 0
    print(f"{len(rows)} rows, {len(acknowledged)} appends acknowledged, {torn} segments with a torn tail")
    assert not [row for row, times in Counter(rows).items() if times > 1]
    assert rows == sorted(rows, key=lambda row: tuple(map(int, row.split("/")[:2])))
    present = set(rows)
    assert not [name for name in acknowledged if not {f"{name}/a", f"{name}/b"} <= present]
    assert len(acknowledged) > KILLS
