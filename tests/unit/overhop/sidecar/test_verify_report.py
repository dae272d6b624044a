# SPDX-License-Identifier: Apache-2.0
"""Shares, smallest windows, what is shown and drawn of them."""

import json
from collections import Counter
from xml.etree import ElementTree

import pytest
from rich.console import Console

from overhop.sidecar.picture import svg, x_of
from overhop.sidecar.report import Asked, Report, median_of, report_of, smallest_window
from overhop.sidecar.tally import Counts, Outcome, Sender
from overhop.sidecar.view import as_json, bar, binned, headlines, percent_text, render

ONE, TWO = bytes((10, 1, 0, 1)), bytes((10, 1, 0, 2))


def counts(**windows: int) -> Counts:
    """`w105=3`: three contexts that are found from a window of 105 on."""
    needed = Counter({int(name[1:]): count for name, count in windows.items()})
    return Counts(requests=Counter({Outcome.CONTEXT: needed.total()}), windows=needed)


def report(window: int = 200, threshold: float = 1.0) -> Report:
    made = counts(w105=3, w430=1)
    made.offsets, made.kinds = Counter({36: 3, 361: 1}), Counter({"w3c": 4})
    made.senders = {
        ONE: Sender(requests=3, relocated=3, found=3, offsets=Counter({36: 3})),
        TWO: Sender(1, 0, 0, Counter({361: 1}), Counter({"user-agent": 1})),
    }
    return report_of(
        made, Asked("x.pcap", window, threshold), lambda address: {TWO: "shop/cart"}.get(address, "")
    )


def shown(made: Report) -> str:
    console = Console(width=100, force_terminal=False)
    with console.capture() as captured:
        console.print(render(made))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


@pytest.mark.parametrize(
    ("percent", "window"), [(50, 105), (75, 105), (76, 430), (90, 430), (99, 430), (100, 430)]
)
def test_smallest_window_finds_at_least_so_many(percent: int, window: int) -> None:
    assert smallest_window(counts(w105=3, w430=1), percent) == window


def test_smallest_window_is_none_where_no_window_is_large_enough() -> None:
    made = counts(w105=9, w8193=1)
    assert [smallest_window(made, percent) for percent in (90, 100)] == [105, None]


def test_smallest_window_is_none_where_a_context_is_behind_the_first_packet() -> None:
    made = counts(w105=9)
    made.requests[Outcome.CONTEXT], made.split = 10, 1
    assert [smallest_window(made, percent) for percent in (90, 99)] == [105, None]


@pytest.mark.parametrize(
    ("window", "threshold", "share", "is_enough"),
    [(200, 1.0, 0.75, False), (200, 0.75, 0.75, True), (430, 1.0, 1.0, True), (64, 0.0, 0.0, True)],
)
def test_report_is_enough_from_the_threshold_on(
    window: int, threshold: float, share: float, is_enough: bool
) -> None:
    made = report(window, threshold)
    assert (made.share, made.is_enough) == (share, is_enough)


def test_report_of_nothing_is_not_enough_whatever_the_threshold() -> None:
    made = report_of(Counts(), Asked("x.pcap", 200, 0.0), str)
    assert (made.share, made.is_enough) == (None, False)
    assert headlines(made) == ["no request with a context was seen: x.pcap"]
    assert "no context" in svg(made)


def test_report_windows_have_the_one_asked_for_in_its_place() -> None:
    made = {each.window: each.found for each in report(105).windows}
    assert made[105] == 3
    assert list(made) == [64, 100, 105, 128, 200, 256, 400, 512, 768, 1024, 1500, 2048, 4096, 8192]


def test_median_of_counts_is_the_lower_one() -> None:
    assert median_of(Counter({10: 2, 20: 1, 30: 1})) == 10
    assert median_of(Counter({10: 1, 20: 1, 30: 1})) == 20
    assert median_of(Counter()) is None


