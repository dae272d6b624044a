# SPDX-License-Identifier: Apache-2.0
"""The stage of the pairing scenarios: a traced lab, and what is checked of the hops of one load."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agent.reading.ring import Records
from bpf.record import ContextKind, Encap, Kind, Quality
from overhop.lab import Cni, HttpResult, Lab, Node, Pod
from tests.accept.agents import imbalances
from tests.accept.tracer import Snapshot, Tracer

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TownOptions:
    """How the lab of a scenario is built."""

    cni: Cni = "vxlan"
    """`vxlan` has IPv6 besides IPv4, the others have one family."""
    offloads: bool = True
    bridge_ageing: bool = True
    bystanders: int = 0
    """Pods beside the server that send and get nothing."""
    attach: str = "auto"
    """How the agents attach: auto, tcx, clsact."""


@dataclass(frozen=True, slots=True)
class Town:
    """A client's node n1 and a server's node n2, both traced."""

    lab: Lab
    n1: Node
    n2: Node
    client: Pod
    neighbour: Pod
    """Serves HTTP on the client's node."""
    server: Pod
    tracers: dict[Node, Tracer]

    @property
    def encap(self) -> Encap:
        """What the overlay puts around packets."""
        return Encap.IPIP if self.lab.options.cni == "ipip" else Encap.VXLAN

    @property
    def vni(self) -> int:
        """Of the overlay, 0 if its encapsulation has none."""
        return self.n1.overlay.vni


@contextmanager
def town(options: TownOptions) -> Iterator[Town]:
    """A traced lab of two nodes; the external host serves on port 80, the node n2 on 8080."""
    with ExitStack() as stack:
        lab = stack.enter_context(
            Lab.make(
                options.cni,
                ipv6=options.cni == "vxlan",
                offloads=options.offloads,
                bridge_ageing=options.bridge_ageing,
            )
        )
        n1, n2 = lab.nodes
        client, neighbour, server = n1.pod("client"), n1.pod("neighbour"), n2.pod("server")
        for number in range(options.bystanders):
            n2.pod(f"bystander-{number}")
        for host in (neighbour, server, lab.external):
            host.serve_http(80)
        n2.serve_http(8080)
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="overhop-accept-")))
        tracers = {node: Tracer(node, directory, options.attach) for node in lab.nodes}
        for tracer in tracers.values():
            tracer.start()
        for tracer in tracers.values():
            stack.enter_context(tracer)
        yield Town(lab, n1, n2, client, neighbour, server, tracers)


