# SPDX-License-Identifier: Apache-2.0
"""What the cluster is, kept up to date by reflectors, read by everybody else."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Literal

from collector.cluster.addresses import AddressBook, Whose
from collector.cluster.pods import PodSink
from collector.cluster.sinks import KeptSink, Key, OwnerSink
from collector.snapshot import EndpointSlice, Namespace, Node, NodeInventory, Pod, Service, Snapshot

Part = Literal["nodes", "namespaces", "pods", "services", "slices", "inventories"]
ID_CHARS: Final = 8


class ClusterState:
    """Threads may share it. `on_change` is called, with what changed, by the thread that changed it."""

    def __init__(
        self,
        cluster: str = "",
        *,
        on_change: Callable[[Part], object] = id,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._lock = threading.RLock()
        self._cluster = cluster
        self._on_change = on_change
        self._book = AddressBook()
        self._inventories: dict[str, NodeInventory] = {}
        self._node_at: dict[str, str] = {}
        self._service_at: dict[str, Key] = {}
        self._service_of_port: dict[int, Key] = {}
        self._own_address_of: dict[str, str] = {}
        self._networks: tuple[IPv4Network | IPv6Network, ...] | None = None
        """Of pods; empty: not all are known; None: to be found again."""
        self.nodes: KeptSink[str, Node] = KeptSink(
            self._lock, _last, partial(on_change, "nodes"), self._index_node
        )
        self.namespaces: KeptSink[str, Namespace] = KeptSink(
            self._lock, _last, partial(on_change, "namespaces")
        )
        self.services: KeptSink[Key, Service] = KeptSink(
            self._lock, _whole, partial(on_change, "services"), self._index_service
        )
        self.slices: KeptSink[Key, EndpointSlice] = KeptSink(self._lock, _whole, partial(on_change, "slices"))
        self.pods = PodSink(self._lock, self._book, partial(on_change, "pods"), now_ns)
        self.replica_sets = OwnerSink(self._lock, self.pods)
        self.jobs = OwnerSink(self._lock, self.pods)

    @property
    def cluster(self) -> str:
        """Its name: configured, else the first characters of the uid of kube-system; empty: not known yet."""
        return self._cluster

    def identified(self, uid: str) -> None:
        """kube-system has this uid."""
        self._cluster = self._cluster or uid[:ID_CHARS]

    def snapshot(self) -> Snapshot:
        """All of it now; it does not change any more."""
        with self._lock:
            return Snapshot(
                self._cluster,
                dict(self.nodes.kept),
                dict(self.namespaces.kept),
                dict(self.pods.kept),
                dict(self.services.kept),
                dict(self.slices.kept),
                dict(self._inventories),
            )

    def planning(self) -> Snapshot:
        """What plans depend on only: nodes, namespaces, inventories."""
        with self._lock:
            inventories = dict(self._inventories)
            nodes, namespaces = dict(self.nodes.kept), dict(self.namespaces.kept)
            return Snapshot(self._cluster, nodes, namespaces, inventories=inventories)

    def put_inventory(self, inventory: NodeInventory) -> None:
        """What a node's agent says now."""
        with self._lock:
            before = self._inventories.get(inventory.node)
            if before == inventory:
                return
            self._inventories[inventory.node] = inventory
            self._index_own(before, inventory)
        self._on_change("inventories")

    def forget_inventories(self) -> None:
        """What agents said is old; they are to say it again."""
        with self._lock:
            self._inventories.clear()
        self._on_change("inventories")

    def inventory_of(self, node: str) -> NodeInventory | None:
        """What a node's agent said last."""
        return self._inventories.get(node)

    def service_at(self, address: str) -> Service | None:
        """The service that has this address."""
        with self._lock:
            key = self._service_at.get(address)
            return None if key is None else self.services.kept.get(key)

    def service_of_port(self, node_port: int) -> Service | None:
        """The service that has this node port."""
        with self._lock:
            key = self._service_of_port.get(node_port)
            return None if key is None else self.services.kept.get(key)

    def node_at(self, address: str) -> Node | None:
        """The node that has this address."""
        with self._lock:
            name = self._node_at.get(address) or self._own_address_of.get(address, "")
            return self.nodes.kept.get(name)

    def whose(self, address: str, from_ns: int, until_ns: int) -> tuple[Whose, Pod | None]:
        """Which pod had an address from one time to another (real time in ns)."""
        with self._lock:
            found = self._book.whose(address, from_ns, until_ns)
            return found, None if found.interval is None else self.pods.known(found.interval.uid)

    def is_outside(self, address: IPv4Address | IPv6Address) -> bool:
        """No node has pods there; False too where not all nodes say where theirs are."""
        with self._lock:
            if self._networks is None:
                nodes = self.nodes.kept.values()
                texts = {each for node in nodes for each in node.pod_cidrs}
                has_all = bool(texts) and all(node.pod_cidrs for node in nodes)
                self._networks = tuple(_networks(texts)) if has_all else ()
            return bool(self._networks) and not any(address in each for each in self._networks)

    def pod_networks(self) -> tuple[str, ...]:
        """Where nodes have their pods' addresses from, as far as they say."""
        with self._lock:
            return tuple(sorted({each for node in self.nodes.kept.values() for each in node.pod_cidrs}))

    def shared_addresses(self) -> dict[str, tuple[str, ...]]:
        """Addresses that several pods have now, and their uids."""
        with self._lock:
            return self._book.shared

    def _index_node(self, before: Node | None, after: Node | None) -> None:
        self._networks = None
        for each in () if before is None else before.addresses:
            self._node_at.pop(each, None)
        if after is not None:
            self._node_at |= dict.fromkeys(after.addresses, after.name)
        elif before is not None:
            self._index_own(self._inventories.pop(before.name, None), None)

    def _index_own(self, before: NodeInventory | None, after: NodeInventory | None) -> None:
        """Addresses of bridges and tunnels; those that the API says of any node count before."""
        if before is not None:
            for each in before.addresses:
                if self._own_address_of.get(each) == before.node:
                    del self._own_address_of[each]
        if after is not None:
            self._own_address_of |= dict.fromkeys(after.addresses, after.node)

    def _index_service(self, before: Service | None, after: Service | None) -> None:
        for each in _addresses(before):
            self._service_at.pop(each, None)
        for port in _node_ports(before):
            self._service_of_port.pop(port, None)
        if after is not None:
            key = (after.namespace, after.name)
            self._service_at |= dict.fromkeys(_addresses(after), key)
            self._service_of_port |= dict.fromkeys(_node_ports(after), key)


def _node_ports(service: Service | None) -> tuple[int, ...]:
    return () if service is None else tuple(each.node_port for each in service.ports if each.node_port)


def _networks(texts: Iterable[str]) -> Iterator[IPv4Network | IPv6Network]:
    for each in texts:
        with suppress(ValueError):
            yield ip_network(each, strict=False)


def _addresses(service: Service | None) -> tuple[str, ...]:
    return () if service is None else (*service.cluster_addresses, *service.external_addresses)


def _last(key: Key) -> str:
    return key[1]


def _whole(key: Key) -> Key:
    return key
