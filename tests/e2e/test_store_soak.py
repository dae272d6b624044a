# SPDX-License-Identifier: Apache-2.0
"""tests/accept/store_soak.py, in short."""

from tests.accept.store_soak import soak
from tests.require import require_commands

SECONDS = 20.0
RATE_HZ = 200.0


def test_store_whose_agents_writer_and_readers_are_killed_loses_no_acknowledged_row() -> None:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool", "tc")
    verdict = soak(SECONDS, RATE_HZ)
    assert verdict.problems == []
    assert verdict.numbers["kills"]["agent"] >= 1
