# SPDX-License-Identifier: Apache-2.0
"""Every scenario of tests/accept/pairing.py, in short."""

from collections.abc import Callable

import pytest

from tests.accept.pairing import SCENARIOS, Size
from tests.accept.town import Measured
from tests.require import require_commands

SHORT = Size(requests=800, connections=16)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_pairing_scenario_has_every_hop_and_balanced_counters(scenario: Callable[[Size], Measured]) -> None:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool")
    assert scenario(SHORT).problems == ()
