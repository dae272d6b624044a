# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest

from agent.plan.file import Action, PlanFile, Signature, decide
from agent.plan.model import PlanError

OLD = Signature(inode=1, size_bytes=10, mtime_ns=100)
NEW = Signature(inode=1, size_bytes=20, mtime_ns=200)
NEWER = Signature(inode=2, size_bytes=20, mtime_ns=200)


@pytest.mark.parametrize(
    ("loaded", "last_seen", "now", "action"),
    [
        (OLD, OLD, OLD, Action.KEEP),
        (OLD, OLD, NEW, Action.WAIT),
        (OLD, NEW, NEW, Action.READ),
        (OLD, NEW, NEWER, Action.WAIT),
        (OLD, NEW, OLD, Action.KEEP),
        (OLD, OLD, None, Action.WAIT),
        (OLD, None, None, Action.READ),
        (None, None, None, Action.KEEP),
        (None, None, NEW, Action.WAIT),
    ],
)
def test_decide_reads_only_what_changed_and_came_to_rest(
    loaded: Signature | None, last_seen: Signature | None, now: Signature | None, action: Action
) -> None:
    assert decide(loaded, last_seen, now) is action


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text("nic: eth0")
    return path


def replace(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    os.rename(new, file)


def test_poll_without_change_does_nothing(file: Path) -> None:
    watched = PlanFile(file)
    assert not watched.poll()
    assert watched.plan.nic == ("eth0",)


def test_poll_after_a_change_takes_the_new_plan_at_the_second_look(file: Path) -> None:
    watched = PlanFile(file)
    replace(file, "nic: eth1")
    assert not watched.poll()
    assert watched.poll()
    assert watched.plan.nic == ("eth1",)
    assert not watched.poll()


def test_poll_of_an_invalid_file_keeps_the_plan_and_reports_once(file: Path) -> None:
    watched = PlanFile(file)
    replace(file, "nik: eth1")
    assert [watched.poll() for _ in range(4)] == [False, True, False, False]
    assert watched.plan.nic == ("eth0",)
    assert str(watched.error) == f"{file}:1:1: nik: unknown key, did you mean `nic`?"


def test_poll_of_a_repaired_file_clears_the_error(file: Path) -> None:
    watched = PlanFile(file)
    replace(file, "nic: [")
    assert [watched.poll(), watched.poll()] == [False, True]
    replace(file, "nic: eth0")
    assert [watched.poll(), watched.poll()] == [False, True]
    assert watched.error is None
    assert watched.plan.nic == ("eth0",)


def test_poll_of_a_deleted_file_keeps_the_plan_and_says_so(file: Path) -> None:
    watched = PlanFile(file)
    file.unlink()
    assert [watched.poll(), watched.poll(), watched.poll()] == [False, True, False]
    assert watched.plan.nic == ("eth0",)
    assert str(watched.error) == f"{file}: cannot be read: No such file or directory"


def test_plan_file_that_is_invalid_at_first_raises(file: Path) -> None:
    file.write_text("nik: 1")
    with pytest.raises(PlanError, match="unknown key"):
        PlanFile(file)
