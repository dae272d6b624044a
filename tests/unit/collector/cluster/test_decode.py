# SPDX-License-Identifier: Apache-2.0
"""Objects as Kubernetes' API reference describes them."""

import copy
from contextlib import suppress
from typing import Any

import pytest

from collector.cluster import decode
from collector.cluster.decode import DecodeError, Owner
from collector.snapshot import Endpoint, EndpointPort, ServicePort

POD: dict[str, Any] = {
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "uid": "u1",
        "labels": {"app": "web"},
        "ownerReferences": [
            {"kind": "Other", "name": "no", "uid": "o0"},
            {"kind": "ReplicaSet", "name": "web", "uid": "o1", "controller": True},
        ],
    },
    "spec": {"nodeName": "n1", "serviceAccountName": "sa"},
    "status": {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
        "startTime": "2026-01-02T03:04:05Z",
    },
}


def test_pod_keeps_what_naming_needs() -> None:
    found = decode.pod(POD)
    assert found.owner == Owner("ReplicaSet", "web", "o1")
    assert found.started_ns == 1_767_323_045 * 1_000_000_000
    assert not found.is_over
    pod = found.pod
    assert (pod.uid, pod.namespace, pod.name, pod.node) == ("u1", "shop", "web-1", "n1")
    assert pod.addresses == ("10.0.0.1", "fd00::1")
    assert pod.service_account == "sa"


def test_static_pod_is_called_without_its_node() -> None:
    found = copy.deepcopy(POD)
    found["metadata"] |= {
        "name": "proxy-n1",
        "ownerReferences": [{"kind": "Node", "name": "n1", "uid": "n", "controller": True}],
    }
    pod = decode.pod(found).pod
    assert (pod.workload_kind, pod.workload) == ("StaticPod", "proxy")


def test_pod_that_is_over_says_when() -> None:
    found = copy.deepcopy(POD)
    state = {"terminated": {"finishedAt": "2026-01-02T03:04:06Z"}}
    found["status"] |= {
        "phase": "Succeeded",
        "containerStatuses": [{"state": state}, {"state": {"running": {}}}],
    }
    assert decode.pod(found).is_over
    assert decode.pod(found).ended_ns == 1_767_323_046 * 1_000_000_000


def test_service_keeps_addresses_ports_and_policies() -> None:
    found = decode.service(
        {
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.96.0.5",
                "clusterIPs": ["10.96.0.5", "fd00:1::5"],
                "externalIPs": ["192.0.2.1"],
                "externalTrafficPolicy": "Local",
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
                    {"port": 53, "protocol": "UDP"},
                ],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}, {"hostname": "lb.example"}]}},
        }
    )
    assert found.cluster_addresses == ("10.96.0.5", "fd00:1::5")
    assert found.external_addresses == ("192.0.2.1", "198.51.100.7")
    assert found.ports == (ServicePort("http", "TCP", 80, "web", 30080), ServicePort("", "UDP", 53, "53"))
    assert found.is_external_local
    assert not found.is_internal_local
    assert found.affinity_s == 60


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ({"clusterIP": "None"}, {}),
        ({"type": "ExternalName", "externalName": "x.example"}, {}),
        ({"clusterIP": "10.96.0.9"}, {"service.kubernetes.io/service-proxy-name": "mine"}),
    ],
)
def test_service_that_kube_proxy_does_not_serve_has_no_addresses(spec: Any, labels: Any) -> None:  # noqa: ANN401
    found = decode.service({"metadata": {"name": "x", "namespace": "y", "labels": labels}, "spec": spec})
    assert found.cluster_addresses == ()


def test_slice_without_conditions_is_ready_as_the_reference_says() -> None:
    found = decode.endpoint_slice(
        {
            "metadata": {
                "name": "web-x",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "uid": "u1"}, "nodeName": "n1"},
                {
                    "addresses": ["10.0.0.2"],
                    "conditions": {"ready": False, "serving": True, "terminating": True},
                    "zone": "z1",
                    "hints": {"forZones": [{"name": "z2"}]},
                },
            ],
        }
    )
    assert found.service == "web"
    assert found.ports == (EndpointPort("http", "TCP", 8080),)
    assert found.endpoints == (
        Endpoint(("10.0.0.1",), node="n1", pod_uid="u1"),
        Endpoint(
            ("10.0.0.2",), zone="z1", zone_hints=("z2",), is_ready=False, is_serving=True, is_terminating=True
        ),
    )


def test_node_has_its_internal_addresses() -> None:
    found = decode.node(
        {
            "metadata": {"name": "n1", "uid": "u", "labels": {"zone": "a"}},
            "spec": {"podCIDR": "10.244.0.0/24"},
            "status": {
                "addresses": [
                    {"type": "ExternalIP", "address": "192.0.2.9"},
                    {"type": "InternalIP", "address": "10.1.0.1"},
                    {"type": "Hostname", "address": "n1"},
                ],
                "conditions": [{"type": "Ready", "status": "Unknown"}],
            },
        }
    )
    assert (found.addresses, found.pod_cidrs, found.is_ready) == (("10.1.0.1",), ("10.244.0.0/24",), False)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in _places(each, (*path, key)))]


@pytest.mark.parametrize("wrong", [7, "text", [], {}, None, [None], [[]], True, 1e400])
def test_pod_that_is_wrong_anywhere_is_decoded_or_refused_in_words(wrong: Any) -> None:  # noqa: ANN401
    for place in _places(POD):
        found: Any = copy.deepcopy(POD)
        inner = found
        for key in place[:-1]:
            inner = inner[key]
        if place:
            inner[place[-1]] = wrong
        else:
            found = wrong
        with suppress(DecodeError):
            decode.pod(found)
