# SPDX-License-Identifier: Apache-2.0
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from overhop.commands.hops import Filter, HopsOptions, chosen, show_views
from overhop.errors import UsageError
from overhop.hops_view import HopRow, HopsView, Sort

VIEW = HopsView(1, "eth0", 2, 2.0, (HopRow("rx", "a", "b", 4, 1.5, 2.5, 3.5),), node="n1")


def options(once: bool = False, duration_s: float | None = None) -> HopsOptions:
    return HopsOptions(once=once, duration_s=duration_s, interval_s=2.0, as_json=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (options(), (2.0, None)),
        (options(once=True), (2.0, 1)),
        (options(once=True, duration_s=0.5), (0.5, 1)),
        (options(duration_s=4.0), (2.0, 2)),
        (options(duration_s=5.0), (5 / 3, 3)),
        (options(duration_s=1.0), (1.0, 1)),
    ],
)
def test_pace_divides_the_duration_evenly(given: HopsOptions, expected: tuple[float, int | None]) -> None:
    assert given.pace() == expected


def test_show_views_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_views(iter([VIEW, VIEW]), as_json=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["hops_per_s"] == 2.0
    assert json.loads(lines[0])["rows"][0]["p50_us"] == 1.5
    assert json.loads(lines[0])["rows"][0]["node"] == "n1"


def test_show_views_pipe_prints_each_view(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_views(iter([VIEW, VIEW]), as_json=False) == 0
    assert capsys.readouterr().out.count("agent 1 on n1 · eth0") == 2


def test_show_views_interrupt_is_the_normal_end() -> None:
    def interrupted() -> Iterator[HopsView]:
        yield VIEW
        raise KeyboardInterrupt

    assert show_views(interrupted(), as_json=True) == 0


IN_A_TERMINAL = """
import os, signal
from overhop.commands.hops import show_views
from overhop.hops_view import HopsView

def views():
    yield HopsView(1, "eth0", 2, 2.0)
    os.kill(os.getpid(), signal.SIGTERM)
    yield HopsView(1, "eth0", 2, 2.0)

show_views(views(), as_json=False)
"""


def test_show_views_in_a_terminal_gives_the_cursor_back_on_sigterm() -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "wb") as stdout:
        environment = os.environ | {"TERM": "xterm"}
        argv = [sys.executable, "-c", IN_A_TERMINAL]
        done = subprocess.run(argv, stdout=stdout, env=environment, timeout=60, check=False)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 143
    assert (shown.count("\x1b[?25l"), shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")) == (1, True)


ROWS = (
    HopRow(
        "rx", "external", "shop/b", 3, 1.0, 9.0, 9.0,
        destination_namespace="shop", destination_workload="b",
    ),
    HopRow(
        "local", "shop/b", "db/c", 5, 1.0, 7.0, 8.0,
        source_namespace="shop", source_workload="b", destination_namespace="db", destination_workload="c",
    ),
)  # fmt: skip


def kinds(only: Filter, sort: Sort = "count", limit: int | None = None) -> list[str]:
    wanted = HopsOptions(False, None, None, False, only, sort, limit)
    return [row.kind for row in chosen(HopsView(1, "eth0", 2, 2.0, ROWS, node="n1"), wanted).rows]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (Filter(), ["local", "rx"]),
        (Filter(namespace="shop"), ["local", "rx"]),
        (Filter(namespace="db"), ["local"]),
        (Filter(workload="b"), ["local", "rx"]),
        (Filter(namespace="shop", workload="c"), []),
        (Filter(namespace="db", workload="c", node="n1", kind="local"), ["local"]),
        (Filter(kind="rx"), ["rx"]),
    ],
)
def test_chosen_rows_fit_the_filter_at_one_end(only: Filter, expected: list[str]) -> None:
    assert kinds(only) == expected


def test_chosen_rows_are_sorted_and_what_is_cut_is_not_shown() -> None:
    assert kinds(Filter(), "p99") == ["rx", "local"]
    assert kinds(Filter(), "p99", 1) == ["rx"]
    cut = chosen(HopsView(1, "eth0", 2, 2.0, ROWS, 10), HopsOptions(False, None, None, False, limit=1))
    assert cut.not_shown == 13


def test_chosen_of_another_node_says_where_to_ask() -> None:
    with pytest.raises(UsageError, match="--node n2: this is node n1, and the live view has no other"):
        kinds(Filter(node="n2"))
