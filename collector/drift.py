# SPDX-License-Identifier: Apache-2.0
"""NAT drift: what a node's rules should be, by Services and EndpointSlices, and what they are. Pure.

Which back ends a rule should have follows kube-proxy (Kubernetes 1.34 pkg/proxy/topology.go): ready ones, or,
where none is ready, those that still serve while they end; of the node alone where the traffic policy says
Local; of the node or its zone where every ready one has a hint and one has the node's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Literal

from collector.node.nat import NatRules
from collector.node.nat import Service as Rule
from collector.snapshot import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort, Snapshot

SETTLE_S: Final = 30.0
"""Rules follow their objects in seconds; what lasts longer is drift."""
_TOLERANCE: Final = 0.01
"""Of a share, relative."""
_ZONE: Final = "topology.kubernetes.io/zone"
_OTHERS: Final = ("dnat", "host-port")
"""Kinds of rules that are not kube-proxy's."""
What = Literal[
    "missing service", "stale service", "missing back end", "stale back end", "wrong share", "wrong affinity"
]
Key = tuple[str, str, int, str]
"""Family (ipv4, ipv6), address (empty: a node port), port, protocol in small letters."""
Target = tuple[str, int]


@dataclass(frozen=True, slots=True, order=True)
class Drift:
    """One difference of one node. `backend`: address and port, or empty."""

    service: str
    family: str
    address: str
    port: int
    protocol: str
    what: What
    backend: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What one address and port should lead to."""

    service: str
    backends: frozenset[Target]
    affinity_s: int = 0


class Expectation:
    """What the rules of any node should be: what is the same on all nodes is worked out once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._nodes = snapshot.nodes
        self._same: dict[Key, Expected] = {}
        self._own: dict[Key, _Own] = {}
        of_service: dict[tuple[str, str], list[EndpointSlice]] = {}
        for one in snapshot.slices.values():
            of_service.setdefault((one.namespace, one.service), []).append(one)
        for name, service in snapshot.services.items():
            for port in service.ports:
                self._add(service, port, of_service.get(name, []))

    def of(self, node: str) -> dict[Key, Expected]:
        """By what is called; also what has no back ends, which may have rules or none."""
        here = _Here(node, self._nodes[node].labels.get(_ZONE, "") if node in self._nodes else "")
        own = {
            key: Expected(each.service, _backends(each.pairs, each.is_local, here), each.affinity_s)
            for key, each in self._own.items()
        }
        return self._same | own

    def _add(self, service: Service, port: ServicePort, slices: Sequence[EndpointSlice]) -> None:
        name = f"{service.namespace}/{service.name}"
        pairs: dict[str, list[_Pair]] = {}
        for key, is_local in _called(service, port):
            if key[0] not in pairs:
                pairs[key[0]] = _endpoints(slices, port, key[0])
            found = pairs[key[0]]
            if is_local or any(endpoint.zone_hints or endpoint.node_hints for endpoint, _ in found):
                self._own[key] = _Own(name, found, is_local, service.affinity_s)
            else:
                self._same[key] = Expected(name, _backends(found, False, _NOWHERE), service.affinity_s)


def expected(snapshot: Snapshot, node: str) -> dict[Key, Expected]:
    """What the rules of one node should be."""
    return Expectation(snapshot).of(node)


def not_judged(rules: NatRules) -> str:
    """Why a family's rules cannot be compared; empty: they can.

    Without a single rule of kube-proxy nobody can tell a node whose services are somebody else's (eBPF, IPVS)
    from one where all are missing; kube-proxy always has one, the API server's.
    """
    if not rules.read:
        return rules.reason or "not read"
    if all(each.kind in _OTHERS for each in rules.services):
        return f"no rules of kube-proxy{f' ({rules.reason})' if rules.reason else ''}"
    return ""


def drifts(wanted: Mapping[Key, Expected], rules: Mapping[str, NatRules]) -> list[Drift]:
    """Every difference, sorted. `rules` by family; what cannot be judged and rules of others have none."""
    found: set[Drift] = set()
    for family, own in rules.items():
        if not not_judged(own):
            found.update(_of_family({k: v for k, v in wanted.items() if k[0] == family}, family, own))
    return sorted(found)


class DriftWatch:
    """A difference counts once it was there for `settle_s`. Times in s, of any one clock."""

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self._settle_s = settle_s
        self._since: dict[str, dict[Drift, float]] = {}

    def update(self, node: str, found: Iterable[Drift], now_s: float) -> dict[Drift, float]:
        """What lasts on a node, and since when; what is not in `found` any more is over."""
        before = self._since.get(node, {})
        now = {each: before.get(each, now_s) for each in found}
        self._since[node] = now
        return {each: since_s for each, since_s in now.items() if now_s - since_s >= self._settle_s}

    def forget(self, node: str) -> None:
        """The node is gone."""
        self._since.pop(node, None)


