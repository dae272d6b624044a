# SPDX-License-Identifier: Apache-2.0
"""Who is behind an interface, an address, a service's address: the plan's names with their history. Pure."""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import TypeVar

from agent.naming.history import Answer, History
from agent.naming.marks import address_mark, is_mark, node_port_mark, service_mark
from agent.network.links import Link
from agent.plan.model import Plan, VportPlan
from agent.plan.names import BUCKETS, Address, NamesPlan, Network
from bpf.record import Kind

_MAPPED = bytes(10) + b"\xff\xff"
_MAPPED_BITS = 96

_Key = TypeVar("_Key", bound=Hashable)
_Owner = TypeVar("_Owner")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a hop. A bucket has neither namespace nor pod."""

    namespace: str
    pod: str
    workload: str
    is_provisional: bool = field(default=False, compare=False)
    """Named after its interface, or by a mark, for want of a better name."""


UNKNOWN, HOST, EXTERNAL, MASQUERADED, AMBIGUOUS, OTHER = (End("", "", bucket) for bucket in BUCKETS)
UNKNOWN_SERVICE = "unknown"
AMBIGUOUS_SERVICE = "ambiguous"


@dataclass(frozen=True, slots=True)
class Flow:
    """What of a hop decides its names."""

    kind: int
    first_ifindex: int
    second_ifindex: int
    src: bytes
    dst: bytes
    dst_before: bytes
    dport_before: int
    has_dnat: bool
    has_snat: bool


@dataclass(frozen=True, slots=True)
class Named:
    """The ends and the service of a flow (empty: no NAT), and when they are so (CLOCK_MONOTONIC, ns)."""

    source: End
    destination: End
    service: str
    since_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Whose names are not what they were before an update."""

    ifindexes: frozenset[int] = frozenset()
    addresses: frozenset[bytes] = frozenset()
    everything: bool = False


class NameTables:
    """The names of one node's hops. `update` says what there is, `named` asks."""

    def __init__(self, *, asks: bool = False) -> None:
        """`asks`: who is not of this node is not in the plan, a mark stands for it until it is asked for."""
        self._asks = asks
        self._ifindexes: History[int, End] = History(AMBIGUOUS)
        self._addresses: History[bytes, End] = History(AMBIGUOUS)
        self._services: History[tuple[bytes, int], str] = History(AMBIGUOUS_SERVICE)
        self._node_ports: History[int, str] = History(AMBIGUOUS_SERVICE)
        self._names: NamesPlan | None = None
        self._networks: tuple[tuple[int, int], ...] = ()
        self._elsewhere: Mapping[bytes, End] = {}
        self._here: Mapping[bytes, End] = {}

    def update(self, plan: Plan, links: Sequence[Link], own: Collection[Address], now_ns: int) -> Changed:
        """From now on these names hold; the ones before for times before. `own`: this node's addresses."""
        is_new, everything = self._update_names(plan.names, now_ns)
        vports = list(_vports(plan, links))
        by_ifindex = {link.ifindex: end for link, _, end in vports}
        ifindexes = _rename(self._ifindexes, by_ifindex) | self._ifindexes.update(by_ifindex, now_ns)
        here = {address: HOST for address in map(packed, own) if address not in self._elsewhere}
        here |= _here(plan, vports)
        # What the plan says of other nodes may be large, and is not looked through whenever a pod comes.
        concerned = {**(self._elsewhere if is_new else {}), **self._here, **here}
        owners = {address: here.get(address) or self._elsewhere.get(address) for address in concerned}
        addresses = _rename(self._addresses, owners) | self._change_addresses(owners, is_new, now_ns)
        self._here = here
        return Changed(frozenset(ifindexes), frozenset(addresses), everything)

    def _update_names(self, names: NamesPlan, now_ns: int) -> tuple[bool, bool]:
        """What does not depend on interfaces. Whether it is new, and whether all flows may be concerned."""
        if names is self._names:
            return False, False
        networks = tuple(_network(one) for one in names.pod_networks)
        services = self._services.update(_service_ports(names), now_ns)
        node_ports = self._node_ports.update(_node_ports(names), now_ns)
        everything = bool(services or node_ports or networks != self._networks)
        self._names, self._networks, self._elsewhere = names, networks, _elsewhere(names)
        return True, everything

    def _change_addresses(self, owners: Mapping[bytes, End | None], is_all: bool, now_ns: int) -> set[bytes]:
        if not is_all:
            return self._addresses.change(owners, now_ns)
        present = {address: end for address, end in owners.items() if end is not None}
        return self._addresses.update(present, now_ns)

    def named(self, flow: Flow, time_ns: int) -> Named:
        """The names of a flow at a time."""
        source = self._source(flow, time_ns)
        destination = self._destination(flow, time_ns)
        service = self._service(flow, time_ns) if flow.has_dnat else Answer("")
        answers = (source, destination, service)
        return Named(
            source.owner or UNKNOWN,
            destination.owner or UNKNOWN,
            UNKNOWN_SERVICE if service.owner is None else service.owner,
            max(answer.since_ns for answer in answers),
            min(answer.until_ns for answer in answers),
        )

    def _source(self, flow: Flow, time_ns: int) -> Answer[End]:
        if flow.kind in (Kind.TX, Kind.LOCAL):
            by_vport = self._ifindexes.at(flow.first_ifindex, time_ns)
            if by_vport.owner is not None:
                return by_vport
            return _within(self._translated(flow, time_ns), by_vport)
        return self._translated(flow, time_ns)

    def _translated(self, flow: Flow, time_ns: int) -> Answer[End]:
        """A record has the source of the second point only: behind SNAT it does not say who it was."""
        return Answer(MASQUERADED) if flow.has_snat else self._address(flow.src, time_ns)

    def _destination(self, flow: Flow, time_ns: int) -> Answer[End]:
        if flow.kind in (Kind.RX, Kind.LOCAL):
            by_vport = self._ifindexes.at(flow.second_ifindex, time_ns)
            if by_vport.owner is not None:
                return by_vport
            return _within(self._address(flow.dst, time_ns), by_vport)
        return self._address(flow.dst, time_ns)

    def _address(self, address: bytes, time_ns: int) -> Answer[End]:
        found = self._addresses.at(address, time_ns)
        if found.owner is not None:
            return found
        other = End("", "", address_mark(address)) if self._asks else self._outside(address)
        return Answer(other, found.since_ns, found.until_ns)

    def _outside(self, address: bytes) -> End:
        """Of an address that is nobody's."""
        if not self._networks:
            return UNKNOWN
        number = int.from_bytes(address)
        inside = any(number & mask == base for base, mask in self._networks)
        return UNKNOWN if inside else EXTERNAL

    def _service(self, flow: Flow, time_ns: int) -> Answer[str]:
        found = self._services.at((flow.dst_before, flow.dport_before), time_ns)
        if found.owner is not None:
            return found
        node = self._addresses.at(flow.dst_before, time_ns)
        if self._asks:
            is_node = node.owner == HOST
            port = flow.dport_before
            mark = node_port_mark(port) if is_node else service_mark(flow.dst_before, port)
            return _within(_within(Answer(mark), node), found)
        if node.owner != HOST:
            return _within(_within(Answer(None), node), found)
        return _within(_within(self._node_ports.at(flow.dport_before, time_ns), node), found)


