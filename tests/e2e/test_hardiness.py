# SPDX-License-Identifier: Apache-2.0
"""The scenarios of tests/accept/hardiness.py, in short."""

from collections.abc import Iterator

import pytest

from tests.accept.lifecycle import Stage, lifecycle, stage
from tests.require import require_commands

RATE_HZ = 200.0


@pytest.fixture(scope="module")
def place() -> Iterator[Stage]:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool", "tc")
    with stage() as made:
        yield made


@pytest.mark.parametrize("mode", ["tcx", "clsact"])
def test_agent_killed_restarted_and_terminated_fails_no_request_and_leaves_nothing(
    place: Stage, mode: str
) -> None:
    assert lifecycle(place, mode, RATE_HZ).problems == []
