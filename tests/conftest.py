# SPDX-License-Identifier: Apache-2.0
"""Rules for all tests; what a test needs of the machine is in tests/require.py."""

from pathlib import Path

import pytest

from tests.require import require, require_root

__all__ = ["require"]

TESTS = Path(__file__).parent
NEED_ROOT = (TESTS / "kernel", TESTS / "e2e")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests below kernel/ and e2e/ need root."""
    if any(directory in item.path.parents for directory in NEED_ROOT):
        require_root()
