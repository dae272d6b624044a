# SPDX-License-Identifier: Apache-2.0
"""An Istio EnvoyFilter that puts the upstream filters into every proxy that it selects, as data (pure).

By default they go into the router of each HTTP connection manager, whose configuration Istio merges field by
field (pilot: MergeAnyWithAny), so that no cluster loses what Istio generated for it. Where a cluster has
upstream filters of its own the router's do not count: for these a patch restates the cluster's
HttpProtocolOptions as Istio generates them for its protocol, because Istio replaces an entry of that map as a
whole (istio #42424, #53685, #57342).
"""

import hashlib
import json
from typing import Final

from overhop.sidecar.filters import Data
from overhop.sidecar.fragment import ROUTER, cluster_options, router
from overhop.sidecar.wish import OfCluster, Wish

VERSION: Final = "networking.istio.io/v1alpha3"
KIND: Final = "EnvoyFilter"
NAME: Final = "overhop-relocation"
LABELS: Final = {"app.kubernetes.io/name": "overhop", "app.kubernetes.io/component": "sidecar"}
OLDEST: Final = "1.28"
PROXIES: Final = r"^1\.(2[89]|[3-9][0-9])\..*"
"""Proxies of Istio since OLDEST: older ones are left as they are. One that does not know Lua as an upstream
filter would refuse its listeners."""
CONTEXTS: Final = ("SIDECAR_OUTBOUND", "GATEWAY")
"""What a sidecar hands to its own application is on no wire: to move it again would be paid for nothing."""
_MANAGER: Final = "envoy.filters.network.http_connection_manager"


def envoy_filter(wish: Wish) -> Data:
    """The custom resource."""
    by_clusters = [_of_cluster(wish, each) for each in wish.protocols]
    patches = by_clusters or [_of_router(wish, context) for context in CONTEXTS]
    spec: Data = {"workloadSelector": {"labels": dict(wish.selector)}} if wish.selector else {}
    meta = {"name": name_of(wish), "namespace": wish.namespace, "labels": dict(LABELS)}
    spec["configPatches"] = patches
    return {"apiVersion": VERSION, "kind": KIND, "metadata": meta, "spec": spec}


def name_of(wish: Wish) -> str:
    """One for each selection of pods, so that several can be beside each other in a namespace."""
    if not wish.selector:
        return NAME
    selection = json.dumps(dict(wish.selector), sort_keys=True)
    return f"{NAME}-{hashlib.sha256(selection.encode()).hexdigest()[:8]}"


def _of_router(wish: Wish, context: str) -> Data:
    within = {"filterChain": {"filter": {"name": _MANAGER, "subFilter": {"name": ROUTER}}}}
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": context, "proxy": {"proxyVersion": PROXIES}, "listener": within},
        "patch": {"operation": "MERGE", "value": router(wish)},
    }


def _of_cluster(wish: Wish, which: OfCluster) -> Data:
    cluster: Data = {"service": which.service}
    if which.port is not None:
        cluster["portNumber"] = which.port
    return {
        "applyTo": "CLUSTER",
        "match": {"context": "SIDECAR_OUTBOUND", "proxy": {"proxyVersion": PROXIES}, "cluster": cluster},
        "patch": {"operation": "MERGE", "value": cluster_options(wish, which.protocol)},
    }
