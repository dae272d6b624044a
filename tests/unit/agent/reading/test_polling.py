# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable

import pytest

from agent.reading.polling import next_wait_s

MIB_2 = 2 << 20
"""Room for 15,420 records."""
ROOM = 15_420


@pytest.mark.parametrize(
    ("records", "elapsed_s", "ring_bytes", "wait_s"),
    [
        (0, 0.02, MIB_2, 0.05),
        (1_600, 0.05, MIB_2, 0.05),
        (3_855, 0.05, MIB_2, 0.05),
        (7_710, 0.05, MIB_2, 0.025),
        (15_420, 0.05, MIB_2, 0.0125),
        (15_420, 0.02, MIB_2, 0.01),
        (15_420, 2.0, MIB_2, 0.05),
        (0, 0.02, 1 << 20, 0.0257),
        (0, 0.02, 4096, 0.01),
        (0, 0.02, 64 << 20, 0.05),
    ],
)
def test_next_wait_s(records: int, elapsed_s: float, ring_bytes: int, wait_s: float) -> None:
    assert next_wait_s(records, elapsed_s, ring_bytes) == pytest.approx(wait_s, abs=1e-5)


def most_waiting(rates_hz: Iterable[int], late_s: float) -> int:
    """Most records that wait when each rate lasts 0.2 s and the agent comes `late_s` late each time."""
    most, now_s, last_s, waiting = 0, 0.0, 0.0, 0.0
    wake_s = 0.05
    for rate_hz in rates_hz:
        end_s = now_s + 0.2
        while now_s < end_s:
            step_s = min(wake_s, end_s) - now_s
            waiting += rate_hz * step_s
            now_s += step_s
            most = max(most, int(waiting))
            if now_s >= wake_s:
                wake_s = now_s + late_s + next_wait_s(int(waiting), now_s - last_s, MIB_2)
                last_s, waiting = now_s, 0.0
    return most


@pytest.mark.parametrize(
    ("rates_hz", "late_s", "at_most"),
    [
        ((32_000,) * 10, 0.0, ROOM // 4),
        ((100_000,) * 10, 0.0, ROOM // 2),
        ((0, 0, 100_000, 0, 100_000), 0.0, ROOM // 2),
        ((0, 0, 100_000, 0, 100_000), 0.09, ROOM),
        ((0, 0, 300_000, 0, 300_000, 300_000), 0.0, ROOM),
        ((1_000, 200_000, 1_000, 200_000), 0.02, ROOM),
        ((300_000,) * 10, 0.02, ROOM),
    ],
)
def test_a_burst_never_fills_the_ring(rates_hz: tuple[int, ...], late_s: float, at_most: int) -> None:
    assert 0 < most_waiting(rates_hz, late_s) <= at_most
