# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest

from agent.hops import summary
from agent.hops.summary import Distribution, Endpoint, Series, by_kind, by_series
from agent.naming.names import Row
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


def by_vport(records: np.ndarray) -> list[Row]:
    """Vports have names, addresses none; a translated destination is called by its address of before."""
    return [
        (
            Kind(int(one["kind_message"])).label,
            "request",
            *_end(int(one["first_ifindex"]), int(one["kind_message"]) in (Kind.TX, Kind.LOCAL)),
            *_end(int(one["second_ifindex"]), int(one["kind_message"]) in (Kind.RX, Kind.LOCAL)),
            address_text(one["dst_before_nat"].tobytes()) if int(one["quality"]) & Quality.DNAT else "",
            "none",
            "w3c",
        )
        for one in records
    ]


def _end(ifindex: int, is_vport: bool) -> tuple[str, str, str]:
    return ("shop", f"pod-{ifindex}", "web") if is_vport else ("", "", "unknown")


def pod(ifindex: int) -> Endpoint:
    return Endpoint("shop", f"pod-{ifindex}", "web")


def unknown(address: str) -> Endpoint:
    return Endpoint("", "", "unknown", address)


def test_by_kind_of_no_records_is_empty() -> None:
    assert by_kind(np.empty(0, RECORD)) == {}
    assert by_series(np.empty(0, RECORD), by_vport) == []


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


def test_by_series_uses_vports_where_a_hop_has_them_and_addresses_elsewhere() -> None:
    records = np.concatenate(
        [
            hops(Kind.TX, [1.0] * 4, first_ifindex=7, second_ifindex=2, src="10.0.0.1", dst="10.0.1.1"),
            hops(Kind.RX, [1.0] * 3, first_ifindex=2, second_ifindex=9, src="10.0.0.1", dst="10.0.1.1"),
            hops(Kind.LOCAL, [1.0] * 2, first_ifindex=7, second_ifindex=9),
            hops(Kind.FORWARD, [1.0], src="fd00::1", dst="fd00::2"),
        ]
    )
    found = by_series(records, by_vport)
    assert [(one.kind, one.source, one.destination, one.hops.count) for one in found] == [
        ("tx", pod(7), unknown("10.0.1.1"), 4),
        ("rx", unknown("10.0.0.1"), pod(9), 3),
        ("local", pod(7), pod(9), 2),
        ("forward", unknown("fd00::1"), unknown("fd00::2"), 1),
    ]
    assert [str(end) for end in (found[0].source, found[0].destination)] == ["shop/pod-7", "10.0.1.1"]


def test_by_series_does_not_split_by_what_is_no_part_of_the_series() -> None:
    records = np.concatenate(
        [
            hops(Kind.TX, [1.0], first_ifindex=7, second_ifindex=2, src="10.0.0.1"),
            hops(Kind.TX, [3.0], first_ifindex=7, second_ifindex=3, src="10.0.0.2"),
        ]
    )
    assert by_series(records, by_vport) == [
        Series("tx", pod(7), unknown("10.0.1.1"), "", Distribution(2, 0, 1.0, 3.0, 3.0, {}))
    ]


def test_by_series_splits_by_service_and_merges_what_has_the_same_name() -> None:
    direct, called = hops(Kind.TX, [1.0]), hops(Kind.TX, [2.0, 3.0], quality=Quality.DNAT)
    called["dst_before_nat"] = np.void(packed("10.96.0.1"))
    found = by_series(np.concatenate([direct, called]), by_vport)
    assert [(one.service, one.hops.count) for one in found] == [("10.96.0.1", 2), ("", 1)]

    def everybody_outside(records: np.ndarray) -> list[Row]:
        return [("rx", "request", "", "", "external", "shop", "p", "web", "", "none", "w3c")] * len(records)

    clients = np.concatenate([hops(Kind.RX, [float(n)], src=f"192.0.2.{n}") for n in range(1, 6)])
    (series,) = by_series(clients, everybody_outside)
    assert (series.source, series.hops.count, series.hops.p50_us) == (Endpoint("", "", "external"), 5, 3.0)


def test_by_series_with_many_series_keeps_each_apart() -> None:
    records = np.concatenate(
        [
            hops(Kind.RX, [float(n)], src=f"10.1.{n // 250}.{n % 250}", second_ifindex=n % 7)
            for n in range(1000)
        ]
    )
    shuffled = records[np.random.default_rng(4).permutation(1000)]
    found = {
        (one.source.address, one.destination.pod): one.hops.max_us for one in by_series(shuffled, by_vport)
    }
    assert found == {(f"10.1.{n // 250}.{n % 250}", f"pod-{n % 7}"): float(n) for n in range(1000)}


def test_by_series_with_colliding_hashes_is_still_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "_MIX", np.uint64(0))
    records = np.concatenate(
        [hops(Kind.RX, [1.0, 2.0], src="10.0.0.1"), hops(Kind.RX, [5.0], src="10.0.0.2")]
    )
    assert [(one.source.address, one.hops.count) for one in by_series(records, by_vport)] == [
        ("10.0.0.1", 2),
        ("10.0.0.2", 1),
    ]


def test_address_text_shows_ipv4_plainly() -> None:
    assert address_text(packed("192.168.0.7")) == "192.168.0.7"
    assert address_text(packed("fd00::7")) == "fd00::7"
    assert address_text(bytes(16)) == "::"
