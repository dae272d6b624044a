# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the writer behind each step of the protocol, and at any moment, while others append and read."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.compactor import Settings
from store.layout import create_store
from tests.unit.store.compactors import AT_ONCE, HOUR, S, Town
from tests.unit.store.rows import events

STEPS = ["parts", "written", "synced", "renamed", "directory synced", "removed"]
DEADLINE_S = 60.0


def forked(work: Callable[[], None]) -> int:
    """The pid of a child that does the work and ends with 0, or with 1 and a traceback."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    with contextlib.suppress(BaseException):
        work()
        code = 0
    os._exit(code)


def ended(pid: int) -> int:
    """How the child ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def ending(pids: list[int]) -> Iterator[None]:
    """Kills what is left of these children."""
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def killed_behind(town: Town, step: str, which: int) -> Callable[[], None]:
    """Rounds of a compactor that kills itself behind the `which`-th time of the step."""

    def work() -> None:
        seen = 0

        def kill(done: str) -> None:
            nonlocal seen
            seen += done == step
            if seen == which:
                os.kill(os.getpid(), signal.SIGKILL)

        compactor = town.compactor(kill)
        compactor.remove_unfinished()
        for _ in range(4):
            compactor.round()
            town.now_ns += 31 * S

    return work


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_writer_killed_behind_any_step_leaves_every_row_once(tmp_path: Path, step: str, which: int) -> None:
    town = Town(tmp_path / "s")
    expected = []
    for hour in range(2):
        for number in range(3):
            expected.append(f"{hour}-{number}")
            town.append(expected[-1])
        town.now_ns += HOUR
    town.now_ns += S
    assert ended(forked(killed_behind(town, step, which))) == -signal.SIGKILL
    assert town.details() == expected
    compactor = town.compactor()
    compactor.remove_unfinished()
    for _ in range(4):
        compactor.round()
        assert town.details() == expected
        town.now_ns += 31 * S
    assert town.files() == ["00000001-00000003.parquet", "00000004-00000006.parquet"]


@pytest.mark.slow
def test_rows_are_seen_once_while_writers_are_killed_at_any_moment(tmp_path: Path) -> None:
    """Two appenders, a writer killed again and again, and this reader; files change on a scale of 0.1 s."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    settings = Settings(AT_ONCE.rules, grace_s=0.5)
    town = Town(tmp_path / "s", now_ns=time.time_ns(), settings=settings)
    create_store(town.path)  # the reader may be faster than the appenders
    appenders = [forked(lambda node=node: append_for(town, node, 6.0)) for node in ("n1", "n2")]  # type: ignore[misc]  # the loop's variable is bound
    alive = [*appenders, forked(lambda: write_for_ever(town))]
    with ending(alive):
        until_s = time.monotonic() + 6.0
        looks = 0
        while time.monotonic() < until_s:
            kill_last(alive)
            alive.append(forked(lambda: write_for_ever(town)))
            ends_s = time.monotonic() + chance.uniform(0.05, 0.6)
            while time.monotonic() < ends_s:
                acknowledged = {node: acknowledged_by(town, node) for node in ("n1", "n2")}
                assert_whole(town.details(), acknowledged)
                looks += 1
        assert [ended(pid) for pid in appenders] == [0, 0]
        kill_last(alive)
        assert looks > 5
    assert_whole(town.details(), {node: acknowledged_by(town, node) for node in ("n1", "n2")})
    assert any(name.endswith(".parquet") for name in town.files())


def kill_last(pids: list[int]) -> None:
    pid = pids.pop()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def assert_whole(details: list[str], acknowledged: dict[str, int]) -> None:
    """Rows 0 to at least the acknowledged one, each once, in order."""
    for node, last in acknowledged.items():
        numbers = [int(each.split(" ")[1]) for each in details if each.startswith(f"{node} ")]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > last


def acknowledged_by(town: Town, node: str) -> int:
    path = town.path.parent / f"{node}.acknowledged"
    return int(path.read_text() or -1) if path.exists() else -1


def append_for(town: Town, node: str, seconds: float) -> None:
    """Numbered events, a segment each 50 ms; what is in the store is acknowledged beside it."""
    from store.appender import Appender, Limits

    number = 0
    until_s = time.monotonic() + seconds
    path = town.path.parent / f"{node}.acknowledged"
    with Appender(town.path, "c", node, limits=Limits(segment_age_s=0.05)) as appender:
        while time.monotonic() < until_s:
            appender.append(events(f"{node} {number}"))
            temporary = path.with_suffix(".new")
            temporary.write_text(str(number))
            temporary.rename(path)
            number += 1
            time.sleep(0.005)  # a rate, not synchronisation


def write_for_ever(town: Town) -> None:
    from store.compactor import Compactor

    compactor = Compactor(town.path, town.settings)
    compactor.remove_unfinished()
    while True:
        compactor.round()
        time.sleep(0.02)
