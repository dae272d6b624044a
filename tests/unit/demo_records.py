# SPDX-License-Identifier: Apache-2.0
"""Records and an outcome written by hand, for the tests of the demo."""

from ipaddress import IPv4Address

import numpy as np

from agent.clock import ClockOffset
from agent.hops.summary import Distribution
from bpf.counters import NAMES
from bpf.record import RECORD, ContextKind, Kind
from insight.series import Series
from insight.trace import End
from overhop.demo.found import Found, Route, Sent
from overhop.demo.outcome import Account, NodePlace, Outcome, Output, ServicePlace, Stage
from overhop.demo.sights import Sight
from overhop.demo.stored import KeptHops, Stored
from overhop.trace import NodeRecords, TraceHop, Wire

IDENTITIES = ("first", "second", "taken", "summed", "sampled")
TRACE = "5d7c00000000000100000000000000aa"
OTHER = "5d7c00000000000100000000000000bb"
WEB = Route("service", "client", "service web", IPv4Address("10.96.0.10"), 80, (("n1", "tx"), ("n2", "rx")))
CACHE = Route("same node", "client", "cache", IPv4Address("10.244.1.3"), 8080, (("n1", "local"),))


def packed(address: str) -> np.void:
    return np.void(bytes(10) + b"\xff\xff" + IPv4Address(address).packed)


def record(
    kind: Kind,
    trace: str = "",
    *,
    context: ContextKind = ContextKind.NONE,
    called: str = "10.96.0.10:80",
    sport: int = 40000,
    sport_before_nat: int | None = None,
    seq: int = 1,
    latency_ns: int = 100,
) -> np.ndarray:
    row = np.zeros(1, RECORD)
    address, _, port = called.partition(":")
    row["kind_message"] = kind
    row["encap_context"] = context << 4
    row["trace_id"] = np.void(bytes.fromhex(trace or "00" * 16))
    row["src"], row["dst"] = packed("10.244.1.2"), packed("10.244.2.2")
    row["dst_before_nat"], row["dport_before_nat"] = packed(address), int(port)
    row["sport"], row["dport"] = sport, 8080
    row["sport_before_nat"] = sport if sport_before_nat is None else sport_before_nat
    row["seq"], row["ack"], row["latency_ns"] = seq, 9, latency_ns
    return row


def node(name: str, *records: np.ndarray) -> NodeRecords:
    clock = ClockOffset(0, 0, 0, 0, 0)
    return NodeRecords(name, "boot", clock, np.concatenate([np.empty(0, RECORD), *records]))


def counters(**values: int) -> dict[str, int]:
    return dict.fromkeys((*NAMES, "waiting", "swapped"), 0) | values


def trace_hop(node: str, kind: str, start_ns: int, latency_ns: int, wire: Wire | None = None) -> TraceHop:
    return TraceHop(
        node=node,
        kind=kind,
        start_ns=start_ns,
        end_ns=start_ns + latency_ns,
        latency_ns=latency_ns,
        source="10.244.1.2:40000",
        destination="10.244.2.2:8080",
        destination_before_nat="10.96.0.10:80" if kind == "tx" else "10.244.2.2:8080",
        span_id="00000000000000ab",
        context="w3c",
        context_offset_bytes=62,
        encap="vxlan",
        seq=1,
        ack=9,
        first_ifindex=2,
        second_ifindex=3,
        payload_bytes=134,
        quality=("dnat",) if kind == "tx" else (),
        begin_ns=start_ns - 1_000_000,
        wire=wire,
    )


def sight(node: str, kind: str, hops: int, missed: int = 0) -> Sight:
    """All with their context at byte 62, but the missed ones, which had it behind the window."""
    first = 62 if missed < hops else None
    return Sight(node, kind, hops, hops - missed, missed, first, first, {"vxlan": hops})


def account(records: int, **values: int) -> Account:
    """Of an agent that stored every record."""
    output = Output(records, 0, records, 0, {"hop_10s": 1, "hop_sample": records}, {"hop_sample": 0})
    return Account(counters(**values, records=records), dict.fromkeys(IDENTITIES, 0), output)


def series(node: str, kind: str, count: int, service: str = "") -> Series:
    client, web = End("shop", "", "client"), End("shop", "", "web")
    return Series(node, kind, client, web, service, count, 0, 0, 2400.0, 6460.0, 35388)


def outcome(found: int = 20, missing: int = 0) -> Outcome:
    """20 requests by the service, 10 to the cache, none of them lost unless told."""
    w3c = Sent(WEB, ContextKind.W3C, 20, (TRACE,))
    none = Sent(CACHE, ContextKind.NONE, 10)
    return Outcome(
        topology={"name": "oh123456", "cni": "vxlan"},
        stage=Stage(
            nodes=(
                NodePlace("n1", "172.18.0.11", {"client": "10.244.1.2", "cache": "10.244.1.3"}),
                NodePlace("n2", "172.18.0.12", {"web": "10.244.2.2"}),
            ),
            external="172.18.0.250",
            joined_by="VXLAN",
            services=(
                ServicePlace("service web", "10.96.0.10", "10.96.0.10:80, node port 30080 → web:8080"),
            ),
        ),
        window=4096,
        sidecar_offset_bytes=None,
        relocation="off",
        found=(Found(w3c, found, (TRACE,)), Found(none, 10)),
        hops={
            "rx": Distribution(20, 0, 2.4, 6.46, 35.388, {}),
            "tx": Distribution(20, 0, 3.26, 8.66, 1234.5, {"dnat": 20}),
            "local": Distribution(10, 0, 1.8, 2.87, 3.54, {"no_context": 10}),
        },
        sights=(sight("n1", "tx", 20), sight("n2", "rx", 20)),
        hops_recorded={"n1": 30, "n2": 20 - missing},
        accounts={
            "n1": account(30, first=32, taken=30, expired=2, second=30),
            "n2": account(20, first=20, taken=20, second=20),
        },
        store="",
        stored=Stored(
            {"n1": KeptHops(30, 30), "n2": KeptHops(20, 20)},
            (series("n2", "rx", 20), series("n1", "tx", 20, service="shop/web")),
        ),
        trace_id=TRACE,
        trace=(
            trace_hop("n1", "tx", 1_000_000, 3130),
            trace_hop("n2", "rx", 1_004_540, 2380, Wire(1410, error_ns=0, sure=True)),
        ),
        steps_s={"build the lab": 0.61, "send the requests": 1.24},
    )
