# SPDX-License-Identifier: Apache-2.0
"""Records of an agent as counts of contexts."""

import numpy as np

from agent.sockets.recording import Records
from bpf.record import RECORD, ContextKind, Quality
from overhop.sidecar.recorded import counts_of
from overhop.sidecar.tally import Outcome

V4 = bytes(10) + b"\xff\xff" + bytes((10, 1, 0, 1))
V6 = bytes.fromhex("fd" + "00" * 14 + "01")


def records(*made: tuple[bytes, ContextKind, int, Quality]) -> Records:
    array = np.zeros(len(made), RECORD)
    for at, (source, kind, offset, quality) in enumerate(made):
        array[at]["src"] = np.void(source)
        array[at]["encap_context"], array[at]["context_offset"] = kind << 4 | 1, offset
        array[at]["quality"] = quality
    return array


NONE = Quality(0)
SEEN = records(
    (V4, ContextKind.W3C, 45, NONE),
    (V4, ContextKind.W3C, 45, Quality.DNAT),
    (V4, ContextKind.W3C, 45, Quality.RETRANSMIT),
    (V6, ContextKind.B3_SINGLE, 100, NONE),
    (V6, ContextKind.B3_MULTI, 150, NONE),
    (V6, ContextKind.NONE, 0, Quality.WINDOW_EXCEEDED),
    (V6, ContextKind.NONE, 0, Quality.WINDOW_EXCEEDED | Quality.BAD_CONTEXT),
    (V6, ContextKind.NONE, 0, Quality.BAD_CONTEXT),
    (V6, ContextKind.NONE, 0, NONE),
)


def test_counts_of_records_are_by_what_became_of_them() -> None:
    counts = counts_of(SEEN, 200, 4096)
    assert counts.requests == {
        Outcome.CONTEXT: 6,
        Outcome.COPY: 1,
        Outcome.BAD_CONTEXT: 1,
        Outcome.NO_CONTEXT: 1,
    }
    assert counts.kinds == {"w3c": 2, "b3-single": 1, "b3-multi": 1}
    assert (counts.split, counts.offsets) == (2, {45: 2, 100: 1, 150: 1})


def test_counts_of_records_have_windows_of_the_usual_form() -> None:
    assert counts_of(SEEN, 200, 4096).windows == {45 + 69: 2, 100 + 73: 1, 150 + 78: 1}
    assert [counts_of(SEEN, 200, 4096).found(window) for window in (113, 114, 173, 228, 8192)] == [
        0,
        2,
        3,
        4,
        4,
    ]


def test_counts_of_records_need_no_more_than_the_agent_had() -> None:
    assert counts_of(SEEN, 200, 200).windows == {114: 2, 173: 1, 200: 1}


def test_counts_of_records_name_senders_by_address() -> None:
    senders = counts_of(SEEN, 200, 4096).senders
    assert {address: (one.requests, one.found) for address, one in senders.items()} == {
        bytes((10, 1, 0, 1)): (2, 2),
        V6: (4, 1),
    }


def test_counts_of_no_records_are_empty() -> None:
    assert counts_of(records(), 200, 4096).requests == {}
