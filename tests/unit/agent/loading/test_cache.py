# SPDX-License-Identifier: Apache-2.0
"""What the cache gives back, and what it takes for not there."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.loading.cache import ProgramCache
from bpf.bytecode import Bytecode, MapDefinition

KEY = "5ef55f6182b307b9ecd154ea5fa6e94f5c3dbdbc276c85c5bdf021c0970530e6"
OTHER_KEY = "ffff5f6182b307b9ecd154ea5fa6e94f5c3dbdbc276c85c5bdf021c0970530e6"
FILE = "5ef55f6182b307b9ecd154ea.programs"
BYTECODE = Bytecode(
    "GPL", (MapDefinition("oh_ring", 27, 0, 0, 4096, 0),), {"oh_nic_in": bytes(range(16)), "oh_nic_out": b""}
)


@pytest.fixture
def compiler(tmp_path: Path) -> Path:
    file = tmp_path / "libcompiler.so"
    file.write_bytes(b"1")
    return file


@pytest.fixture
def cache(tmp_path: Path, compiler: Path) -> ProgramCache:
    made = ProgramCache(tmp_path / "cache")
    made.keep(KEY, BYTECODE, [str(compiler)])
    return made


def reason(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = caplog.records
    return str(record.__dict__["reason"])


@pytest.fixture(autouse=True)
def debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "agent.loading.cache")


def test_find_gives_what_was_kept(cache: ProgramCache) -> None:
    assert cache.find(KEY) == BYTECODE


def test_find_of_another_key_gives_nothing(cache: ProgramCache) -> None:
    assert cache.find(OTHER_KEY) is None


def test_find_without_directory_gives_nothing_and_makes_none(tmp_path: Path) -> None:
    assert ProgramCache(tmp_path / "none").find(KEY) is None
    assert not (tmp_path / "none").exists()


def test_keep_makes_directory_and_file_for_its_user_only(cache: ProgramCache) -> None:
    assert cache.directory.stat().st_mode & 0o777 == 0o700
    assert (cache.directory / FILE).stat().st_mode & 0o777 == 0o600
    assert os.listdir(cache.directory) == [FILE]


def test_keep_again_replaces(cache: ProgramCache, compiler: Path) -> None:
    other = Bytecode("GPL", (), {"oh_nic_in": bytes(8)})
    cache.keep(KEY, other, [str(compiler)])
    assert cache.find(KEY) == other
    assert os.listdir(cache.directory) == [FILE]


def flip_last(text: bytes) -> bytes:
    return text[:-3] + b"x" + text[-2:]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_last, "damaged: the SHA-256 of the content is another"),
        (lambda text: text[:-1], "damaged: the SHA-256 of the content is another"),
        (lambda text: text[:30], "damaged: the SHA-256 of the content is another"),
        (lambda text: text.replace(b"programs 1", b"programs 9", 1), "another format"),
        (lambda text: text[:0], "another format"),
        (lambda text: text + bytes(4 << 20), f"{FILE}: no file of at most 4194304 bytes"),
    ],
    ids=["changed", "cut", "torn", "format", "empty", "huge"],
)
def test_find_of_a_damaged_file_gives_nothing(
    cache: ProgramCache,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    said: str,
) -> None:
    file = cache.directory / FILE
    file.write_bytes(damage(file.read_bytes()))
    assert cache.find(KEY) is None
    assert reason(caplog) == said


def test_find_of_a_file_under_the_name_of_another_gives_nothing(
    cache: ProgramCache, caplog: pytest.LogCaptureFixture
) -> None:
    (cache.directory / FILE).rename(cache.directory / f"{OTHER_KEY[:24]}.programs")
    assert cache.find(OTHER_KEY) is None
    assert reason(caplog) == "of another key"


@pytest.mark.parametrize("what", ["", FILE])
def test_find_where_others_may_write_gives_nothing(
    cache: ProgramCache, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    (cache.directory / what).chmod(0o720)
    assert cache.find(KEY) is None
    assert reason(caplog) == f"others may write to {what or cache.directory} (mode 0720)"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: gives a file to somebody else")
@pytest.mark.parametrize("what", ["", FILE])
def test_find_of_what_is_somebody_elses_gives_nothing(
    cache: ProgramCache, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    os.chown(cache.directory / what, 65534, 65534)
    assert cache.find(KEY) is None
    assert reason(caplog) == f"{what or cache.directory} belongs to user id 65534"


def test_find_through_a_link_gives_nothing(cache: ProgramCache, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(cache.directory)
    assert ProgramCache(tmp_path / "link").find(KEY) is None
    (cache.directory / FILE).rename(tmp_path / "elsewhere")
    (cache.directory / FILE).symlink_to(tmp_path / "elsewhere")
    assert cache.find(KEY) is None


def test_find_of_a_pipe_gives_nothing_at_once(cache: ProgramCache) -> None:
    (cache.directory / FILE).unlink()
    os.mkfifo(cache.directory / FILE, 0o600)
    assert cache.find(KEY) is None


def test_find_after_the_compiler_was_upgraded_gives_nothing(
    cache: ProgramCache, compiler: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compiler.write_bytes(b"22")
    assert cache.find(KEY) is None
    assert reason(caplog) == f"compiled by another compiler: {compiler}"


def test_find_after_the_compiler_was_removed_gives_what_was_kept(cache: ProgramCache, compiler: Path) -> None:
    compiler.unlink()
    assert cache.find(KEY) == BYTECODE


def test_find_after_a_part_of_the_compiler_was_removed_gives_nothing(
    cache: ProgramCache, compiler: Path
) -> None:
    cache.keep(KEY, BYTECODE, [str(compiler), str(compiler.parent)])
    compiler.unlink()
    assert cache.find(KEY) is None


def test_keep_removes_the_least_recently_used_beyond_sixteen(cache: ProgramCache, compiler: Path) -> None:
    keys = [f"{number:064x}"[::-1] for number in range(16)]
    os.utime(cache.directory / FILE, (1, 1))
    (cache.directory / "0123.draft").write_bytes(b"of a killed agent")
    os.utime(cache.directory / "0123.draft", (2, 2))
    (cache.directory / "README").write_bytes(b"somebody's")
    for number, key in enumerate(keys[:14]):
        cache.keep(key, BYTECODE, [str(compiler)])
        os.utime(cache.directory / f"{key[:24]}.programs", (10 + number, 10 + number))
    assert cache.find(KEY) == BYTECODE  # used now
    cache.keep(keys[14], BYTECODE, [str(compiler)])
    cache.keep(keys[15], BYTECODE, [str(compiler)])
    assert len(os.listdir(cache.directory)) == 17
    assert [cache.find(key) is not None for key in (KEY, *keys)] == [True, False, *[True] * 15]
    assert (cache.directory / "README").exists()
    assert not (cache.directory / "0123.draft").exists()


def test_keep_where_nothing_can_be_written_says_so_at_debug(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    ProgramCache(tmp_path / "file" / "cache").keep(KEY, BYTECODE, [])
    assert reason(caplog).endswith(f"Not a directory: '{tmp_path}/file/cache'")


def test_keep_in_a_directory_where_others_may_write_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    ProgramCache(tmp_path / "open").keep(KEY, BYTECODE, [])
    assert os.listdir(tmp_path / "open") == []


@pytest.mark.parametrize(
    ("named", "directory"), [(None, "/var/cache/overhop"), ("/elsewhere", "/elsewhere"), ("", None)]
)
def test_of_this_machine_asks_the_environment(
    monkeypatch: pytest.MonkeyPatch, named: str | None, directory: str | None
) -> None:
    monkeypatch.delenv("OVERHOP_CACHE_DIR", raising=False)
    if named is not None:
        monkeypatch.setenv("OVERHOP_CACHE_DIR", named)
    found = ProgramCache.of_this_machine()
    assert (found and str(found.directory)) == directory
