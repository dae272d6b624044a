# SPDX-License-Identifier: Apache-2.0
"""Prometheus' own programs: its opinion of what we tell it, and of our rules."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.require import require

_PLACES = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def program(name: str) -> str:
    """Where `promtool` or `prometheus` is; skips the test (CI: fails) where there is none."""
    found = os.environ.get(f"OVERHOP_{name.upper()}") or shutil.which(name, path=_PLACES)
    require(found, f"the command {name} (./dev test downloads it)")
    assert found is not None
    return found


def require_no_fault(text: bytes) -> None:
    """Fails the test with what promtool says of metrics."""
    argv = [program("promtool"), "check", "metrics"]
    done = subprocess.run(argv, input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
