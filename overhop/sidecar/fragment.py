# SPDX-License-Identifier: Apache-2.0
"""What is written into an Envoy's configuration by hand: parts of it, as data (pure)."""

from typing import Final

from overhop.sidecar.filters import Data, upstream_filters, whole_chain
from overhop.sidecar.protocols import OPTIONS, Protocol, protocol_options
from overhop.sidecar.wish import Wish

ROUTER: Final = "envoy.filters.http.router"
_ROUTER_TYPE: Final = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def router(wish: Wish) -> Data:
    """The router of an HTTP connection manager, for every cluster that has no upstream filters of its own."""
    chain = whole_chain(upstream_filters(wish.variant, wish.relocation))
    return {"name": ROUTER, "typed_config": {"@type": _ROUTER_TYPE, "upstream_http_filters": chain}}


def cluster_options(wish: Wish, protocol: Protocol) -> Data:
    """What a cluster of that protocol has."""
    filters = upstream_filters(wish.variant, wish.relocation)
    return {"typed_extension_protocol_options": {OPTIONS: protocol_options(protocol, filters)}}


def envoy_fragment(wish: Wish) -> Data:
    """The last of `http_filters`, or the part of `clusters`; the keys say where it belongs."""
    if not wish.protocols:
        return {"http_filters": [router(wish)]}
    return {
        "clusters": [
            {"name": f"a cluster that speaks {each.protocol}", **cluster_options(wish, each.protocol)}
            for each in wish.protocols
        ]
    }
