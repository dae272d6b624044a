# SPDX-License-Identifier: Apache-2.0
"""tests/accept/server_soak.py, in short."""

import pytest

from tests.accept.server_soak import agent_soak, server_soak
from tests.require import require_commands

SECONDS = 25.0
RATE_HZ = 300.0


@pytest.mark.parametrize("kind", ["influxdb2", "influxdb1"])
def test_server_that_is_stopped_killed_and_full_has_every_row_once(kind: str) -> None:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool", "tc")
    verdict = server_soak(kind, SECONDS, RATE_HZ)
    assert verdict.problems == []
    assert verdict.numbers["rows waiting while it was stopped"] > 0


def test_agent_that_is_killed_loses_its_open_interval_and_says_so() -> None:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool", "tc")
    assert agent_soak("influxdb2", SECONDS, RATE_HZ).problems == []
