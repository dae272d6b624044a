# SPDX-License-Identifier: Apache-2.0
"""Objects of the Kubernetes API (plain JSON) as what collector.snapshot keeps of them. Pure.

Fields follow the API reference of Kubernetes 1.25 and later. What is not as the reference says raises
DecodeError, and nothing else.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from collector.snapshot import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Namespace,
    Node,
    Pod,
    Service,
    ServicePort,
)

Plain = Mapping[str, Any]
ENDED: Final = ("Succeeded", "Failed")
"""Phases of a pod whose address belongs to it no more."""
_ZONE: Final = "topology.kubernetes.io/zone"
_SERVICE: Final = "kubernetes.io/service-name"
_PROXY: Final = "service.kubernetes.io/service-proxy-name"


class DecodeError(Exception):
    """An object is not what the reference says."""


@dataclass(frozen=True, slots=True)
class Owner:
    """What controls an object; empty texts: nothing."""

    kind: str = ""
    name: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class FoundPod:
    """A pod, still without its workload, and what controls it. Times are real time in ns, 0: not known."""

    pod: Pod
    owner: Owner
    started_ns: int
    """When its node took it: its addresses cannot be older."""
    ended_ns: int
    """When its last container ended, if it is over."""

    @property
    def is_over(self) -> bool:
        """Whether its addresses may be somebody else's."""
        return self.pod.phase in ENDED


@dataclass(frozen=True, slots=True)
class FoundOwner:
    """A ReplicaSet or a Job, and what controls it."""

    uid: str
    owner: Owner


def node(found: Plain) -> Node:
    """A Node."""
    meta = _meta(found)
    status = _table(found.get("status"))
    addresses = (
        _text(each.get("address")) for each in _rows(status, "addresses") if each.get("type") == "InternalIP"
    )
    spec = _table(found.get("spec"))
    networks = _texts(spec.get("podCIDRs")) or tuple(filter(None, (_text(spec.get("podCIDR")),)))
    conditions = {each.get("type"): each.get("status") for each in _rows(status, "conditions")}
    return Node(
        _name(meta),
        _text(meta.get("uid")),
        tuple(addresses),
        networks,
        _labels(meta),
        conditions.get("Ready") == "True",
    )


def namespace(found: Plain) -> Namespace:
    """A Namespace."""
    meta = _meta(found)
    return Namespace(_name(meta), _labels(meta))


def uid(found: Plain) -> str:
    """Of any object."""
    return _text(_meta(found).get("uid"))


def pod(found: Plain) -> FoundPod:
    """A Pod."""
    meta, spec, status = _meta(found), _table(found.get("spec")), _table(found.get("status"))
    rows = [_text(each.get("ip")) for each in _rows(status, "podIPs")]
    addresses = tuple(dict.fromkeys(filter(None, [*rows, _text(status.get("podIP"))])))
    owner = owner_of(meta)
    name, node_name = _name(meta), sys.intern(_text(spec.get("nodeName")))
    workload, kind = name, "Pod"
    if owner.kind == "Node":
        workload, kind = name.removesuffix(f"-{node_name}"), "StaticPod"
    elif owner.kind:
        workload, kind = owner.name, owner.kind
    made = Pod(
        uid=_required(meta, "uid"),
        namespace=sys.intern(_text(meta.get("namespace"))),
        name=name,
        node=node_name,
        addresses=addresses,
        is_on_host_network=spec.get("hostNetwork") is True,
        labels=_labels(meta),
        workload=sys.intern(workload),
        workload_kind=sys.intern(kind),
        service_account=sys.intern(_text(spec.get("serviceAccountName"))),
        phase=sys.intern(_text(status.get("phase"))),
    )
    return FoundPod(made, owner, _time_ns(status.get("startTime")), _ended_ns(status))


def owner_of(meta: Plain) -> Owner:
    """What controls the object with these metadata."""
    for each in _rows(meta, "ownerReferences"):
        if each.get("controller") is True:
            return Owner(
                sys.intern(_text(each.get("kind"))),
                sys.intern(_text(each.get("name"))),
                _text(each.get("uid")),
            )
    return Owner()


def owner(found: Plain) -> FoundOwner:
    """A ReplicaSet or a Job, as PartialObjectMetadata."""
    meta = _meta(found)
    return FoundOwner(_required(meta, "uid"), owner_of(meta))


