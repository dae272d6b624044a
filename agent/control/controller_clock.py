# SPDX-License-Identifier: Apache-2.0
"""What the controller's clock says, for a node whose own is wrong or was set.

The controller tells whose an address was by its own clock. A node that is a minute behind would ask about the
pod that had the address before. Every answer carries the time to the second (RFC 9110, Date), so that the
difference to our CLOCK_MONOTONIC lies within bounds, and the more answers, the closer.
"""

import time
from email.utils import parsedate_to_datetime
from typing import Final

ALIKE_NS: Final = 1_500_000_000
"""Clocks that differ by less are taken as one: a second is what Date can tell."""
_SECOND_NS: Final = 1_000_000_000
_DRIFT_NS: Final = 200_000
"""How far the two may drift apart between two answers, each way."""


class ControllerClock:
    """Written by one thread; any may read it."""

    def __init__(self) -> None:
        self._least_ns = self._most_ns = 0
        """Bounds of the controller's real time minus our CLOCK_MONOTONIC; both 0: never heard."""

    @property
    def is_heard(self) -> bool:
        """It said its time once."""
        return self._most_ns != 0

    def ahead_ns(self, offset_ns: int) -> int:
        """By how much it is ahead of a real time that is CLOCK_MONOTONIC plus `offset_ns`.

        0 if that is less than can be told, or nothing was heard.
        """
        if not self.is_heard:
            return 0
        found = (self._least_ns + self._most_ns) // 2 - offset_ns
        return found if abs(found) > ALIKE_NS else 0

    def hear(self, date: str, asked_mono_ns: int, heard_mono_ns: int) -> None:
        """`date`: of an answer; what is none is left alone. Times: when it was asked for and when it came."""
        try:
            said_ns = int(parsedate_to_datetime(date).timestamp()) * _SECOND_NS
        except (ValueError, TypeError, OverflowError):
            return
        least_ns, most_ns = said_ns - heard_mono_ns, said_ns + _SECOND_NS - asked_mono_ns
        kept_ns = max(least_ns, self._least_ns - _DRIFT_NS), min(most_ns, self._most_ns + _DRIFT_NS)
        is_other = not self.is_heard or kept_ns[0] > kept_ns[1]  # it was set, or another one leads
        self._least_ns, self._most_ns = (least_ns, most_ns) if is_other else kept_ns


def own_offset_ns() -> int:
    """This node's real time minus its CLOCK_MONOTONIC."""
    return time.time_ns() - time.monotonic_ns()
