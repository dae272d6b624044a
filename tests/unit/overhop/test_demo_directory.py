# SPDX-License-Identifier: Apache-2.0
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from overhop.demo.directory import demo_directory, sweep
from store.appender import Appender

DEMO = """
import sys
from pathlib import Path
from overhop.demo.directory import demo_directory
with demo_directory(Path(sys.argv[1])) as directory:
    (directory / "store").mkdir()
    (directory / "n1.yaml").write_text("nic: eth0")
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where demos are marked; their directories are made in `tmp_path`."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "run" / "demos"


def killed(marks: Path) -> Path:
    """The directory of a demo that was killed; while it lived no sweep touched it."""
    argv = [sys.executable, "-c", DEMO, str(marks)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        path = Path(demo.stdout.readline().rstrip("\n"))
        assert sweep(marks) == []
        demo.send_signal(signal.SIGKILL)
    assert (path / "n1.yaml").exists()
    return path


def test_demo_directory_is_ours_alone_and_gone_at_the_end(marks: Path, tmp_path: Path) -> None:
    with demo_directory(marks) as path:
        assert path.parent == tmp_path
        assert path.name.startswith("overhop-demo-")
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "log").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_sweep_removes_the_directory_of_a_killed_demo(marks: Path, tmp_path: Path) -> None:
    path = killed(marks)
    assert sweep(marks) == [str(path)]
    assert list(tmp_path.iterdir()) == []
    assert sweep(marks) == []


def test_sweep_leaves_a_store_that_is_filled_again(marks: Path) -> None:
    path = killed(marks)
    with Appender(path / "store", "local", "n1"):
        assert sweep(marks) == []
    assert (path / "n1.yaml").exists()
    assert sweep(marks) == [str(path)]


def test_sweep_leaves_what_no_demo_made(marks: Path, tmp_path: Path) -> None:
    mine = tmp_path / "overhop-demo-mine"
    mine.mkdir()
    path = killed(marks)
    path.rename(tmp_path / "kept")
    path.symlink_to(mine)
    (mine / "photo.jpg").touch()
    assert sweep(marks) == []
    assert (mine / "photo.jpg").exists()
    assert path.is_symlink()
    assert not marks.exists()
