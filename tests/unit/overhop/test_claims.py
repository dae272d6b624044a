# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys
from pathlib import Path

from overhop.claims import abandoned, claim

HOLDER = """
import sys
from pathlib import Path
from overhop.claims import claim
held = claim(Path(sys.argv[1]), "oh1", "about it")
print("held", flush=True)
sys.stdin.read()
"""


def killed_holder(directory: Path) -> int:
    """Pid of a process that claimed `oh1` and was killed."""
    argv = [sys.executable, "-c", HOLDER, str(directory)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert list(abandoned(directory, "oh*")) == []
        holder.send_signal(signal.SIGKILL)
    return holder.pid


def test_claim_has_the_owners_pid_and_is_gone_when_released(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "labs"
    held = claim(directory, "oh1")
    assert (directory / "oh1").read_text() == f"{os.getpid()}\n"
    assert list(abandoned(directory, "oh*")) == []
    held.release()
    assert not (tmp_path / "run").exists()


def test_claim_of_a_killed_owner_is_abandoned_with_its_note(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "labs"
    killed_holder(directory)
    [found] = abandoned(directory, "oh*")
    assert (found.name, found.note) == ("oh1", "about it")
    assert list(abandoned(directory, "oh*")) == [], "two sweeps at once"
    found.release()
    assert not directory.exists()


def test_claim_that_is_let_go_is_found_again(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "labs"
    killed_holder(directory)
    [found] = abandoned(directory, "oh*")
    found.let_go()
    [again] = abandoned(directory, "oh*")
    again.release()
    assert list(abandoned(directory, "oh*")) == []
