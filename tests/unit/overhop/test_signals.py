# SPDX-License-Identifier: Apache-2.0
import signal
from collections.abc import Iterator

import pytest

from overhop.signals import ENDING, FirstOf, Ignored


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def leave_by(first: signal.Signals, *later: signal.Signals) -> None:
    with FirstOf(ENDING):
        try:
            signal.raise_signal(first)
        finally:
            for each in later:
                signal.raise_signal(each)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_first_signal_exits_and_later_ones_do_nothing(number: signal.Signals, code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        leave_by(number, *ENDING)
    assert ended.value.code == code
    signal.raise_signal(number)


def test_first_ctrl_c_is_an_interrupt_and_a_second_one_nothing() -> None:
    with pytest.raises(KeyboardInterrupt):
        leave_by(signal.SIGINT, signal.SIGINT)


def test_without_a_signal_handlers_are_as_before() -> None:
    with FirstOf(ENDING):
        assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_signals_stay_ignored_as_under_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with FirstOf(ENDING):
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_inner_one_leaves_the_outer_ones_signals_alone() -> None:
    with FirstOf(ENDING):
        handler = signal.getsignal(signal.SIGTERM)
        with FirstOf((signal.SIGTERM, signal.SIGHUP)):
            assert signal.getsignal(signal.SIGTERM) == handler
        assert signal.getsignal(signal.SIGTERM) == handler


def test_ignored_has_no_effect_inside_and_ends() -> None:
    with Ignored():
        for number in ENDING:
            signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
