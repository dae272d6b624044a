# SPDX-License-Identifier: Apache-2.0
"""Records made by hand, for the tests of what becomes of them."""

from ipaddress import ip_address

import numpy as np

from bpf.record import RECORD, ContextKind, Encap, Kind

SECOND_NS = 1_000_000_000


def packed(address: str) -> np.void:
    found = ip_address(address)
    return np.void(found.packed if found.version == 6 else bytes(10) + b"\xff\xff" + found.packed)


def made(
    kind: Kind = Kind.RX,
    src: str = "10.1.0.1",
    dst: str = "10.1.0.2",
    *,
    first_ifindex: int = 2,
    second_ifindex: int = 2,
    dst_before: str | None = None,
    sport: int = 40000,
    dport: int = 8080,
    dport_before: int | None = None,
    quality: int = 0,
    latencies_ns: tuple[int, ...] = (1000,),
    at_ns: int = SECOND_NS,
    trace: int = 1,
    context: ContextKind = ContextKind.W3C,
    encap: Encap = Encap.VXLAN,
) -> np.ndarray:
    """One record per latency."""
    rows = np.zeros(len(latencies_ns), RECORD)
    rows["kind_message"] = kind
    rows["encap_context"] = context << 4 | encap
    rows["src"], rows["dst"] = packed(src), packed(dst)
    rows["dst_before_nat"] = packed(dst_before or dst)
    rows["sport"] = rows["sport_before_nat"] = sport
    rows["dport"] = dport
    rows["dport_before_nat"] = dport if dport_before is None else dport_before
    rows["first_ifindex"], rows["second_ifindex"] = first_ifindex, second_ifindex
    rows["quality"], rows["latency_ns"], rows["second_ns"] = quality, latencies_ns, at_ns
    rows["trace_id"] = np.void(trace.to_bytes(16) if context else bytes(16))
    rows["segments"] = 1
    return rows


def traced(count: int, seed: int = 1, **of_each: int) -> np.ndarray:
    """Records of `count` different traces."""
    rows = np.repeat(made(), count)
    rng = np.random.default_rng(seed)
    rows["trace_id"] = np.frombuffer(rng.bytes(16 * count), "V16")
    rows["seq"] = np.arange(count)
    for name, value in of_each.items():
        rows[name] = value
    return rows
