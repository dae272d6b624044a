# SPDX-License-Identifier: Apache-2.0
"""What was seen at each stop of the way: how many hops, and where in them the context began. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bpf.record import ContextKind, Encap, Kind, Quality
from overhop.demo.found import Stop
from overhop.trace import NodeRecords, Records


@dataclass(frozen=True, slots=True)
class Sight:
    """The hops of one kind on one node."""

    node: str
    kind: str
    hops: int
    with_context: int
    window_exceeded: int
    """Of those without: neither the context nor the end of the header was within the window."""
    first_offset_bytes: int | None
    last_offset_bytes: int | None
    """Where in the requests the context began, the earliest and the latest; None if none was found."""
    encaps: Mapping[str, int]
    """How the packet was encapsulated at the NIC, and how many hops so."""


def sights(nodes: Sequence[NodeRecords], way: Sequence[Stop]) -> tuple[Sight, ...]:
    """One for each node and kind that occurs; those of the way come first, in its order."""
    found = {}
    for node in nodes:
        kinds = node.records["kind_message"] & 0x0F
        for kind in Kind:
            chosen = node.records[kinds == kind]
            if len(chosen):
                found[node.node, kind.label] = _sight(node.node, kind, chosen)
    ordered = [stop for stop in dict.fromkeys(way) if stop in found]
    return tuple(found[stop] for stop in [*ordered, *(stop for stop in found if stop not in ordered)])


def _sight(node: str, kind: Kind, records: Records) -> Sight:
    having = records["encap_context"] >> 4 != ContextKind.NONE
    offsets = records["context_offset"][having]
    exceeded = (records["quality"] & Quality.WINDOW_EXCEEDED) != 0
    return Sight(
        node=node,
        kind=kind.label,
        hops=len(records),
        with_context=int(having.sum()),
        window_exceeded=int((exceeded & ~having).sum()),
        first_offset_bytes=int(offsets.min()) if len(offsets) else None,
        last_offset_bytes=int(offsets.max()) if len(offsets) else None,
        encaps=_counted(records["encap_context"] & 0x0F),
    )


def _counted(encaps: npt.NDArray[np.integer[Any]]) -> dict[str, int]:  # Any: the width does not matter
    numbers, counts = np.unique(encaps, return_counts=True)
    return {
        Encap(number).label: count for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    }
