# SPDX-License-Identifier: Apache-2.0
"""Where demos of a test have their files; a test that fails leaves no demo running."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from overhop.lab import sweep
from tests.e2e.demo_process import Demo
from tests.require import require_commands, require_root


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Path]:
    require_root()
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool")
    yield tmp_path
    while Demo.started:
        demo = Demo.started.pop()
        if demo.process.returncode is None:  # the test failed before its end
            demo.process.terminate()
            demo.end()
    sweep()
