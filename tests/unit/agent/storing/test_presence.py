# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

from agent.storing.presence import Predecessor, Presence


def test_presence_first_agent_has_no_predecessor(tmp_path: Path) -> None:
    presence = Presence(tmp_path, "n1")
    assert presence.begin() is None
    assert (tmp_path / "agents" / "n1").stat().st_mode & 0o777 == 0o600


def test_presence_after_a_good_end_there_is_no_predecessor(tmp_path: Path) -> None:
    presence = Presence(tmp_path, "n1")
    presence.begin()
    presence.end()
    assert Presence(tmp_path, "n1").begin() is None


def test_presence_after_kill_tells_who_and_when(tmp_path: Path) -> None:
    Presence(tmp_path, "a/b").begin()
    os.utime(tmp_path / "agents" / "a%2Fb", ns=(5_000, 5_000))
    found = Presence(tmp_path, "a/b").begin()
    assert found == Predecessor(os.getpid(), 5_000)


def test_presence_sign_is_the_last_time(tmp_path: Path) -> None:
    presence = Presence(tmp_path, "n1")
    presence.begin()
    os.utime(tmp_path / "agents" / "n1", ns=(5_000, 5_000))
    presence.sign()
    found = presence.begin()
    assert found is not None
    assert found.last_sign_ns > 1_700_000_000_000_000_000


def test_presence_mark_that_was_cut_short_counts(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    for text in ("", '{"pid"', "[1]", '{"pid": "x"}'):
        (tmp_path / "agents" / "n1").write_text(text)
        os.utime(tmp_path / "agents" / "n1", ns=(5_000, 5_000))
        assert Presence(tmp_path, "n1").begin() == Predecessor(0, 5_000)
