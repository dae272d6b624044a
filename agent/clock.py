# SPDX-License-Identifier: Apache-2.0
"""From the kernel's CLOCK_MONOTONIC to real time, with the error that this may have.

Both clocks are slewed alike (kernel/time/timekeeping.c keeps their difference in wall_to_monotonic), so the
offset stays the same until somebody sets the clock, a leap second passes or the machine sleeps: a step.
"""

import ctypes
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

REFRESH_NS = 1_000_000_000
"""How often the offset is measured; one measurement costs about 10 us."""
BRACKETS = 16
STEP_SLACK_NS = 1_000
"""Two measurements that differ by their bounds and this much are still the same offset."""

Bracket = tuple[int, int, int]
"""(CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_MONOTONIC), read one after the other, in ns."""


@dataclass(frozen=True, slots=True)
class KernelClock:
    """What adjtimex(2) says. `maxerror_ns` grows until a time daemon corrects it; 16 s without one."""

    maxerror_ns: int
    tai_offset_ns: int
    synchronized: bool


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Real time is CLOCK_MONOTONIC plus `offset_ns`.

    `bound_ns`: error of that measurement. `maxerror_ns`: the kernel's bound for real time itself against UTC.
    `tai_offset_ns`: CLOCK_TAI minus CLOCK_REALTIME. `taken_at_mono_ns`: when it was measured.
    """

    offset_ns: int
    bound_ns: int
    maxerror_ns: int
    tai_offset_ns: int
    taken_at_mono_ns: int

    def to_real(self, mono_ns: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Nanoseconds since 1970 for stamps of CLOCK_MONOTONIC."""
        return mono_ns.astype(np.int64) + np.int64(self.offset_ns)


def tightest(brackets: Iterable[Bracket], kernel: KernelClock) -> ClockOffset:
    """The offset by the bracket whose outer reads lie closest together. Raises ValueError without any."""
    before, real, after = min(brackets, key=lambda bracket: bracket[2] - bracket[0])
    return ClockOffset(
        offset_ns=real - (before + after) // 2,
        bound_ns=(after - before + 1) // 2,
        maxerror_ns=kernel.maxerror_ns,
        tai_offset_ns=kernel.tai_offset_ns,
        taken_at_mono_ns=after,
    )


def should_refresh(last: ClockOffset | None, now_mono_ns: int, every_ns: int = REFRESH_NS) -> bool:
    """Whether it is time to measure again."""
    return last is None or now_mono_ns - last.taken_at_mono_ns >= every_ns


def is_step(last: ClockOffset, new: ClockOffset) -> bool:
    """Whether real time was set between two measurements."""
    return abs(new.offset_ns - last.offset_ns) > last.bound_ns + new.bound_ns + STEP_SLACK_NS


def merged(last: ClockOffset | None, new: ClockOffset) -> ClockOffset:
    """The offset to use from now on: the tighter of the two, or the new one after a step."""
    if last is None or is_step(last, new) or new.bound_ns <= last.bound_ns:
        return new
    return replace(new, offset_ns=last.offset_ns, bound_ns=last.bound_ns)


class Clock:
    """Keeps the offset fresh and counts the steps of real time. `take` measures once."""

    def __init__(self, take: Callable[[], ClockOffset] | None = None) -> None:
        self._take = take or take_offset
        self.offset = self._take()
        self.steps = 0
        self.last_step_ns = 0
        """By how much real time jumped the last time."""

    def refresh(self, now_mono_ns: int) -> bool:
        """Measures again if it is time to. True if real time was stepped since the last measurement."""
        if not should_refresh(self.offset, now_mono_ns):
            return False
        last, new = self.offset, self._take()
        self.offset = merged(last, new)
        if not is_step(last, new):
            return False
        self.steps += 1
        self.last_step_ns = new.offset_ns - last.offset_ns
        return True


def take_offset() -> ClockOffset:
    """Measures now. Raises OSError if adjtimex(2) fails."""
    kernel = kernel_clock()
    return tightest(
        [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(BRACKETS)], kernel
    )


class _Timex(ctypes.Structure):
    """struct timex (man 2 adjtimex), 64-bit."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


_LIBC = ctypes.CDLL(None, use_errno=True)
_STA_UNSYNC = 0x40


def kernel_clock() -> KernelClock:
    """Reads adjtimex(2) without changing anything (modes 0, no capability needed). Raises OSError."""
    timex = _Timex()
    if _LIBC.adjtimex(ctypes.byref(timex)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"adjtimex(2), read only: {os.strerror(number)}")
    return KernelClock(
        maxerror_ns=timex.maxerror * 1_000,
        tai_offset_ns=timex.tai * 1_000_000_000,
        synchronized=not timex.status & _STA_UNSYNC,
    )


def boot_id() -> str:
    """Names this boot of this machine; nodes with the same one share CLOCK_MONOTONIC. Raises OSError."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
