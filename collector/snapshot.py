# SPDX-License-Identifier: Apache-2.0
"""What the whole cluster is at one moment: objects of the Kubernetes API, and what nodes say. Pure data.

Fields are those that planning, naming and the search for NAT drift need; nothing else of an object is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster, by the API."""

    name: str
    uid: str
    addresses: tuple[str, ...]
    """Its internal ones."""
    pod_cidrs: tuple[str, ...] = ()
    labels: Labels = field(default_factory=dict)
    is_ready: bool = True


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and what policies may select it by."""

    name: str
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that was given a node. `workload`: what owns it in the end, a Deployment, no ReplicaSet."""

    uid: str
    namespace: str
    name: str
    node: str
    addresses: tuple[str, ...] = ()
    is_on_host_network: bool = False
    labels: Labels = field(default_factory=dict)
    workload: str = ""
    workload_kind: str = ""
    service_account: str = ""
    phase: str = ""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a service. `target`: number or name of the port in the pods; `node_port` 0: none."""

    name: str
    protocol: str
    port: int
    target: str
    node_port: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A service. `type`: ClusterIP, NodePort, LoadBalancer; `affinity_s`: of client addresses, 0 without."""

    namespace: str
    name: str
    type: str
    cluster_addresses: tuple[str, ...] = ()
    external_addresses: tuple[str, ...] = ()
    """External IPs and those of the load balancer, less those that it serves itself (ipMode: Proxy)."""
    ports: tuple[ServicePort, ...] = ()
    is_external_local: bool = False
    """externalTrafficPolicy: Local."""
    is_internal_local: bool = False
    """internalTrafficPolicy: Local."""
    affinity_s: int = 0
    traffic_distribution: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One back end of a slice."""

    addresses: tuple[str, ...]
    node: str = ""
    zone: str = ""
    zone_hints: tuple[str, ...] = ()
    pod_uid: str = ""
    is_ready: bool = True
    is_serving: bool = True
    is_terminating: bool = False
    node_hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointPort:
    """A port of all endpoints of a slice."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Some of the back ends of a service: it may have several slices, at least one of each family."""

    namespace: str
    name: str
    service: str
    family: str
    """IPv4 or IPv6."""
    ports: tuple[EndpointPort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Overlay:
    """A tunnel device of a node. `kind`: vxlan, geneve, ipip, gre; `number`: VNI; `port`: UDP port."""

    name: str
    kind: str
    number: int = 0
    port: int = 0
    mtu_bytes: int = 0
    over: str = ""
    """The device beneath."""


@dataclass(frozen=True, slots=True)
class NodeInventory:
    """What an agent says of its node, as far as plans depend on it."""

    node: str
    nic: tuple[str, ...] = ()
    nic_problem: str = ""
    """Why there is none, or none that can be traced."""
    overlays: tuple[Overlay, ...] = ()
    contract: int = 1
    """The newest plan contract that the agent understands."""
    abilities: Mapping[str, bool] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    """All of the node's own, those of bridges and tunnels too."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it. Mappings by name (nodes, namespaces, inventories), uid (pods), or (namespace, name)."""

    cluster: str
    nodes: Mapping[str, Node] = field(default_factory=dict)
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    pods: Mapping[str, Pod] = field(default_factory=dict)
    services: Mapping[tuple[str, str], Service] = field(default_factory=dict)
    slices: Mapping[tuple[str, str], EndpointSlice] = field(default_factory=dict)
    inventories: Mapping[str, NodeInventory] = field(default_factory=dict)
