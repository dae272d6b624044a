# SPDX-License-Identifier: Apache-2.0
"""What to ask for where each node is wanted at other times: few statements, and not many rows too much.

InfluxQL has no OR between times, and a statement for each node and span would be thousands where all agents
of a large cluster were restarted. So nodes share statements; what was not meant is left out of the answers.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from store.combined import NodeSpans
from store.query import Span

MOST: Final = 32
"""Statements of one question to one table."""
_Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Asked:
    """One statement: rows of `span`. Meant are those of each node in its spans, which lie inside."""

    span: Span
    nodes: Mapping[str, Sequence[Span]]

    def meant(
        self, nodes: npt.NDArray[np.generic], times: npt.NDArray[np.int64]
    ) -> Iterator[tuple[str, _Places]]:
        """Nodes that were found, and which of the rows with these nodes and times are theirs and meant."""
        present, numbers = np.unique(nodes.astype(str), return_inverse=True)
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(len(present) + 1))
        for node, (first, last) in zip(present.tolist(), pairwise(bounds.tolist()), strict=True):
            rows = order[first:last]
            is_meant = np.zeros(len(rows), np.bool_)
            for span in self.nodes.get(node, ()):
                is_meant |= (times[rows] >= span.since_ns) & (times[rows] < span.until_ns)
            yield node, rows[is_meant]


def statements(spans: NodeSpans, slack_ns: int, at_most: int = MOST) -> list[Asked]:
    """Statements for all of these.

    Nodes share one where that makes it no longer than `slack_ns`, or than twice the shortest span in it; and,
    where they would be more than `at_most`, wherever the fewest rows are read in vain then.
    """
    members = sorted(
        ((span, node) for node, of_node in spans.items() for span in of_node),
        key=lambda member: (member[0].since_ns, member[0].until_ns, member[1]),
    )
    groups: list[_Group] = []
    for span, node in members:
        group = _Group(span.since_ns, span.until_ns, span.until_ns - span.since_ns, [(node, span)])
        if groups and groups[-1].may_have(group, slack_ns):
            groups[-1].add(group)
        else:
            groups.append(group)
    while len(groups) > at_most:
        groups = _fewer(groups, len(groups) - at_most)
    return [group.asked() for group in groups]


@dataclass(slots=True)
class _Group:
    """Spans of nodes that share a statement."""

    since_ns: int
    until_ns: int
    shortest_ns: int
    members: list[tuple[str, Span]]

    def with_ns(self, other: "_Group") -> int:
        """How long both together are."""
        return max(self.until_ns, other.until_ns) - min(self.since_ns, other.since_ns)

    def may_have(self, other: "_Group", slack_ns: int) -> bool:
        """Whether the other may be in the same statement without need."""
        return self.with_ns(other) <= max(slack_ns, 2 * min(self.shortest_ns, other.shortest_ns))

    def cost_ns(self, other: "_Group") -> int:
        """Time of nodes that is read in vain if both are one."""
        parts = sum((each.until_ns - each.since_ns) * len(each.members) for each in (self, other))
        return self.with_ns(other) * (len(self.members) + len(other.members)) - parts

    def add(self, other: "_Group") -> None:
        """The other's spans too."""
        self.since_ns = min(self.since_ns, other.since_ns)
        self.until_ns = max(self.until_ns, other.until_ns)
        self.shortest_ns = min(self.shortest_ns, other.shortest_ns)
        self.members += other.members

    def asked(self) -> Asked:
        """The statement."""
        nodes: dict[str, list[Span]] = defaultdict(list)
        for node, span in self.members:
            nodes[node].append(span)
        return Asked(Span(self.since_ns, self.until_ns), nodes)


def _fewer(groups: Sequence[_Group], by: int) -> list[_Group]:
    """Up to `by` fewer, at most half: neighbours that cost least are joined."""
    costs = sorted((one.cost_ns(other), at) for at, (one, other) in enumerate(pairwise(groups)))
    chosen: set[int] = set()
    for _, at in costs:
        if len(chosen) < by and not {at - 1, at + 1} & chosen:
            chosen.add(at)
    found: list[_Group] = []
    for at, group in enumerate(groups):
        if at - 1 in chosen:
            found[-1].add(group)
        else:
            found.append(group)
    return found
