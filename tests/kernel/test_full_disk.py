# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.require import require, require_commands

CHILD = f"{sys.executable} -m tests.kernel.full_disk_child"
TMPFS = "mount -t tmpfs -o size=2m tmpfs $1"
EXT4 = "truncate -s 2M $1.img && mkfs.ext4 -q -O ^has_journal $1.img && mount -o loop $1.img $1"


@pytest.mark.parametrize("mount", [TMPFS, EXT4], ids=["tmpfs", "ext4"])
def test_appender_on_a_full_disk_goes_on_counts_and_recovers(tmp_path: Path, mount: str) -> None:
    require_commands("unshare", "mkfs.ext4")
    require(mount != EXT4 or Path("/dev/loop-control").exists(), "loop devices")
    disk = tmp_path / "disk"
    disk.mkdir()
    # The mount ends with its namespace, whatever becomes of the test.
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f"{mount}; exec {CHILD} $1", "sh", str(disk)],
        check=False, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    appended = said["appended"]
    assert appended > 20
    assert said["waiting"] == {"event": 6}
    assert "No space left on device: make room, or give the store another disk" in said["error"]
    assert said["restarted"] == [{}, {"event": 1}]
    assert said["after"] == [{"event": 1}, {}, None]
    assert said["stored"] == [*range(appended), appended + 6]
