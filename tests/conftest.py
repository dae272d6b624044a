# SPDX-License-Identifier: Apache-2.0
"""Rules for all tests; what a test needs of the machine is in tests/require.py."""

import os
import signal
from pathlib import Path

import pytest

from tests.require import require, require_root

__all__ = ["require"]

TESTS = Path(__file__).parent
NEED_ROOT = (TESTS / "kernel", TESTS / "e2e")
QUIET = {"OVERHOP_STORE": "none", "OVERHOP_METRICS_LISTEN": "none", "OVERHOP_CONFIG": os.devnull}
"""Programs under test keep nothing, listen nowhere and read no configuration unless a test says so."""


def pytest_configure() -> None:
    """Programs under test keep to themselves, and hear SIGINT also where a shell started us in the background
    with it ignored."""
    os.environ.update(QUIET)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests below kernel/ and e2e/ need root."""
    if any(directory in item.path.parents for directory in NEED_ROOT):
        require_root()
