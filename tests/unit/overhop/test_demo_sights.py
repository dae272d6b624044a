# SPDX-License-Identifier: Apache-2.0
import numpy as np

from bpf.record import ContextKind, Encap, Kind, Quality
from overhop.demo.sights import Sight, sights
from tests.unit.demo_records import TRACE, node, record


def at(row: np.ndarray, offset: int, encap: Encap = Encap.NONE) -> np.ndarray:
    row["context_offset"] = offset
    row["encap_context"] += np.uint8(encap)
    return row


def test_sights_are_one_for_each_stop_in_the_order_of_the_way() -> None:
    n1 = node(
        "n1",
        at(record(Kind.TX, TRACE, context=ContextKind.W3C), 329, Encap.VXLAN),
        at(record(Kind.TX, TRACE, context=ContextKind.W3C), 341, Encap.VXLAN),
        at(record(Kind.RX, TRACE, context=ContextKind.W3C), 77),
    )
    n2 = node("n2", at(record(Kind.FORWARD, TRACE, context=ContextKind.W3C), 5))
    assert sights([n1, n2], [("n1", "rx"), ("n1", "tx"), ("n2", "rx"), ("n1", "tx")]) == (
        Sight("n1", "rx", 1, 1, 0, 77, 77, {"none": 1}),
        Sight("n1", "tx", 2, 2, 0, 329, 341, {"vxlan": 2}),
        Sight("n2", "forward", 1, 1, 0, 5, 5, {"none": 1}),
    )


def test_sights_count_contexts_that_lie_behind_the_window() -> None:
    missed = record(Kind.TX)
    missed["quality"] = Quality.WINDOW_EXCEEDED
    without = record(Kind.TX)
    assert sights([node("n1", missed, without)], []) == (Sight("n1", "tx", 2, 0, 1, None, None, {"none": 2}),)
