# SPDX-License-Identifier: Apache-2.0
"""What Istio makes of an EnvoyFilter: clusters as pilot generates them, and its MERGE.

Clusters: pilot/pkg/networking/core/cluster_builder.go of Istio 1.28 to 1.30 (setH2Options,
setUseDownstreamProtocol, setUpstreamProtocol, build), written by hand, with end points in place of EDS.
MERGE: EnvoyFilter's documentation and pkg/proto/merge/merge.go: messages are merged field by field, lists
appended, entries of maps replaced as a whole; of an HTTP filter also what is within its typed_config
(envoyfilter/listener_patch.go, mergeHTTPFilter).
"""

import copy
from collections.abc import Mapping
from typing import Any

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
TYPE = f"type.googleapis.com/{OPTIONS}"
CASE = {
    "header_key_format": {
        "stateful_formatter": {
            "name": "preserve_case",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3"
                ".PreserveCaseFormatterConfig"
            },
        }
    }
}
GENERATED: Mapping[str, Any] = {
    "h1": None,  # a port named http has none
    "h2": {"@type": TYPE, "explicit_http_config": {"http2_protocol_options": {}}},
    "auto": {
        "@type": TYPE,
        "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
    },
    "preserve-case": {"@type": TYPE, "explicit_http_config": {"http_protocol_options": CASE}},
    "auto-preserve-case": {
        "@type": TYPE,
        "use_downstream_protocol_config": {"http_protocol_options": CASE, "http2_protocol_options": {}},
    },
}
"""HttpProtocolOptions by class of cluster."""
_MAPS = frozenset(("typed_extension_protocol_options",))
Object = dict[str, Any]


def generated(protocol: str, port: int) -> Object:
    """A cluster outbound|9080||reviews.shop.svc.cluster.local."""
    name = "outbound|9080||reviews.shop.svc.cluster.local"
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    metadata = {
        "services": [{"host": "reviews.shop.svc.cluster.local", "name": "reviews", "namespace": "shop"}]
    }
    most = 4294967295
    limits = {
        "max_connections": most,
        "max_pending_requests": most,
        "max_requests": most,
        "max_retries": most,
    }
    cluster: Object = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [limits | {"track_remaining": True}]},
        "common_lb_config": {},
        "metadata": {"filter_metadata": {"istio": metadata}},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if GENERATED[protocol] is not None:
        cluster["typed_extension_protocol_options"] = {OPTIONS: GENERATED[protocol]}
    return cluster


def patched(listener: Object, cluster: Object, envoy_filter: Object) -> tuple[Object, Object]:
    """Both as sidecars get them that the filter selects, the listener outbound."""
    listener, cluster = copy.deepcopy(listener), copy.deepcopy(cluster)
    for each in envoy_filter["spec"]["configPatches"]:
        assert each["patch"]["operation"] == "MERGE"
        if each["applyTo"] == "CLUSTER":
            if _is_meant(each["match"]["cluster"], cluster["name"]):
                _merge(cluster, each["patch"]["value"])
        elif each["match"]["context"] == "SIDECAR_OUTBOUND":
            wanted = each["match"]["listener"]["filterChain"]["filter"]
            _merge_http_filter(listener, wanted, each["patch"]["value"])
    return listener, cluster


def _is_meant(match: Object, name: str) -> bool:
    """By service and port, which are in the name: direction|port|subset|host."""
    _, port, _, host = name.split("|")
    return match["service"] == host and str(match.get("portNumber", port)) == port


def _merge_http_filter(listener: Object, wanted: Object, value: Object) -> None:
    for chain in listener["filter_chains"]:
        for network in chain["filters"]:
            if network["name"] != wanted["name"]:
                continue
            for http in network["typed_config"]["http_filters"]:
                if http["name"] == wanted["subFilter"]["name"]:
                    assert http["typed_config"]["@type"] == value["typed_config"]["@type"]
                    _merge(http["typed_config"], value["typed_config"])


def _merge(into: Object, value: Object) -> None:
    for key, each in value.items():
        if key in _MAPS:
            into[key] = into.get(key, {}) | copy.deepcopy(each)
        elif isinstance(each, dict) and isinstance(into.get(key), dict):
            _merge(into[key], each)
        elif isinstance(each, list):
            into[key] = into.get(key, []) + copy.deepcopy(each)
        else:
            into[key] = copy.deepcopy(each)
