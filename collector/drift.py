# SPDX-License-Identifier: Apache-2.0
"""NAT drift: what a node's rules should be, by Services and EndpointSlices, and what they are. Pure.

Which back ends a rule should have follows kube-proxy (Kubernetes pkg/proxy/topology.go): ready ones, or,
where none is ready, those that still serve while they end; of the node alone where the traffic policy says
Local; of the node's zone where every one has a hint and one has the node's.
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
_ZONE: Final = "topology.kubernetes.io/zone"
What = Literal["missing service", "stale service", "missing back end", "stale back end", "wrong share"]
Key = tuple[str, int, str]
"""Address (empty: a node port), port, protocol in small letters."""
Target = tuple[str, int]


@dataclass(frozen=True, slots=True, order=True)
class Drift:
    """One difference of one node. `backend`: address and port, or empty."""

    service: str
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


def expected(snapshot: Snapshot, node: str) -> dict[Key, Expected]:
    """What the rules of a node should be, by address, port and protocol."""
    of_service: dict[tuple[str, str], list[EndpointSlice]] = {}
    for one in snapshot.slices.values():
        of_service.setdefault((one.namespace, one.service), []).append(one)
    found: dict[Key, Expected] = {}
    labels = snapshot.nodes[node].labels if node in snapshot.nodes else {}
    for key, service in snapshot.services.items():
        slices = of_service.get(key, [])
        for port in service.ports:
            for rule, backends in _of_port(service, port, slices, node, labels.get(_ZONE, "")):
                found[rule] = Expected(f"{service.namespace}/{service.name}", backends)
    return found


def drifts(wanted: Mapping[Key, Expected], rules: Iterable[NatRules]) -> list[Drift]:
    """Every difference. Rules of nobody in particular (not kube-proxy's) are left out."""
    actual: dict[Key, Rule] = {}
    for family in rules:
        for rule in family.services:
            if rule.kind != "dnat":
                actual[rule.address, rule.port, rule.protocol.lower()] = rule
    found: list[Drift] = []
    for key, one in wanted.items():
        rule_of = actual.get(key)
        if rule_of is None:
            if one.backends:
                found.append(Drift(one.service, *key, "missing service"))
            continue
        found += _differences(key, one, rule_of)
    found += [
        Drift(rule.name, *key, "stale service")
        for key, rule in actual.items()
        if key not in wanted and rule.backends
    ]
    return sorted(found)


class DriftWatch:
    """A difference counts once it was there for SETTLE_S. Times in s, of any one clock."""

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self._settle_s = settle_s
        self._since: dict[str, dict[Drift, float]] = {}

    def update(self, node: str, found: Iterable[Drift], now_s: float) -> dict[Drift, float]:
        """What lasts on a node, and since when."""
        before = self._since.get(node, {})
        now = {each: before.get(each, now_s) for each in found}
        self._since[node] = now
        return {each: since_s for each, since_s in now.items() if now_s - since_s >= self._settle_s}

    def forget(self, node: str) -> None:
        """The node is gone."""
        self._since.pop(node, None)


def _of_port(
    service: Service, port: ServicePort, slices: Sequence[EndpointSlice], node: str, zone: str
) -> Iterator[tuple[Key, frozenset[Target]]]:
    protocol = port.protocol.lower()
    for address in service.cluster_addresses:
        pairs = _endpoints(slices, port, _family(address))
        yield (address, port.port, protocol), _chosen(pairs, service.is_internal_local, node, zone)
    for address in service.external_addresses:
        pairs = _endpoints(slices, port, _family(address))
        yield (address, port.port, protocol), _chosen(pairs, service.is_external_local, node, zone)
    if port.node_port and service.cluster_addresses:
        pairs = _endpoints(slices, port, _family(service.cluster_addresses[0]))
        yield ("", port.node_port, protocol), _chosen(pairs, service.is_external_local, node, zone)


_Pair = tuple[Endpoint, EndpointPort]


def _endpoints(slices: Iterable[EndpointSlice], port: ServicePort, family: str) -> list[_Pair]:
    """Endpoints with this port, by its name, as slices have it."""
    return [
        (endpoint, each)
        for one in slices
        if one.family == family
        for each in one.ports
        if (each.name, each.protocol) == (port.name, port.protocol)
        for endpoint in one.endpoints
    ]


def _chosen(pairs: Sequence[_Pair], is_local: bool, node: str, zone: str) -> frozenset[Target]:
    if is_local:
        pairs = [pair for pair in pairs if pair[0].node == node]
    ready = [pair for pair in pairs if pair[0].is_ready]
    if not ready:
        ready = [pair for pair in pairs if pair[0].is_serving and pair[0].is_terminating]
    if not is_local:
        ready = _in_zone(ready, zone)
    return frozenset((endpoint.addresses[0], port.port) for endpoint, port in ready if endpoint.addresses)


def _in_zone(ready: list[_Pair], zone: str) -> list[_Pair]:
    has_all = bool(zone) and bool(ready) and all(endpoint.zone_hints for endpoint, _ in ready)
    near = [pair for pair in ready if zone in pair[0].zone_hints] if has_all else []
    return near or ready


def _differences(key: Key, wanted: Expected, rule: Rule) -> Iterator[Drift]:
    actual = {(each.address, each.port): each.share for each in rule.backends}
    for address, port in wanted.backends - actual.keys():
        yield Drift(wanted.service, *key, "missing back end", f"{address}:{port}")
    for address, port in actual.keys() - wanted.backends:
        yield Drift(wanted.service, *key, "stale back end", f"{address}:{port}")
    if actual.keys() == wanted.backends:
        share = 1 / len(actual) if actual else 0.0
        for (address, port), found in actual.items():
            if abs(found - share) > _TOLERANCE:
                yield Drift(wanted.service, *key, "wrong share", f"{address}:{port}")


def _family(address: str) -> str:
    try:
        return f"IPv{ip_address(address).version}"
    except ValueError:
        return ""
