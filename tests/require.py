# SPDX-License-Identifier: Apache-2.0
"""What a test needs of the machine: skipped by name where it is missing, failed where CI should have it."""

import os
import shutil

import pytest


def require(present: object, what: str) -> None:
    """Skip the calling test, naming `what`, unless `present` is true; with CI set it fails instead."""
    if present:
        return
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(f"needs {what}, which a CI machine must have", pytrace=False)
    pytest.skip(f"needs {what}")


def require_root() -> None:
    """Skip (CI: fail) unless this process is root."""
    require(os.geteuid() == 0, "root (run ./dev test)")


def require_commands(*names: str) -> None:
    """Skip (CI: fail) unless every one of the commands is in PATH."""
    missing = [name for name in names if shutil.which(name) is None]
    require(not missing, f"the commands {', '.join(missing)}")
