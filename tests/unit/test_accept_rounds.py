# SPDX-License-Identifier: Apache-2.0
from tests.accept.rounds import estimate, ratios


def test_estimate_is_the_median_within_its_interval() -> None:
    found = estimate([1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02, 5.0])
    assert found.median == 1.01
    assert 0.9 <= found.low <= found.median <= found.high <= 1.1
    assert str(estimate([2.0, 2.0])) == "2 (2 to 2)"


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
