# SPDX-License-Identifier: Apache-2.0
"""The writer as a process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from store.batch import Labels, Numbers
from store.layout import create_store
from store.parquet import ParquetFiles
from store.schema import HOP_SAMPLE, TEXT
from store.writer import Locked, WriterLock
from tests.unit.store.compactors import Town

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 30.0
HOUR = 3600 * 10**9
ROWS = 200_000


@contextmanager
def writer(store: Path) -> Iterator[subprocess.Popen[str]]:
    """A running one, once it holds the lock; killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "store.writer", str(store)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        until_s = time.monotonic() + TIMEOUT_S
        while not is_held_by(store, process.pid) and process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.02)  # polls a condition
        yield process
    finally:
        process.kill()
        process.communicate()


def is_held_by(store: Path, pid: int) -> bool:
    try:
        return (store / "writer.lock").read_text() == f"{pid}\n"
    except FileNotFoundError:
        return False


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "store.writer", *arguments],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def test_writer_second_one_ends_at_once_with_3(tmp_path: Path) -> None:
    store = tmp_path / "s"
    with writer(store) as first:
        second = run(str(store))
        assert second.returncode == 3
        assert second.stderr == f"WARNING store {store}: another writer (pid {first.pid}) works on it\n"
        first.kill()
        first.wait()
        with writer(store) as third:
            assert is_held_by(store, third.pid)


def test_writer_that_finds_the_lock_held_has_not_imported_what_is_large(tmp_path: Path) -> None:
    code = (
        "import sys; from store import writer; code = writer.main([sys.argv[1]]); "
        "print(code, [name for name in ('duckdb', 'numpy') if name in sys.modules])"
    )
    store = tmp_path / "s"
    with writer(store):
        said = subprocess.run(
            [sys.executable, "-c", code, str(store)], cwd=ROOT, capture_output=True, text=True, check=True
        )
    assert said.stdout == "3 []\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_writer_ends_with_0_by_signal(tmp_path: Path, number: signal.Signals) -> None:
    with writer(tmp_path / "s") as process:
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_writer_of_a_newer_store_is_refused_with_2(tmp_path: Path) -> None:
    (tmp_path / "version").write_text(json.dumps({"format": 9, "schema": 1}))
    said = run(str(tmp_path))
    assert said.returncode == 2
    assert "it has format 9, schema 1; this overhop knows up to format 1, schema 1" in said.stderr


def test_writer_of_a_directory_of_something_else_is_refused_with_2(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    said = run(str(tmp_path))
    assert said.returncode == 2
    assert "the directory is not empty and no store" in said.stderr


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("--help",)])
def test_writer_wrong_usage_is_2(arguments: tuple[str, ...]) -> None:
    said = run(*arguments)
    assert (said.returncode, said.stderr) == (2, "ERROR usage: python -m store.writer DIRECTORY\n")


def test_writer_directory_that_cannot_be_made_is_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = run(str(tmp_path / "file" / "s"))
    assert said.returncode == 1
    assert f"ERROR store {tmp_path}/file/s: " in said.stderr


def test_writer_ends_when_its_lock_is_removed(tmp_path: Path) -> None:
    with writer(tmp_path / "s") as process:
        (tmp_path / "s" / "writer.lock").unlink()
        assert process.wait(TIMEOUT_S) == 1


def test_writer_compacts_and_makes_files_for_its_user_only(tmp_path: Path) -> None:
    town = Town(tmp_path / "s", now_ns=time.time_ns() - 7200 * 10**9)
    town.append("a")
    left = tmp_path / "s/event/n1/.tmp-4000000-0-00000001-00000001.parquet"
    left.touch()
    made = tmp_path / "s/event/n1/00000001-00000001.parquet"
    with writer(tmp_path / "s"):
        until_s = time.monotonic() + TIMEOUT_S
        while not made.exists() and time.monotonic() < until_s:
            time.sleep(0.05)  # polls a condition
        assert made.stat().st_mode & 0o777 == 0o600
        assert not left.exists()
    assert town.details() == ["a"]


def test_writer_lock_is_of_one_process_and_knows_when_it_is_gone(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    with pytest.raises(Locked, match=f"another writer \\(pid {os.getpid()}\\) works on it"):
        WriterLock(tmp_path)
    assert not lock.is_gone()
    (tmp_path / "writer.lock").rename(tmp_path / "away")
    assert lock.is_gone()
    (tmp_path / "writer.lock").touch()
    assert lock.is_gone()


def test_writer_in_a_merge_of_many_rows_ends_within_a_second_and_leaves_nothing_begun(tmp_path: Path) -> None:
    directory = tmp_path / "s/hop_sample/n1"
    two_files(tmp_path / "s")
    before = sorted(os.listdir(directory))
    with writer(tmp_path / "s") as process:
        until_s = time.monotonic() + TIMEOUT_S
        while not any(name.startswith(".tmp-") for name in os.listdir(directory)):
            assert time.monotonic() < until_s
            time.sleep(0.005)  # polls a condition
        begin_s = time.monotonic()
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
        took_s = time.monotonic() - begin_s
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert took_s < 1
    assert sorted(os.listdir(directory)) == before


def two_files(store: Path) -> None:
    """Of the same hour, together 400,000 samples: they are merged for seconds."""
    begin_ns = (time.time_ns() // HOUR - 2) * HOUR
    directory = store / "hop_sample/n1"
    create_store(store)
    directory.mkdir(parents=True)
    columns: dict[str, Numbers | Labels] = {}
    for column in HOP_SAMPLE.columns:
        is_text = column.dtype == TEXT
        columns[column.name] = Labels.same("", ROWS) if is_text else np.arange(ROWS).astype(column.dtype)
    files = ParquetFiles("4GB")
    for number in (1, 2):
        columns["time"] = begin_ns + number * ROWS + np.arange(ROWS)
        files.write(HOP_SAMPLE, columns, directory / f"{number:08}-{number:08}.parquet")
    files.close()
