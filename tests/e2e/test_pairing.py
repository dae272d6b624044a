# SPDX-License-Identifier: Apache-2.0
"""Every scenario of tests/accept/pairing.py, in short."""

from collections.abc import Iterator

import pytest

from tests.accept.pairing import SCENARIOS
from tests.accept.scenario import Scenario, Size
from tests.accept.town import Towns
from tests.require import require_commands

SHORT = Size(requests=800, connections=16)


@pytest.fixture(scope="module")
def towns() -> Iterator[Towns]:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool")
    with Towns() as towns:
        yield towns


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_pairing_scenario_has_every_hop_and_balanced_counters(scenario: Scenario, towns: Towns) -> None:
    assert scenario.run(towns, SHORT).problems == ()
