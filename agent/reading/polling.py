# SPDX-License-Identifier: Apache-2.0
"""How long the agent may leave the ring alone: a turn costs nearly the same for one hop as for a thousand.

docs/decisions/0008-polling.md has the measurement.
"""

from typing import Final

from bpf.record import RING_STRIDE

LEAST_S: Final = 0.01
MOST_S: Final = 0.05
WANTED_FILL: Final = 0.25
"""Share of the ring that may fill between two reads; the rest is for bursts and for others on this CPU."""
BURST_HZ: Final = 300_000
"""From rest to so many hops a second may not fill the ring before the next read."""


def next_wait_s(records: int, elapsed_s: float, ring_bytes: int) -> float:
    """Seconds until the next read, when the last one found so many records of the time `elapsed_s`."""
    room = ring_bytes // RING_STRIDE
    most_s = min(MOST_S, room / BURST_HZ)
    if records:
        most_s = min(most_s, WANTED_FILL * room * elapsed_s / records)
    return max(LEAST_S, most_s)
