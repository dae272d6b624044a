# SPDX-License-Identifier: Apache-2.0
"""The packets and checks of `./dev bench datapath`."""

import pytest

from bench import datapath_packets as packets
from bench.datapath_rig import BenchError, Case, check_counters

PAYLOAD_AT = 14 + 20 + 20
PAIR = Case("pair", b"", ("oh_bench_pair",), 450, repeat=3, counted=("first", "records"))


@pytest.mark.parametrize("offset", [45, 400, 700, 1400, 3000])
def test_request_has_its_context_at_the_offset(offset: int) -> None:
    payload = packets.request(offset)[PAYLOAD_AT:]
    assert payload.index(b"\r\ntraceparent: ") + 2 == offset
    assert payload.startswith(b"GET /")
    assert payload.endswith(b"\r\n\r\n")
    assert len(payload) >= 700


def test_request_without_context_has_the_size() -> None:
    payload = packets.request_without_context(1400)[PAYLOAD_AT:]
    assert len(payload) == 1400
    assert payload.index(b"\r\n\r\n") == 1396
    assert b"traceparent" not in payload


def test_header_block_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="header block of 20 bytes"):
        packets.header_block(20)


def test_in_vxlan_adds_50_bytes_and_their_length() -> None:
    packet = packets.in_vxlan(b"\0" * 60)
    assert len(packet) == 110
    assert packet[16:18] == (96).to_bytes(2, "big")


def test_counters_of_a_pair_that_was_not_recorded_raise() -> None:
    with pytest.raises(BenchError, match="records 2, not 3, ring_full 1, not 0"):
        check_counters(PAIR, {"first": 3, "records": 2, "ring_full": 1, "overwritten": 5})


def test_counters_of_a_pair_taken_each_time_pass() -> None:
    check_counters(PAIR, {"first": 3, "records": 3, "ring_full": 0, "overwritten": 5})