def packed(address: Address) -> bytes:
    """An address as a record has it: IPv4 mapped into IPv6."""
    return address.packed if address.version == 6 else _MAPPED + address.packed


def vport_end(vport: VportPlan, ifname: str) -> End:
    """Who is behind a vport; without a name in the plan, after its interface."""
    pod = vport.pod or vport.workload or ifname
    workload = vport.workload or pod
    if not vport.namespace and workload in BUCKETS:
        workload = f"vport {workload}"
    is_provisional = is_mark(workload) or (not vport.namespace and workload == pod == ifname)
    return End(vport.namespace, pod, workload, is_provisional)


def _rename(history: History[_Key, End], current: Mapping[_Key, End | None]) -> set[_Key]:
    """A vport that was named after its interface, or by a mark, gets a better name: no second owner."""
    found = set()
    for key, end in current.items():
        before = history.present(key)
        if end and before and before.is_provisional and before != end:
            history.rename(key, end)
            found.add(key)
    return found


_Vport = tuple[Link, VportPlan, End]


def _vports(plan: Plan, links: Iterable[Link]) -> Iterable[_Vport]:
    for link in links:
        vport = plan.vport_for(link.name)
        if vport is not None and link.name not in plan.nic:
            yield link, vport, vport_end(vport, link.name)


def _elsewhere(names: NamesPlan) -> dict[bytes, End]:
    """Owners by address: other nodes, their pods."""
    nodes = {packed(address): HOST for node in names.nodes for address in node.addresses}
    pods = [(End(one.namespace, one.pod, one.workload or one.pod), one.addresses) for one in names.pods]
    return nodes | _owners(pods)


def _here(plan: Plan, vports: Iterable[_Vport]) -> dict[bytes, End]:
    """Owners by address: this node's pods, those too whose interface is not there."""
    named = [
        (End(one.namespace, one.pod or one.workload, one.workload or one.pod), one.addresses)
        for one in plan.vports
        if one.pod or one.workload
    ]
    return _owners([*named, *((end, vport.addresses) for _, vport, end in vports)])


def _owners(ends: Iterable[tuple[End, Sequence[Address]]]) -> dict[bytes, End]:
    found: dict[bytes, End] = {}
    for end, addresses in ends:
        for address in addresses:
            key = packed(address)
            found[key] = end if found.get(key, end) == end else AMBIGUOUS
    return found


def _service_ports(names: NamesPlan) -> dict[tuple[bytes, int], str]:
    found: dict[tuple[bytes, int], str] = {}
    for one in names.services:
        name = _service_name(one.namespace, one.name)
        for address in one.addresses:
            key = (packed(address), one.port)
            found[key] = name if found.get(key, name) == name else AMBIGUOUS_SERVICE
    return found


def _node_ports(names: NamesPlan) -> dict[int, str]:
    found: dict[int, str] = {}
    for one in names.services:
        if one.node_port is not None:
            name = _service_name(one.namespace, one.name)
            same = found.get(one.node_port, name) == name
            found[one.node_port] = name if same else AMBIGUOUS_SERVICE
    return found


def _service_name(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _network(network: Network) -> tuple[int, int]:
    """(base, mask) among the addresses of records."""
    bits = network.prefixlen + (_MAPPED_BITS if isinstance(network, IPv4Network) else 0)
    mask = ((1 << bits) - 1) << (128 - bits)
    return int.from_bytes(packed(network.network_address)), mask


def _within(answer: Answer[_Owner], other: Answer[End] | Answer[str]) -> Answer[_Owner]:
    """`answer`, as long as `other` holds too."""
    since_ns, until_ns = max(answer.since_ns, other.since_ns), min(answer.until_ns, other.until_ns)
    return replace(answer, since_ns=since_ns, until_ns=until_ns)
