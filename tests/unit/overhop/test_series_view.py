# SPDX-License-Identifier: Apache-2.0
import io
import json

from rich.console import Console

from insight.series import Found, Series
from insight.trace import End
from overhop.hops_view import Sort
from overhop.series_view import as_json, headlines, render, stored_view
from store.query import Span

T_NS = 1_700_000_000_000_000_000
SPAN = Span(T_NS - 3_600_000_000_000, T_NS)
FRONT, CART, OUTSIDE = End("shop", "", "front"), End("shop", "", "cart"), End("", "", "external")
BUSY = Series("n1", "tx", FRONT, CART, "shop/cart", 7000, 200, 0, 3_200.4, 5_600.0, 11_000, per_s=120.0)
SLOW = Series("n2", "rx", OUTSIDE, FRONT, "", 36, 0, 4, 31_000.0, 990_000.0, 1_450_000, per_s=0.6)
FOUND = Found((BUSY, SLOW))


def lines_of(
    found: Found,
    width: int,
    sort: Sort = "count",
    limit: int | None = None,
    min_latency_us: float | None = None,
    only: tuple[str, ...] = (),
) -> list[str]:
    out = io.StringIO()
    view = stored_view("/s", SPAN, found, sort=sort, limit=limit, min_latency_us=min_latency_us, only=only)
    Console(file=out, width=width, markup=True).print(render(view, width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_render_60_columns() -> None:
    assert lines_of(FOUND, 60) == [
        "2023-11-14T21:13:20Z to 2023-11-14T22:13:20Z",
        "7,236 hops in 2 series · quantiles ±1 %",
        "kind from → to               hops p50 µs p99 µs",
        "tx   shop/front → shop/cart 7,200   3.20   5.60",
        "rx   external → shop/front     36   31.0    990",
    ]


def test_render_wide_has_rates() -> None:
    assert lines_of(FOUND, 120)[2:] == [
        "kind node from       to         service    hops   /s p50 µs p99 µs max µs quality",
        "tx   n1   shop/front shop/cart  shop/cart 7,200  120   3.20   5.60   11.0 retransmit 200",
        "rx   n2   external   shop/front              36 0.60   31.0    990  1,450 no_context 4",
    ]


def test_render_filter_and_limit_are_said() -> None:
    lines = lines_of(FOUND, 80, only=("namespace shop",), sort="p99", limit=1)
    assert lines[0] == "2023-11-14T21:13:20Z to 2023-11-14T22:13:20Z · namespace shop"
    assert lines[3].startswith("rx   external")
    assert lines[4:] == ["and 1 more series"]


def test_render_samples_say_that_they_are_and_what_was_kept() -> None:
    slow = Series(
        "n2", "rx", OUTSIDE, FRONT, "", 3, 0, 0, 600_000.0, 990_000.0, 990_000, kept_shift=6, tail=2
    )
    lines = lines_of(Found((slow,), is_cut=True), 120, min_latency_us=500.0)
    assert lines[1] == "3 samples of 500 µs or more · kept: share of traces"
    assert lines[2].split()[-2:] == ["kept", "quality"]
    assert lines[3].split()[-3:] == ["1/64", "tail", "2"]
    assert "/s" not in lines[2].split()
    assert lines[4] == "there are more samples: these are the slowest"


def test_render_nothing_found_says_where() -> None:
    assert lines_of(Found(()), 60) == [
        "2023-11-14T21:13:20Z to 2023-11-14T22:13:20Z",
        "no hop in that time in the store /s",
    ]
    view = stored_view("/s", SPAN, Found(()), sort="count", limit=None, min_latency_us=4e6)
    assert headlines(view)[1] == "no sample of 4,000,000 µs or more in that time in the store /s"


def test_as_json_has_every_series_and_what_numbers_are() -> None:
    view = stored_view("/s", SPAN, FOUND, sort="max", limit=None)
    data = json.loads(json.dumps(as_json(view)))
    assert {name: value for name, value in data.items() if name != "rows"} == {
        "store": "/s",
        "since": "2023-11-14T21:13:20Z",
        "until": "2023-11-14T22:13:20Z",
        "hops": 7236,
        "series": 2,
        "min_latency_us": None,
        "samples_cut": False,
        "ahead_s": {},
        "quantile_error": 0.01,
    }
    assert data["rows"][1] == {
        "kind": "tx",
        "source": "shop/front",
        "destination": "shop/cart",
        "count": 7200,
        "p50_us": 3.2,
        "p99_us": 5.6,
        "max_us": 11.0,
        "quality": {"retransmit": 200},
        "node": "n1",
        "service": "shop/cart",
        "per_s": 120.0,
        "kept": "",
        "source_namespace": "shop",
        "source_workload": "front",
        "destination_namespace": "shop",
        "destination_workload": "cart",
    }
