# SPDX-License-Identifier: Apache-2.0
import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from insight.stored_trace import NodeShare, NodeState, Trace, read_trace
from insight.trace import End, TraceHop, Wire
from overhop.trace_view import render, waterfall
from store.query import TraceId
from tests.unit.memory_store import AT_NS, MemoryStore, Row, S, address, sample

WANTED = TraceId(0x0AF7651916CD43DD, 0x8448EB211C80319C)
US = 1000


def lines_of(shown: RenderableType, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, markup=True, emoji=True).print(shown)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def at(us: int, **addresses: str) -> dict[str, int | str]:
    """When the second point was, and addresses by the name of their columns."""
    given: dict[str, int | str] = {"at_ns": AT_NS + us * US, "mono_ns": 5 * S + us * US}
    for name, text in addresses.items():
        given[f"{name}_hi"], given[f"{name}_lo"] = address(text)
    return given


def ends(source: str, destination: str) -> dict[str, int | str]:
    return {"src_ns": "shop", "src_pod": source, "dst_ns": "shop", "dst_pod": destination}


def mesh(boot_of_n2: str = "boot") -> list[Row]:
    """rx from outside, local, tx, and rx on another node."""
    n2: dict[str, int | str] = {"node": "n2", "boot_id": boot_of_n2, "clock_maxerror_ns": 8 * S}
    first = at(0, dst_before="192.168.7.1") | {"src_workload": "external", "dport_before": 30080}
    first |= {"dst_ns": "shop", "dst_pod": "productpage-1", "service": "shop/productpage"}
    local = at(900, src="10.244.1.3", dst="10.244.1.4", dst_before="10.96.0.11") | {"service": "shop/details"}
    local |= ends("productpage-1", "details-1")
    sent = at(1900, src="10.244.1.3", dst="10.244.2.3", dst_before="10.96.0.12") | {"service": "shop/reviews"}
    got = at(1925, src="10.244.1.3", dst="10.244.2.3", dst_before="10.244.2.3") | n2
    both = ends("productpage-1", "reviews-1") | {"seq": 3, "span": 0xAD, "encap": "vxlan", "vni": 1}
    return [
        sample(**first, quality=8, latency_ns=41_200),
        sample(**local, kind="local", quality=8, latency_ns=12_300, seq=2, tail=1),
        sample(**sent, **both, kind="tx", quality=8, latency_ns=9_300),
        sample(**got, **both, latency_ns=17_300),
        sample(trace_lo=1, node="n3", kept_shift=6),
        sample(trace_lo=1, node="n4", time=AT_NS + S),
    ]


def read(rows: list[Row]) -> Trace:
    return read_trace(MemoryStore.of(*rows), WANTED)


def test_render_60_columns_has_bars_names_addresses_and_missing_nodes() -> None:
    assert lines_of(render(read(mesh()), 60), 60) == [
        "trace 0af7651916cd43dd8448eb211c80319c",
        "2023-11-14 22:13:19.999958 UTC · 4 hops on n1, n2 · 1,966",
        "µs, 80.1 µs of them in hops",
        "",
        "  at µs node hop     µs",
        "    0.0 n1   rx    41.2 █",
        "  external → shop/productpage-1",
        "  10.0.0.9:40000 → 10.244.1.3:9080",
        "  called 192.168.7.1:30080 (service shop/productpage)",
        "  w3c at byte 396 of 500",
        "  928.9 n1   local 12.3                  █",
        "  shop/productpage-1 → shop/details-1",
        "  10.244.1.3:40000 → 10.244.1.4:9080",
        "  called 10.96.0.11:9080 (service shop/details)",
        "  w3c at byte 396 of 500 · tail",
        "1,931.9 n1   tx    9.30                                    █",
        "  shop/productpage-1 → shop/reviews-1",
        "  10.244.1.3:40000 → 10.244.2.3:9080",
        "  called 10.96.0.12:9080 (service shop/reviews) · vxlan 1",
        "  w3c at byte 396 of 500",
        "1,941.2      wire  7.70                                    ┄",
        "1,948.9 n2   rx    17.3                                    █",
        "  shop/productpage-1 → shop/reviews-1",
        "  10.244.1.3:40000 → 10.244.2.3:9080 · vxlan 1",
        "  w3c at byte 396 of 500",
        "",
        "node n3: not sampled: this trace was not kept there, it may",
        "have passed (1/64 kept)",
        "node n4: not seen: this trace would have been kept there",
        "(all kept)",
    ]


