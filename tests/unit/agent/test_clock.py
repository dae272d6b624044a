# SPDX-License-Identifier: Apache-2.0
import time

import numpy as np
import pytest

from agent.clock import (
    Clock,
    ClockOffset,
    KernelClock,
    boot_id,
    is_step,
    kernel_clock,
    merged,
    should_refresh,
    take_offset,
    tightest,
)

KERNEL = KernelClock(maxerror_ns=16_000_000_000, tai_offset_ns=37_000_000_000, synchronized=False)


def offset(
    offset_ns: int, bound_ns: int = 50, taken_at_mono_ns: int = 0, maxerror_ns: int = 0
) -> ClockOffset:
    return ClockOffset(offset_ns, bound_ns, maxerror_ns, 0, taken_at_mono_ns)


def test_tightest_of_three_brackets_uses_the_narrowest() -> None:
    brackets = [(1000, 501_100, 1500), (2000, 502_030, 2060), (3000, 503_400, 3900)]
    assert tightest(brackets, KERNEL) == ClockOffset(
        offset_ns=500_000,
        bound_ns=30,
        maxerror_ns=16_000_000_000,
        tai_offset_ns=37_000_000_000,
        taken_at_mono_ns=2060,
    )


def test_tightest_of_an_odd_bracket_rounds_the_bound_up() -> None:
    assert tightest([(10, 110, 15)], KERNEL).bound_ns == 3


def test_to_real_adds_the_offset_to_each_stamp() -> None:
    real = offset(1_790_000_000_000_000_000).to_real(np.array([0, 5, 2**40], np.uint64))
    assert real.dtype == np.int64
    assert real.tolist() == [1_790_000_000_000_000_000, 1_790_000_000_000_000_005, 1_790_001_099_511_627_776]


def test_to_real_with_a_negative_offset_is_exact() -> None:
    assert offset(-3).to_real(np.array([10], np.uint64)).tolist() == [7]


def test_should_refresh_without_measurement_is_true() -> None:
    assert should_refresh(None, 5)


def test_should_refresh_before_a_second_has_passed_is_false() -> None:
    assert not should_refresh(offset(0, taken_at_mono_ns=100), 999_999_999)
    assert should_refresh(offset(0, taken_at_mono_ns=100), 1_000_000_100)


def test_is_step_within_bounds_and_slack_is_false() -> None:
    assert not is_step(offset(1000, bound_ns=50), offset(2150, bound_ns=100))
    assert is_step(offset(1000, bound_ns=50), offset(2151, bound_ns=100))
    assert is_step(offset(2151, bound_ns=50), offset(1000, bound_ns=100))


def test_merged_without_step_keeps_the_tighter_offset_but_the_new_error() -> None:
    last = offset(1000, bound_ns=20, taken_at_mono_ns=1, maxerror_ns=1)
    new = offset(1010, bound_ns=400, taken_at_mono_ns=2, maxerror_ns=7)
    assert merged(last, new) == offset(1000, bound_ns=20, taken_at_mono_ns=2, maxerror_ns=7)


def test_merged_after_a_step_takes_the_new_offset() -> None:
    new = offset(9_000_000, bound_ns=400)
    assert merged(offset(1000, bound_ns=20), new) == new


def test_clock_counts_a_step_and_says_how_far() -> None:
    measured = [offset(1000, taken_at_mono_ns=0), offset(5_001_000, taken_at_mono_ns=2_000_000_000)]
    clock = Clock(take=lambda: measured.pop(0))
    assert not clock.refresh(now_mono_ns=500_000_000)
    assert clock.refresh(now_mono_ns=2_000_000_000)
    assert (clock.steps, clock.last_step_ns, clock.offset.offset_ns) == (1, 5_000_000, 5_001_000)


def test_clock_without_step_reports_none() -> None:
    measured = [offset(1000, taken_at_mono_ns=0), offset(1040, taken_at_mono_ns=1_000_000_000)]
    clock = Clock(take=lambda: measured.pop(0))
    assert not clock.refresh(now_mono_ns=1_000_000_000)
    assert clock.steps == 0


def test_take_offset_on_this_machine_agrees_with_both_clocks() -> None:
    taken = take_offset()
    assert taken.bound_ns < 1_000_000
    assert abs(time.monotonic_ns() + taken.offset_ns - time.time_ns()) < 1_000_000_000
    assert 0 <= time.monotonic_ns() - taken.taken_at_mono_ns < 60_000_000_000


def test_kernel_clock_on_this_machine_has_a_plausible_error() -> None:
    clock = kernel_clock()
    assert clock.maxerror_ns >= 0
    assert clock.tai_offset_ns in range(0, 60_000_000_000, 1_000_000_000)


def test_tightest_without_brackets_is_refused() -> None:
    with pytest.raises(ValueError, match="min"):
        tightest([], KERNEL)


def test_boot_id_is_the_same_at_every_call() -> None:
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()
