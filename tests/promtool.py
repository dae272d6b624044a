# SPDX-License-Identifier: Apache-2.0
"""`promtool check metrics`: Prometheus' own opinion of what we tell it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.require import require

_PLACES = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def require_no_fault(text: bytes) -> None:
    """Fails the test with what promtool says; skips it (CI: fails) where there is none."""
    promtool = shutil.which("promtool", path=_PLACES)
    require(promtool, "the command promtool (./dev test downloads it)")
    assert promtool is not None
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