def service(found: Plain) -> Service:
    """A Service; one that another proxy is to implement, or that has no address, keeps no addresses."""
    meta, spec = _meta(found), _table(found.get("spec"))
    status = _table(_table(found.get("status")).get("loadBalancer"))
    ingress = (each for each in _rows(status, "ingress") if each.get("ipMode") != "Proxy")
    balancer = [_text(each.get("ip")) for each in ingress]
    own = [_text(spec.get("clusterIP")), *_texts(spec.get("clusterIPs"))]
    cluster = tuple(dict.fromkeys(each for each in own if each not in ("", "None")))
    affinity = 0
    if spec.get("sessionAffinity") == "ClientIP":
        client = _table(_table(spec.get("sessionAffinityConfig")).get("clientIP"))
        affinity = _number(client.get("timeoutSeconds")) or 10_800
    is_named = spec.get("type") == "ExternalName" or _PROXY in _labels(meta)
    annotations = _table(meta.get("annotations"))
    return Service(
        namespace=sys.intern(_text(meta.get("namespace"))),
        name=_name(meta),
        type=sys.intern(_text(spec.get("type")) or "ClusterIP"),
        cluster_addresses=() if is_named else cluster,
        external_addresses=() if is_named else (*_texts(spec.get("externalIPs")), *filter(None, balancer)),
        ports=tuple(_service_port(each) for each in _rows(spec, "ports")),
        is_external_local=spec.get("externalTrafficPolicy") == "Local",
        is_internal_local=spec.get("internalTrafficPolicy") == "Local",
        affinity_s=affinity,
        traffic_distribution=_text(spec.get("trafficDistribution"))
        or _text(annotations.get("service.kubernetes.io/topology-mode")),
    )


def endpoint_slice(found: Plain) -> EndpointSlice:
    """An EndpointSlice."""
    meta = _meta(found)
    return EndpointSlice(
        sys.intern(_text(meta.get("namespace"))),
        _name(meta),
        _labels(meta).get(_SERVICE, ""),
        _text(found.get("addressType")),
        tuple(
            EndpointPort(
                _text(each.get("name")),
                sys.intern(_text(each.get("protocol")) or "TCP"),
                _number(each.get("port")),
            )
            for each in _rows(found, "ports")
        ),
        tuple(_endpoint(each) for each in _rows(found, "endpoints")),
    )


def resource_version(found: Plain) -> str:
    """Of an object or a list."""
    return _text(_meta(found).get("resourceVersion"))


def _endpoint(found: Plain) -> Endpoint:
    conditions = _table(found.get("conditions"))
    target = _table(found.get("targetRef"))
    hints = _table(found.get("hints"))
    zones, nodes = ((_text(each.get("name")) for each in _rows(hints, of)) for of in ("forZones", "forNodes"))
    is_ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    return Endpoint(
        addresses=_texts(found.get("addresses")),
        node=sys.intern(_text(found.get("nodeName"))),
        zone=sys.intern(_text(found.get("zone"))),
        zone_hints=tuple(map(sys.intern, zones)),
        pod_uid=_text(target.get("uid")) if target.get("kind") == "Pod" else "",
        is_ready=is_ready,
        is_serving=is_ready if serving is None else serving is True,
        is_terminating=conditions.get("terminating") is True,
        node_hints=tuple(map(sys.intern, nodes)),
    )


def _service_port(found: Plain) -> ServicePort:
    port = _number(found.get("port"))
    target = found.get("targetPort")
    return ServicePort(
        _text(found.get("name")),
        sys.intern(_text(found.get("protocol")) or "TCP"),
        port,
        str(target) if isinstance(target, int | str) and target else str(port),
        _number(found.get("nodePort")),
    )


def _ended_ns(status: Plain) -> int:
    ended = (
        _time_ns(_table(_table(each.get("state")).get("terminated")).get("finishedAt"))
        for each in _rows(status, "containerStatuses")
    )
    return max(ended, default=0)


def _time_ns(value: object) -> int:
    if value is None:
        return 0
    try:
        return int(datetime.fromisoformat(_text(value)).timestamp()) * 1_000_000_000
    except (ValueError, OverflowError):
        raise DecodeError(f"{value!r} is no time") from None


def _meta(found: Plain) -> Plain:
    if not isinstance(found, dict):
        raise DecodeError("it is no object")
    meta = found.get("metadata")
    if not isinstance(meta, dict):
        raise DecodeError("it has no metadata")
    return meta


def _name(meta: Plain) -> str:
    return _required(meta, "name")


def _required(meta: Plain, key: str) -> str:
    value = _text(meta.get(key))
    if not value:
        raise DecodeError(f"metadata.{key} is missing")
    return value


def _labels(meta: Plain) -> Mapping[str, str]:
    labels = _table(meta.get("labels"))
    return {sys.intern(_text(key)): sys.intern(_text(value)) for key, value in labels.items()}


def _table(value: object) -> Plain:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DecodeError(f"{type(value).__name__} where a mapping belongs")
    return value


def _rows(table: Plain, key: str) -> list[Plain]:
    value = table.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise DecodeError(f"{key} is no list of mappings")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DecodeError(f"{type(value).__name__} where a list belongs")
    return tuple(_text(each) for each in value)


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DecodeError(f"{type(value).__name__} where text belongs")
    return value


def _number(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise DecodeError(f"{type(value).__name__} where a number belongs")
    return value