class Towns:
    """Towns by their options, each built when it is first asked for; traced once, used by many scenarios.

    Only those of one CNI at a time: each has two agents.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._towns: dict[TownOptions, Town] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def get(self, options: TownOptions) -> Town:
        """The town, with nothing counted yet."""
        if any(other.cni != options.cni for other in self._towns):
            self._towns.clear()
            self._stack.close()
        if options not in self._towns:
            self._towns[options] = self._stack.enter_context(town(options))
        found = self._towns[options]
        for tracer in found.tracers.values():
            tracer.mark()
        return found


@dataclass(frozen=True, slots=True)
class Measured:
    """Outcome of one scenario; without problems it has shown what it is for."""

    scenario: str
    requests: int
    requests_per_s: int
    numbers: Mapping[str, Any]  # plain data for JSON
    problems: tuple[str, ...]


@dataclass(slots=True)
class Check:
    """Compares what both nodes recorded with the requests that one load sent."""

    result: HttpResult
    seen: dict[Node, Snapshot]
    problems: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)  # plain data for JSON

    @classmethod
    def of(cls, town: Town, result: HttpResult) -> "Check":
        """Waits until both nodes have settled; the identities and the loss counters are checked at once."""
        check = cls(result, {node: tracer.settle() for node, tracer in town.tracers.items()})
        check.equal("requests answered 200", result.ok, len(result.status))
        for node, snapshot in check.seen.items():
            check.equal(f"{node.name} settled", snapshot.settled, True)
            check.equal(
                f"{node.name} imbalances",
                imbalances(snapshot.counters),
                dict.fromkeys(("first", "second", "taken"), 0),
            )
            lost = {name: snapshot.counters[name] for name in ("ring_full", "slot_busy", "slot_busy_second")}
            check.equal(f"{node.name} lost", lost, dict.fromkeys(lost, 0))
        return check

    def equal(self, what: str, found: object, expected: object) -> None:
        """A problem, unless both are the same."""
        if found != expected:
            self.problems.append(f"{what}: {found}, expected {expected}")

    def hops(self, node: Node, kind: Kind, *, retransmitted: bool = False) -> Records:
        """The node's records of one kind, with or without the RETRANSMIT bit."""
        records = self.seen[node].records
        flagged = (records["quality"] & Quality.RETRANSMIT) != 0
        chosen: Records = records[((records["kind_message"] & 15) == kind) & (flagged == retransmitted)]
        return chosen

    def per_request(self, records: Records) -> Counts:
        """How many of the records belong to each request of the load."""
        ids = np.frombuffer(records["trace_id"].tobytes(), ">u8").reshape(-1, 2)
        seed = np.frombuffer(self.result.trace_ids[:1].tobytes(), ">u8")[0]
        numbers = ids[ids[:, 0] == seed][:, 1].astype(np.int64) - 1
        return np.bincount(numbers, minlength=len(self.result.status))

    def every_request_once(self, node: Node, kind: Kind) -> Records:
        """Each request has exactly one hop (retransmissions aside), and nothing else was recorded."""
        records = self.hops(node, kind)
        counts = self.per_request(records)
        what = f"{node.name} {kind.label}"
        self.equal(f"{what} requests without hop", int((counts == 0).sum()), 0)
        self.equal(f"{what} requests with several hops", int((counts > 1).sum()), 0)
        self.equal(f"{what} hops of no request", len(records) - int(counts.sum()), 0)
        return records

    def all_have(self, what: str, values: npt.NDArray[Any], expected: object) -> None:
        """A problem, unless every value is the expected one."""
        different = values[values != expected]
        if len(different):
            self.problems.append(f"{what}: {len(different)} of {len(values)} differ, as {different[0]}")

    def quality(self, what: str, records: Records, expected: Quality) -> None:
        """A problem, unless every record has exactly these quality bits."""
        self.all_have(f"{what} quality", records["quality"], int(expected))

    def encapsulation(self, what: str, records: Records, encap: Encap, vni: int) -> None:
        """A problem, unless every record was encapsulated like this."""
        self.all_have(f"{what} encapsulation", records["encap_context"] & 15, int(encap))
        self.all_have(f"{what} vni", records["vni"], vni)

    def no_other_kinds(self, node: Node, *kinds: Kind) -> None:
        """A problem, if the node recorded hops of another kind."""
        others = Counter(int(kind) for kind in self.seen[node].records["kind_message"] & 15)
        for kind in kinds:
            others.pop(int(kind), None)
        self.equal(f"{node.name} hops of other kinds", dict(others), {})

    def counter(self, node: Node, name: str, expected: int) -> None:
        """A problem, unless the counter has this value."""
        self.equal(f"{node.name} counter {name}", self.seen[node].counters[name], expected)

    def measured(self, scenario: str) -> Measured:
        """The outcome, with counts and latencies of every kind seen."""
        hops: dict[str, Any] = {}  # plain data for JSON
        for node, snapshot in self.seen.items():
            for kind in Kind:
                records = snapshot.records[(snapshot.records["kind_message"] & 15) == kind]
                if len(records):
                    hops[f"{node.name} {kind.label}"] = _summary(records)
        counters = {
            node.name: {name: value for name, value in snapshot.counters.items() if value}
            for node, snapshot in self.seen.items()
        }
        return Measured(
            scenario,
            len(self.result.status),
            int(len(self.result.status) / self.result.elapsed_s),
            self.numbers | {"hops": hops, "counters": counters},
            tuple(self.problems),
        )


def addresses(records: Records, name: str) -> set[str]:
    """The different values of an address field (src, dst, dst_before_nat), as text."""
    texts = set()
    for raw in {value.tobytes() for value in np.unique(records[name].view("V16"))} if len(records) else ():
        address = IPv6Address(raw)
        texts.add(str(address.ipv4_mapped or address))
    return texts


def _summary(records: Records) -> dict[str, Any]:  # plain data for JSON
    p50_us, p99_us = np.percentile(records["latency_ns"], (50, 99)) / 1000
    quality = {flag.name: int(((records["quality"] & flag) != 0).sum()) for flag in Quality}
    contexts = Counter(ContextKind(int(kind)).label for kind in records["encap_context"] >> 4)
    return {
        "count": len(records),
        "p50_us": round(float(p50_us), 2),
        "p99_us": round(float(p99_us), 2),
        "max_us": round(float(records["latency_ns"].max()) / 1000, 2),
        "quality": {name: count for name, count in quality.items() if count},
        "contexts": dict(contexts),
    }
