# SPDX-License-Identifier: Apache-2.0
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from agent.storing.child import ConfinedProcess
from tests.accept.verdict import until

TIMEOUT_S = 20.0
ROOT = Path(__file__).parents[2]
PROBE = "tests.kernel.confined_probe"
PARENT = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from agent.storing.child import ConfinedProcess
child = ConfinedProcess({PROBE!r}, ["wait"])
text = ""
while not text.endswith("\\n"):
    text += child.said()
print(child.pid, flush=True)
sys.stdin.read()
"""


def words(process: ConfinedProcess) -> str:
    said: list[str] = []

    def more() -> str:
        said.append(process.said())
        return "".join(said)

    return until(more, lambda text: text.endswith("\n"), TIMEOUT_S)


def test_confined_process_has_no_rights_and_no_descriptors_of_ours() -> None:
    kept = os.open("/dev/null", os.O_RDONLY)
    process = ConfinedProcess(PROBE, ["wait"])
    try:
        about = json.loads(words(process))
    finally:
        process.end(10.0)
        process.close()
        os.close(kept)
    assert about["argv"] == ["wait"]
    assert about["pid"] == process.pid
    assert about["capabilities"] == about["permitted"] == "0000000000000002"
    assert about["ambient"] == "0000000000000000"
    assert about["no_new_privs"] == "1"
    assert about["descriptors"] == [0, 1, 2, 3]


def test_confined_process_end_is_sigterm() -> None:
    process = ConfinedProcess(PROBE, ["wait"])
    words(process)
    process.end(10.0)
    process.close()
    assert process.poll() == -signal.SIGTERM


def test_confined_process_ends_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    assert "Z (zombie)" in until(lambda: status_of(child), lambda text: "Z (zombie)" in text, TIMEOUT_S)


def status_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "Z (zombie)"
