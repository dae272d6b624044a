# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from agent.hops import series
from agent.hops.records import Records
from agent.hops.series import Endpoint, Series, SeriesTally
from agent.hops.summary import Distribution
from agent.naming.names import Row
from bpf.record import RECORD, Kind, Quality, address_text
from tests.unit.agent.hops.test_summary import hops, packed


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


def by_series(records: Records, name: Callable[[Records], Sequence[Row]]) -> list[Series]:
    tally = SeriesTally(name, max_hops=10_000, max_ends=10_000)
    tally.add(records)
    return tally.series()


def test_tally_without_hops_is_empty() -> None:
    assert by_series(np.empty(0, RECORD), by_vport) == []


def test_tally_uses_vports_where_a_hop_has_them_and_addresses_elsewhere() -> None:
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


def test_tally_does_not_split_by_what_is_no_part_of_the_series() -> None:
    records = np.concatenate(
        [
            hops(Kind.TX, [1.0], first_ifindex=7, second_ifindex=2, src="10.0.0.1"),
            hops(Kind.TX, [3.0], first_ifindex=7, second_ifindex=3, src="10.0.0.2"),
        ]
    )
    assert by_series(records, by_vport) == [
        Series("tx", pod(7), unknown("10.0.1.1"), "", Distribution(2, 0, 1.0, 3.0, 3.0, {}))
    ]


def test_tally_splits_by_service_and_merges_what_has_the_same_name() -> None:
    direct, called = hops(Kind.TX, [1.0]), hops(Kind.TX, [2.0, 3.0], quality=Quality.DNAT)
    called["dst_before_nat"] = np.void(packed("10.96.0.1"))
    found = by_series(np.concatenate([direct, called]), by_vport)
    assert [(one.service, one.hops.count) for one in found] == [("10.96.0.1", 2), ("", 1)]

    def everybody_outside(records: np.ndarray) -> list[Row]:
        return [("rx", "request", "", "", "external", "shop", "p", "web", "", "none", "w3c")] * len(records)

    clients = np.concatenate([hops(Kind.RX, [float(n)], src=f"192.0.2.{n}") for n in range(1, 6)])
    (series,) = by_series(clients, everybody_outside)
    assert (series.source, series.hops.count, series.hops.p50_us) == (Endpoint("", "", "external"), 5, 3.0)


def test_tally_with_many_series_keeps_each_apart() -> None:
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


def test_tally_with_colliding_hashes_is_still_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "_MIX", np.uint64(0))
    records = np.concatenate(
        [hops(Kind.RX, [1.0, 2.0], src="10.0.0.1"), hops(Kind.RX, [5.0], src="10.0.0.2")]
    )
    assert [(one.source.address, one.hops.count) for one in by_series(records, by_vport)] == [
        ("10.0.0.1", 2),
        ("10.0.0.2", 1),
    ]


def test_tally_of_many_batches_is_that_of_one() -> None:
    tally = SeriesTally(by_vport, max_hops=100_000, max_ends=100)
    for number in range(700):
        tally.add(hops(Kind.RX, [1.0, 2.0, 3.0 + number], src=f"10.0.0.{number % 7}"))
        tally.add(hops(Kind.LOCAL, [5.0], quality=Quality.RETRANSMIT))
    found = {str(one.source): one.hops for one in tally.series()}
    assert len(found) == 8
    assert found["10.0.0.6"] == Distribution(300, 0, 2.0, 681.0, 702.0, {})
    assert found["shop/pod-1"] == Distribution(0, 700, None, None, None, {"retransmit": 700})
    assert tally.left_out == 0


def test_tally_asks_for_names_once_per_pair_of_ends() -> None:
    asked: list[int] = []

    def name(records: Records) -> list[Row]:
        asked.append(len(records))
        return by_vport(records)

    tally = SeriesTally(name, max_hops=100_000, max_ends=100)
    for source in ("10.0.0.1", "10.0.0.1", "10.0.0.2"):
        tally.add(hops(Kind.RX, [1.0] * 2048, src=source))
    assert [one.hops.count for one in tally.series()] == [4096, 2048]
    assert asked == [1, 1]


def test_tally_hops_beyond_its_bounds_are_counted() -> None:
    tally = SeriesTally(by_vport, max_hops=4_000, max_ends=2)
    for source, count in (("10.0.0.0", 2_500), ("10.0.0.1", 600), ("10.0.0.2", 700), ("10.0.0.1", 300)):
        tally.add(hops(Kind.RX, [1.0] * count, src=source))
        assert tally.series()
    assert [(str(one.source), one.hops.count) for one in tally.series()] == [
        ("10.0.0.0", 2_500),
        ("10.0.0.1", 800),
    ]
    assert tally.left_out == 800
