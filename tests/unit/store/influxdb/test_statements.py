# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from store.influxdb.statements import Asked, statements
from store.query import Span

S = 1_000_000_000


def span(since_s: int, until_s: int) -> Span:
    return Span(since_s * S, until_s * S)


def test_statements_of_one_span_of_all_nodes_are_one() -> None:
    spans = {"n1": [span(0, 3600)], "n2": [span(0, 3600)]}
    assert statements(spans, 0) == [Asked(span(0, 3600), spans)]
    assert statements({}, 0) == []


def test_statements_last_moments_share_one_and_other_gaps_are_apart() -> None:
    found = statements(
        {"n1": [span(50, 60), span(3000, 3600)], "n2": [span(3100, 3600)], "n3": [span(3590, 3600)]}, 700 * S
    )
    assert found == [
        Asked(span(50, 60), {"n1": [span(50, 60)]}),
        Asked(
            span(3000, 3600),
            {"n1": [span(3000, 3600)], "n2": [span(3100, 3600)], "n3": [span(3590, 3600)]},
        ),
    ]


def test_statements_of_a_node_that_is_gone_do_not_lengthen_those_of_others() -> None:
    found = statements(
        {"gone": [span(100, 3600)], "n1": [span(3000, 3600)], "n2": [span(3300, 3600)]}, 60 * S
    )
    assert found == [
        Asked(span(100, 3600), {"gone": [span(100, 3600)]}),
        Asked(span(3000, 3600), {"n1": [span(3000, 3600)], "n2": [span(3300, 3600)]}),
    ]


def test_statements_beyond_the_most_are_joined_where_it_costs_least() -> None:
    spans = {f"n{at}": [span(at, at + 1)] for at in (0, 100, 101, 1000)}
    assert [each.span for each in statements(spans, 0, 4)] == [
        span(0, 1),
        span(100, 102),
        span(1000, 1001),
    ]
    assert [each.span for each in statements(spans, 0, 2)] == [span(0, 102), span(1000, 1001)]
    assert [each.span for each in statements(spans, 0, 1)] == [span(0, 1001)]


def test_statements_of_thousands_of_restarts_are_few() -> None:
    spans = {f"n{at}": [span(7 * at, 7 * at + 20), span(90_000 - at, 90_000)] for at in range(5000)}
    found = statements(spans, 100 * S)
    assert len(found) <= 32
    assert sum(len(of_node) for each in found for of_node in each.nodes.values()) == 10_000


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.lists(st.integers(0, 60), max_size=8, unique=True).map(sorted),
    ),
    st.integers(0, 20),
    st.integers(1, 4),
)
def test_statements_whatever_they_are_give_each_meant_row_once(
    edges: dict[str, list[int]], slack_ns: int, at_most: int
) -> None:
    spans = {
        node: [Span(*pair) for pair in zip(of[0::2], of[1::2], strict=False)] for node, of in edges.items()
    }
    found = statements(spans, slack_ns, at_most)
    assert len(found) <= at_most
    rows: list[tuple[str, int]] = []
    for asked in found:
        times = np.repeat(np.arange(asked.span.since_ns, asked.span.until_ns), 4)
        nodes = np.array(["a", "b", "c", "d"] * (len(times) // 4), object)
        for node, places in asked.meant(nodes, times):
            rows += [(node, time) for time in times[places].tolist()]
    wanted = [
        (node, time)
        for node, of in spans.items()
        for each in of
        for time in range(each.since_ns, each.until_ns)
    ]
    assert sorted(rows) == sorted(wanted)
