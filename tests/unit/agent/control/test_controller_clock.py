# SPDX-License-Identifier: Apache-2.0
from email.utils import formatdate

import pytest

from agent.control.controller_clock import ControllerClock

S = 1_000_000_000
NOON_S = 1_764_244_800


def heard(*answers: tuple[float, float, float]) -> ControllerClock:
    """Answers: what the controller's clock was, when it was asked, when the answer came; all in s."""
    clock = ControllerClock()
    for said_s, asked_s, heard_s in answers:
        clock.hear(formatdate(said_s, usegmt=True), round(asked_s * S), round(heard_s * S))
    return clock


def test_clock_that_never_answered_is_taken_as_ours() -> None:
    assert ControllerClock().ahead_ns(12345) == 0
    assert not ControllerClock().is_heard


@pytest.mark.parametrize(
    "text", ["", "noon", "Fri, 99 Nov 2026 12:00:00 GMT", "Fri, 27 Nov 99999 1:00:00 GMT"]
)
def test_date_that_is_none_is_left_alone(text: str) -> None:
    clock = ControllerClock()
    clock.hear(text, 1, 2)
    assert not clock.is_heard


def test_controller_a_minute_ahead_is_told_within_half_a_second() -> None:
    clock = heard((NOON_S + 60.4, 100.0, 100.01))
    assert abs(clock.ahead_ns((NOON_S - 100) * S) - 60 * S) <= 0.6 * S


def test_difference_of_a_second_is_none() -> None:
    assert heard((NOON_S + 1.0, 100.0, 100.01)).ahead_ns((NOON_S - 100) * S) == 0


def test_more_answers_tell_it_closer() -> None:
    """Its clock is 60.4 s ahead of ours; each answer says the whole second in which it was given."""
    answers = [(NOON_S + 60.4 + at, 100.0 + at, 100.001 + at) for at in (0, 0.5, 1.55, 2.62, 5.58)]
    assert abs(heard(*answers).ahead_ns((NOON_S - 100) * S) - 60.4 * S) <= 0.05 * S


def test_clock_that_was_set_is_believed_at_once() -> None:
    clock = heard((NOON_S, 100.0, 100.01), (NOON_S + 3601, 101.0, 101.01))
    assert abs(clock.ahead_ns((NOON_S - 100) * S) - 3600 * S) <= 0.6 * S


def test_own_clock_that_was_set_back_later_counts_as_it_was() -> None:
    clock = heard((NOON_S, 100.0, 100.01))
    assert clock.ahead_ns((NOON_S - 100) * S) == 0
    assert abs(clock.ahead_ns((NOON_S - 100 - 3600) * S) - 3600 * S) <= 0.6 * S
