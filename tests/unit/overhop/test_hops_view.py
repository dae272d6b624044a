# SPDX-License-Identifier: Apache-2.0
import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from overhop.hops_view import HopRow, HopsView, Sort, arranged, headline, render

ROWS = (
    HopRow("tx", "productpage-v1-6b746f74dc-9rlmh", "reviews-v1-7d9c8b6f5d-4xk2p", 2400, 12.0, 40.0, 99.9),
    HopRow("rx", "external", "reviews-v1-7d9c8b6f5d-4xk2p", 1200, 31.4, 88.25, 1450.0, {"retransmit": 3}),
)


def text_of(view: HopsView, width: int, most_rows: int | None = None) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, markup=True).print(render(view, width, most_rows))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def view_of(rows: tuple[HopRow, ...], lost: dict[str, int] | None = None) -> HopsView:
    return HopsView(pid=812, nic="eth0", vports=4, interval_s=2.0, rows=rows, lost=lost or {})


def test_render_60_columns_fits_and_keeps_both_names() -> None:
    assert text_of(view_of(ROWS), 60) == [
        "agent 812 · eth0 and 4 vports · 1,800 hops/s · last 2 s",
        "kind from → to                            hops p50 µs p99 µs",
        "tx   product…dc-9rlmh → reviews…5d-4xk2p 2,400   12.0   40.0",
        "rx   external → reviews-v1-…8b6f5d-4xk2p 1,200   31.4   88.2",
    ]


def test_render_wide_shows_maximum_and_quality() -> None:
    lines = text_of(view_of(ROWS), 140)
    assert lines[1].split() == [
        "kind",
        "from",
        "to",
        "hops",
        "p50",
        "µs",
        "p99",
        "µs",
        "max",
        "µs",
        "quality",
    ]
    assert lines[3].split() == [
        "rx", "external", "reviews-v1-7d9c8b6f5d-4xk2p", "1,200", "31.4", "88.2", "1,450", "retransmit", "3",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_render_any_width_no_line_is_wider(width: int) -> None:
    hostile = HopRow("forward", "[red]x[/red]" * 20, "y" * 300, 10**9, 1e6, 2e6, 2e6, {"q" * 200: 5})
    assert max(len(line) for line in text_of(view_of((*ROWS, hostile)), width)) <= width


def test_render_hostile_name_is_shown_as_it_is_without_control_characters() -> None:
    lines = text_of(view_of((HopRow("rx", "[bold]a", "b\x1b[2J\n", 1, None, None, None),)), 60)
    assert lines[2].startswith("rx   [bold]a → b\\x1b[2J\\n")


def test_render_no_rows_says_so() -> None:
    assert text_of(view_of(()), 60)[1:] == ["no hop in this interval"]


def test_render_more_series_than_room_are_counted() -> None:
    assert text_of(view_of(ROWS), 60, most_rows=1)[-1] == "and 1 more series"


def test_render_lost_hops_are_named() -> None:
    assert text_of(view_of((), lost={"ring_full": 1234}), 60)[-1] == "lost since start: ring_full 1,234"


def test_render_into_a_pipe_has_no_escape_sequences() -> None:
    assert not any("\x1b" in line for line in text_of(view_of(ROWS, lost={"ring_full": 1}), 60))


FULL = HopRow(
    "rx", "shop/front", "shop/cart", 10, 1.0, 2.0, 3.0, {"no_context": 4}, "n1", "shop/cart", 0.25, "1/64"
)


def test_render_wide_shows_node_service_rate_and_kept_where_rows_have_them() -> None:
    header, line = text_of(view_of((FULL,)), 130)[1:]
    assert header == ("kind node from       to        service   hops   /s p50 µs p99 µs max µs kept quality")
    assert line == (
        "rx   n1   shop/front shop/cart shop/cart   10 0.25   1.00   2.00   3.00 1/64 no_context 4"
    )


def test_render_wide_without_room_leaves_the_least_important_column_out() -> None:
    long = HopRow("rx", "a" * 60, "b" * 60, 1, 1.0, 2.0, 3.0, {"x": 1}, "n" * 20, "s" * 40, 1.0)
    header, line = text_of(view_of((long,)), 100)[1:]
    assert header.split() == [
        "kind",
        "node",
        "from",
        "to",
        "hops",
        "/s",
        "p50",
        "µs",
        "p99",
        "µs",
        "max",
        "µs",
    ]
    assert "a" * 9 + "…" in line
    assert "b" * 9 + "…" in line


def test_render_store_that_takes_nothing_is_said() -> None:
    view = HopsView(1, "eth0", 2, 2.0, node="n1", store_problem="/var/lib/x: no space left, 12 rows dropped")
    assert text_of(view, 80) == [
        "agent 1 on n1 · eth0 and 2 vports · 0 hops/s · last 2 s",
        "store: /var/lib/x: no space left, 12 rows dropped",
        "no hop in this interval",
    ]


@pytest.mark.parametrize(
    ("interval_s", "expected"),
    [(0.101, "last 0.1 s"), (0.506, "last 0.51 s"), (2.004, "last 2 s"), (60.0, "last 60 s")],
)
def test_headline_says_the_interval(interval_s: float, expected: str) -> None:
    assert headline(HopsView(1, "eth0", 2, interval_s)).endswith(expected)


def test_render_characters_of_two_columns_do_not_break_the_table() -> None:
    wide = HopRow("rx", "測" * 40, "名" * 40, 1, 1.0, 2.0, 3.0)
    for width in (60, 100, 140):
        lines = text_of(view_of((wide, *ROWS)), width)
        assert len(lines) == 5
        assert max(cell_len(line) for line in lines) <= width


@pytest.mark.parametrize(
    ("sort", "expected"), [("count", ["b", "c", "a"]), ("p99", ["c", "a", "b"]), ("max", ["a", "c", "b"])]
)
def test_arranged_sorts_by_what_is_asked_for(sort: Sort, expected: list[str]) -> None:
    rows = [
        HopRow("rx", "a", "", 1, 1.0, 5.0, 9.0),
        HopRow("rx", "b", "", 3, None, None, None),
        HopRow("rx", "c", "", 2, 1.0, 6.0, 7.0),
    ]
    assert [row.source for row in arranged(rows, sort, None)] == expected
    assert [row.source for row in arranged(rows, sort, 1)] == expected[:1]
