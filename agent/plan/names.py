# SPDX-License-Identifier: Apache-2.0
"""The part of a plan that names what is not a vport of this node: other nodes' pods, nodes, services."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from agent.plan.yaml_document import Document, Path, Plain

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

BUCKETS = ("unknown", "host", "external", "masqueraded", "ambiguous", "other")
"""What stands for a workload where there is no pod; the namespace is empty then (docs/store.md)."""


class PlanModel(BaseModel):
    """Strict: no unknown keys, no conversions, no change after it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def listed(value: object) -> object:
    """One text stands for a list of one."""
    return [value] if isinstance(value, str) else value


def _address(value: object) -> Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        return ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(f"{value!r} is no IPv4 or IPv6 address") from None


def _network(value: object) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(value if isinstance(value, str) else "")
    except ValueError as error:
        hint = "bits of a host are set" if "host bits" in str(error) else "it looks like 10.244.0.0/16"
        raise ValueError(f"{value!r} is no IPv4 or IPv6 network: {hint}") from None


Addresses = Annotated[
    tuple[Annotated[Address, PlainValidator(_address)], ...], BeforeValidator(listed), Field(strict=False)
]
_SomeAddresses = Annotated[Addresses, Field(min_length=1)]
_Port = Annotated[int, Field(ge=1, le=65535)]
_Text = Annotated[str, Field(min_length=1)]


class PodName(PlanModel):
    """A pod of another node: whose these addresses are."""

    namespace: str = ""
    pod: _Text
    workload: str = ""
    """What the pod is one of; default: the pod itself."""
    addresses: _SomeAddresses


class NodeName(PlanModel):
    """Another node: its addresses, those of its bridge and tunnel too, are the bucket `host`."""

    name: _Text
    addresses: _SomeAddresses


class ServiceName(PlanModel):
    """One port of a service: what its clients connect to. A service of several ports is several entries."""

    namespace: str = ""
    name: _Text
    addresses: Addresses = ()
    port: _Port
    node_port: _Port | None = None
    """Where every node's address leads to the same service."""


class NamesPlan(PlanModel):
    """Names of what is not a vport of this node."""

    pods: Annotated[tuple[PodName, ...], Field(strict=False)] = ()
    nodes: Annotated[tuple[NodeName, ...], Field(strict=False)] = ()
    services: Annotated[tuple[ServiceName, ...], Field(strict=False)] = ()
    pod_networks: Annotated[
        tuple[Annotated[Network, PlainValidator(_network)], ...], BeforeValidator(listed), Field(strict=False)
    ] = ()
    """Where pods get their addresses from: what is outside is `external`. Without any it is `unknown`."""


def report_buckets(document: Document, data: dict[str, Plain]) -> None:
    """Reports workloads that would be taken for buckets of the same name."""
    names = data.get("names")
    pods = names.get("pods") if isinstance(names, dict) else None
    for path, entries in ((("vports",), data.get("vports")), (("names", "pods"), pods)):
        for at, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, dict):
                _report_bucket(document, (*path, at), entry)


def _report_bucket(document: Document, path: Path, entry: dict[str, Plain]) -> None:
    key = "workload" if entry.get("workload") else "pod"
    if not entry.get("namespace") and entry.get(key) in BUCKETS:
        document.report(
            (*path, key), f"{entry[key]!r} without a namespace stands for no pod: give a namespace"
        )
