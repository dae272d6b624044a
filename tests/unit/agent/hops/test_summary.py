# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address, IPv6Address

import numpy as np

from agent.hops.summary import Distribution, by_kind
from bpf.record import RECORD, ContextKind, Kind, Quality, address_text


def packed(address: str) -> bytes:
    if ":" in address:
        return IPv6Address(address).packed
    return bytes(10) + b"\xff\xff" + IPv4Address(address).packed


def hops(
    kind: Kind,
    latencies_us: list[float],
    *,
    first_ifindex: int = 1,
    second_ifindex: int = 2,
    src: str = "10.0.0.1",
    dst: str = "10.0.1.1",
    quality: int = 0,
    segments: int = 1,
    context: ContextKind = ContextKind.W3C,
) -> np.ndarray:
    rows = np.zeros(len(latencies_us), RECORD)
    rows["kind_message"] = kind
    rows["latency_ns"] = [round(latency * 1000) for latency in latencies_us]
    rows["first_ifindex"] = first_ifindex
    rows["second_ifindex"] = second_ifindex
    rows["src"] = np.void(packed(src))
    rows["dst"] = np.void(packed(dst))
    rows["quality"] = quality
    rows["segments"] = segments
    rows["encap_context"] = context << 4
    return rows


def test_by_kind_of_no_records_is_empty() -> None:
    assert by_kind(np.empty(0, RECORD)) == {}


def test_by_kind_of_one_hop_has_it_as_every_quantile() -> None:
    assert by_kind(hops(Kind.TX, [12.345])) == {"tx": Distribution(1, 0, 12.345, 12.345, 12.345, {})}


def test_by_kind_quantiles_are_nearest_rank() -> None:
    latencies = [float(n) for n in range(200, 0, -1)]
    found = by_kind(hops(Kind.RX, latencies))["rx"]
    assert (found.count, found.p50_us, found.p99_us, found.max_us) == (200, 100.0, 198.0, 200.0)


def test_by_kind_separates_kinds_in_a_fixed_order() -> None:
    records = np.concatenate(
        [
            hops(Kind.FORWARD, [9.0]),
            hops(Kind.TX, [5.0, 3.0, 4.0]),
            hops(Kind.LOCAL, [7.0]),
            hops(Kind.RX, [1.0, 2.0]),
        ]
    )
    found = by_kind(records)
    assert list(found) == ["rx", "tx", "local", "forward"]
    assert [(hop.count, hop.p50_us, hop.max_us) for hop in found.values()] == [
        (2, 1.0, 2.0),
        (3, 4.0, 5.0),
        (1, 7.0, 7.0),
        (1, 9.0, 9.0),
    ]


def test_by_kind_ignores_the_message_in_the_high_nibble() -> None:
    records = hops(Kind.RX, [1.0])
    records["kind_message"] |= 0x10
    assert list(by_kind(records)) == ["rx"]


def test_by_kind_keeps_retransmitted_hops_out_of_the_latencies() -> None:
    records = np.concatenate(
        [hops(Kind.RX, [10.0, 20.0]), hops(Kind.RX, [200_000.0], quality=Quality.RETRANSMIT)]
    )
    assert by_kind(records)["rx"] == Distribution(2, 1, 10.0, 20.0, 20.0, {"retransmit": 1})


def test_by_kind_of_retransmitted_hops_only_has_no_latency() -> None:
    found = by_kind(hops(Kind.RX, [5.0], quality=Quality.RETRANSMIT))["rx"]
    assert (found.count, found.retransmitted, found.p50_us, found.p99_us, found.max_us) == (
        0,
        1,
        None,
        None,
        None,
    )


def test_by_kind_counts_every_mark_of_quality() -> None:
    records = np.concatenate(
        [
            hops(Kind.TX, [1.0], quality=Quality.DNAT | Quality.SNAT),
            hops(Kind.TX, [1.0], quality=Quality.WINDOW_EXCEEDED, context=ContextKind.NONE),
            hops(Kind.TX, [1.0], quality=Quality.BAD_CONTEXT, context=ContextKind.NONE),
            hops(Kind.TX, [1.0], quality=Quality.DNAT, segments=3),
        ]
    )
    assert by_kind(records)["tx"].quality == {
        "window_exceeded": 1,
        "bad_context": 1,
        "dnat": 2,
        "snat": 1,
        "merged": 1,
        "no_context": 2,
    }


def test_address_text_shows_ipv4_plainly() -> None:
    assert address_text(packed("192.168.0.7")) == "192.168.0.7"
    assert address_text(packed("fd00::7")) == "fd00::7"
    assert address_text(bytes(16)) == "::"