def test_render_wide_has_the_ends_beside_the_bar_and_says_when_clocks_are_unsure() -> None:
    lines = lines_of(render(read(mesh(boot_of_n2="other")), 120), 120)
    assert lines[3:9] == [
        "  at µs node hop   from → to                             µs",
        "    0.0 n1   rx    external → shop/productpage-1       41.2 █",
        "        10.0.0.9:40000 → 10.244.1.3:9080 · called 192.168.7.1:30080 (service shop/productpage)"
        " · w3c at byte 396 of 500",
        "  928.9 n1   local shop/productpage-1 → shop/details-1 12.3                             █",
        "        10.244.1.3:40000 → 10.244.1.4:9080 · called 10.96.0.11:9080 (service shop/details)"
        " · w3c at byte 396 of 500",
        "        tail",
    ]
    assert lines[9].endswith(f"shop/reviews-1 9.30{' ' * 59}█")
    assert "        clocks unsure: off by up to 8.0 s" in lines


HOSTILE = "\x1b[2J\u202e[bold]x[/bold]\n:boom:" + "名" * 60


HOP = TraceHop(
    node="n1",
    kind="rx",
    start_ns=AT_NS,
    end_ns=AT_NS + 9000,
    latency_ns=9000,
    source="10.0.0.1:1",
    destination="10.0.0.2:2",
    destination_before_nat="10.0.0.3:3",
    span_id="00000000000000ab",
    context="w3c",
    context_offset_bytes=1,
    encap="none",
    seq=1,
    ack=1,
    first_ifindex=1,
    second_ifindex=2,
    payload_bytes=9,
    quality=(),
)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_render_hostile_names_fit_any_width_without_control_characters(width: int) -> None:
    named = End(HOSTILE, "p" * 253, "w")
    first = replace(
        HOP, node=HOSTILE, source_end=named, destination_end=End("", "", HOSTILE), service=HOSTILE
    )
    hops = (first, replace(HOP, node="", begin_ns=5, wire=Wire(-5, 10**18, sure=False)))
    nodes = tuple(NodeShare(HOSTILE + str(number), NodeState.SILENT, 0, None) for number in range(50))
    lines = lines_of(render(Trace("a" * 32, hops, nodes), width), width)
    assert max(cell_len(line) for line in lines) <= width
    assert all(line.isprintable() for line in lines)


def test_waterfall_of_raw_records_takes_names_of_addresses() -> None:
    lines = lines_of(waterfall([HOP], 60, {"10.0.0.1": "client"}), 60)
    assert lines[:4] == [
        "at µs node hop   µs",
        "  0.0 n1   rx  9.00 ████████████████████████████████████████",
        "  client:1 → 10.0.0.2:2",
        "  10.0.0.1:1 → 10.0.0.2:2 · called 10.0.0.3:3",
    ]


def test_waterfall_unknown_ends_show_addresses_and_buckets_their_name() -> None:
    hop = replace(HOP, source_end=End("", "", "unknown"), destination_end=End("", "", "host"))
    assert lines_of(waterfall([hop], 60), 60)[2] == "  10.0.0.1:1 → host"


def test_waterfall_of_thousands_is_cut() -> None:
    lines = lines_of(waterfall([replace(HOP, begin_ns=at) for at in range(5000)], 80), 80)
    assert lines[-1] == "and 4,800 hops more: see --json"


def test_waterfall_without_hops_says_so() -> None:
    assert lines_of(waterfall([], 60), 60) == ["no hop"]