@dataclass(frozen=True, slots=True)
class _Here:
    """The node whose rules they are."""

    node: str
    zone: str


_NOWHERE: Final = _Here("", "")
_Pair = tuple[Endpoint, EndpointPort]


@dataclass(frozen=True, slots=True)
class _Own:
    """What depends on the node: by traffic policy, or by hints."""

    service: str
    pairs: list[_Pair]
    is_local: bool
    affinity_s: int


def _called(service: Service, port: ServicePort) -> Iterator[tuple[Key, bool]]:
    """What a port of a service is called by, and whether only the node's own back ends are allowed then."""
    protocol = port.protocol.lower()
    families = dict.fromkeys(filter(None, map(_family, service.cluster_addresses)))
    for address in service.cluster_addresses:
        if _family(address):
            yield (_family(address), address, port.port, protocol), service.is_internal_local
    for address in service.external_addresses:
        if _family(address) in families:  # kube-proxy ignores addresses of families that a service has not
            yield (_family(address), address, port.port, protocol), service.is_external_local
    for family in families if port.node_port else ():
        yield (family, "", port.node_port, protocol), service.is_external_local


def _backends(pairs: list[_Pair], is_local: bool, here: _Here) -> frozenset[Target]:
    if is_local:
        pairs = [pair for pair in pairs if pair[0].node == here.node]
    ready = [pair for pair in pairs if pair[0].is_ready]
    if ready and not is_local:
        ready = _near(ready, here)
    ending = [pair for pair in pairs if pair[0].is_serving and pair[0].is_terminating]
    return frozenset((endpoint.addresses[0], own.port) for endpoint, own in ready or ending)


def _endpoints(slices: Iterable[EndpointSlice], port: ServicePort, family: str) -> list[_Pair]:
    """Endpoints with this port, by its name; its number is what the slice says."""
    return [
        (endpoint, each)
        for one in slices
        if one.family.lower() == family
        for each in one.ports
        if (each.name, each.protocol) == (port.name, port.protocol)
        for endpoint in one.endpoints
        if endpoint.addresses
    ]


def _near(ready: list[_Pair], here: _Here) -> list[_Pair]:
    """Those of the node, else of the zone, where all have such hints; else all of them."""
    if all(endpoint.node_hints for endpoint, _ in ready):
        own = [pair for pair in ready if here.node in pair[0].node_hints]
        if own:
            return own
    if all(endpoint.zone_hints for endpoint, _ in ready):
        return [pair for pair in ready if here.zone in pair[0].zone_hints] or ready
    return ready


def _of_family(wanted: Mapping[Key, Expected], family: str, rules: NatRules) -> Iterator[Drift]:
    actual: dict[Key, list[Rule]] = {}
    for rule in rules.services:
        address = "" if rule.kind == "node-port" else rule.address
        if rule.kind != "host-port":
            actual.setdefault((family, address, rule.port, rule.protocol), []).append(rule)
    for key, one in wanted.items():
        if one.backends and key not in actual:
            yield Drift(one.service, *key, "missing service")
        for rule in actual.get(key, ()):
            yield from _differences(key, one, rule)
    for key, found in actual.items():
        for rule in found:
            if key not in wanted and rule.backends and rule.kind not in _OTHERS:
                yield Drift(rule.name, *key, "stale service")


def _differences(key: Key, wanted: Expected, rule: Rule) -> Iterator[Drift]:
    actual = {(each.address, each.port): each.share for each in rule.backends}
    for target in wanted.backends - actual.keys():
        yield Drift(wanted.service, *key, "missing back end", _text(target))
    for target in actual.keys() - wanted.backends:
        yield Drift(wanted.service, *key, "stale back end", _text(target))
    if actual.keys() != wanted.backends or not actual:
        return
    for target, share in actual.items():
        if abs(share * len(actual) - 1) > _TOLERANCE:
            yield Drift(wanted.service, *key, "wrong share", _text(target))
    if rule.affinity_s != wanted.affinity_s:
        yield Drift(wanted.service, *key, "wrong affinity")


def _text(target: Target) -> str:
    address, port = target
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _family(address: str) -> str:
    try:
        return f"ipv{ip_address(address).version}"
    except ValueError:
        return ""
