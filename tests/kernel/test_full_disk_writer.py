# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from pathlib import Path

from tests.require import require_commands

COMMAND = (
    f"mount -t tmpfs -o size=80m tmpfs $1; exec {sys.executable} -m tests.kernel.full_disk_writer_child $1"
)


def test_compactor_on_a_full_disk_keeps_rows_says_so_once_and_recovers(tmp_path: Path) -> None:
    require_commands("unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    # The mount ends with its namespace, whatever becomes of the test.
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", COMMAND, "sh", str(disk)],
        check=False, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["rows"] == [80_000] * 5
    assert said["full"] == ["00000001.seg"]
    assert said["after"] == ["00000001-00000001.parquet"]
    assert len(said["said"]) == 2
    assert "No space left on device" in said["said"][0]
    assert said["said"][0].endswith(": its inputs stay, tried again until it works")
    assert said["said"][1].endswith("compacting works again")
