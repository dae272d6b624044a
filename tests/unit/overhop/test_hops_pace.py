# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from overhop.commands.hops import Clock, HopsOptions, paced, show_views
from overhop.hops_view import HopRow, HopsView


class FakeTime:
    """Sleeping moves it."""

    def __init__(self) -> None:
        self.at_s = 100.0
        self.slept_s: list[float] = []

    def sleep(self, duration_s: float) -> None:
        self.slept_s.append(round(duration_s, 3))
        self.at_s += duration_s

    def clock(self) -> Clock:
        return Clock(lambda: self.at_s, self.sleep)


VIEW = HopsView(1, "eth0", 2, 2.0, (HopRow("rx", "a", "b", 4, 1.5, 2.5, 3.5),))


def options(once: bool = False, duration_s: float | None = None, as_json: bool = False) -> HopsOptions:
    return HopsOptions(once=once, duration_s=duration_s, interval_s=2.0, as_json=as_json)


def test_paced_once_is_one_interval() -> None:
    time = FakeTime()
    assert list(paced(options(once=True), lambda: VIEW, time.clock())) == [VIEW]
    assert time.slept_s == [2.0]


def test_paced_duration_ends_on_time() -> None:
    time = FakeTime()
    assert len(list(paced(options(duration_s=5.0), lambda: VIEW, time.clock()))) == 3
    assert time.slept_s == [2.0, 2.0, 1.0]


def test_paced_slow_reader_does_not_drift() -> None:
    time = FakeTime()

    def slow() -> HopsView:
        time.at_s += 0.5
        return VIEW

    assert len(list(paced(options(duration_s=4.0), slow, time.clock()))) == 2
    assert time.slept_s == [2.0, 1.5]


def test_show_views_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_views(options(duration_s=4.0, as_json=True), lambda: VIEW, FakeTime().clock()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["hops_per_s"] == 2.0
    assert json.loads(lines[0])["rows"][0]["p50_us"] == 1.5


def test_show_views_pipe_prints_each_view(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_views(options(duration_s=4.0), lambda: VIEW, FakeTime().clock()) == 0
    assert capsys.readouterr().out.count("agent 1 · eth0") == 2


def test_show_views_interrupt_is_the_normal_end() -> None:
    def interrupted() -> HopsView:
        raise KeyboardInterrupt

    assert show_views(options(), interrupted, FakeTime().clock()) == 0