def test_render_shows_verdict_distribution_windows_and_who_is_not_relocated() -> None:
    lines = shown(report()).splitlines()
    assert lines[0] == "75 % of contexts are found within 200 bytes: too few, 100 % is wanted"
    assert lines[1] == "x.pcap: 4 requests with a context (w3c 4)"
    assert lines[4] == "32 to 47           3   75 %  " + "█" * 40
    assert lines[10] == "256 to 383         1   25 %  " + "█" * 13 + "▍"
    assert "   200      3   75 %  " + "█" * 30 in lines
    assert "   512      4  100 %  " + "█" * 40 in lines
    assert "smallest window for 50 %: 105, 90 %: 430, 99 %: 430, 100 %: 430" in lines
    assert lines[-3] == "not relocated: 1 of 2 senders"
    assert lines[-1].split() == ["10.1.0.2", "shop/cart", "1", "0", "%", "0", "%", "361", "user-agent"]


def test_render_says_that_all_are_relocated() -> None:
    made = counts(w105=3)
    made.offsets, made.senders = Counter({36: 3}), {ONE: Sender(3, 3, 3, Counter({36: 3}))}
    assert "relocated: 1 sender" in shown(report_of(made, Asked("x", 200, 1.0), lambda _: "")).splitlines()


def test_render_escapes_what_comes_from_outside() -> None:
    made = report_of(Counts(), Asked("a\x1b[31m", 200, 1.0, ("b\x07",)), str)
    assert shown(made).splitlines()[0] == "no request with a context was seen: a\\x1b[31m"
    assert "note: b\\x07" in shown(made)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.00001, "0.1 %"), (0.5, "50 %"), (0.9999, "99.9 %"), (1.0, "100 %"), (0.1234, "12.3 %")],
)
def test_percent_text_rounds_neither_to_all_nor_to_nothing(share: float, text: str) -> None:
    assert percent_text(share) == text


def test_bar_of_little_is_seen_and_of_nothing_is_not() -> None:
    assert (bar(0.0), bar(0.000001), bar(1.0)) == ("", "▏", "█" * 40)


def test_binned_offsets_are_from_the_first_to_the_last_that_has_some() -> None:
    assert binned([(45, 2), (47, 1), (70, 1), (9000, 5)]) == [
        (32, 3), (48, 0), (64, 1), (96, 0), (128, 0), (192, 0), (256, 0), (384, 0), (512, 0),
        (768, 0), (1024, 0), (1536, 0), (2048, 0), (3072, 0), (4096, 0), (6144, 0), (8192, 5),
    ]  # fmt: skip


def test_as_json_has_everything_as_plain_data() -> None:
    made = json.loads(json.dumps(as_json(report())))
    assert (made["source"], made["window"], made["threshold"], made["is_enough"]) == (
        "x.pcap",
        200,
        1.0,
        False,
    )
    assert (made["with_context"], made["found"], made["share"], made["split"]) == (4, 3, 0.75, 0)
    assert made["smallest"] == {"50": 105, "90": 430, "99": 430, "100": 430}
    assert made["offsets"] == [[36, 3], [361, 1]]
    assert made["needed"] == [[105, 3], [430, 1]]
    assert made["windows"][3] == {"window": 200, "found": 3, "share": 0.75}
    assert made["senders"][0] == {
        "address": "10.1.0.2", "name": "shop/cart", "requests": 1, "relocated": 0, "found": 0,
        "offset_min": 361, "offset_median": 361, "offset_max": 361,
        "before": ["user-agent"], "is_relocated": False,
    }  # fmt: skip


def test_svg_is_one_document_with_curve_mark_and_bars() -> None:
    root = ElementTree.fromstring(svg(report()))
    name = "{http://www.w3.org/2000/svg}"
    (path,) = root.iter(f"{name}path")
    assert path.attrib["d"] == f"M{x_of(16)} 330.0H{x_of(105)}V160.5H{x_of(430)}V104.0H{x_of(16384)}"
    texts = [each.text for each in root.iter(f"{name}text")]
    assert "window 200: 75 %" in texts
    assert len(list(root.iter(f"{name}rect"))) == 1 + 7


def test_svg_escapes_what_comes_from_outside() -> None:
    made = svg(report_of(Counts(), Asked("<script>&\x1b", 200, 1.0), str))
    assert "&lt;script&gt;&amp;\\x1b" in made
    ElementTree.fromstring(made)


def test_x_of_doubles_are_at_even_distances() -> None:
    assert x_of(64) - x_of(32) == pytest.approx(x_of(8192) - x_of(4096), abs=0.2)
    assert (x_of(0), x_of(1 << 20)) == (x_of(16), x_of(16384))
