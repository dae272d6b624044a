# SPDX-License-Identifier: Apache-2.0
from agent.hops.first_hops import FirstHops
from agent.hops.summary import Distribution
from bpf.record import ContextKind, Kind, Quality
from tests.unit.agent.made_records import made


def test_by_kind_without_hops_is_empty() -> None:
    assert FirstHops().by_kind() == {}


def test_by_kind_has_what_the_records_had() -> None:
    first = FirstHops()
    batch = made(Kind.RX, latencies_ns=(5_000, 7_000))
    first.take(batch)
    first.take(made(Kind.RX, latencies_ns=(90_000,), quality=Quality.RETRANSMIT))
    first.take(made(Kind.TX, latencies_ns=(1_000,), context=ContextKind.NONE))
    batch["latency_ns"] = 0  # nobody else's to change
    assert first.by_kind() == {
        "rx": Distribution(2, 1, 5.0, 7.0, 7.0, {"retransmit": 1}),
        "tx": Distribution(1, 0, 1.0, 1.0, 1.0, {"no_context": 1}),
    }


def test_take_beyond_the_limit_keeps_the_first() -> None:
    first = FirstHops(limit=3)
    first.take(made(Kind.RX, latencies_ns=(1_000, 2_000)))
    first.take(made(Kind.RX, latencies_ns=(3_000, 4_000)))
    first.take(made(Kind.RX, latencies_ns=(5_000,)))
    assert first.by_kind() == {"rx": Distribution(3, 0, 2.0, 3.0, 3.0, {})}
