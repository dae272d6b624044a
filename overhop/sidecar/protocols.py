# SPDX-License-Identifier: Apache-2.0
"""What protocol a cluster speaks, and its filters beside it (HttpProtocolOptions, pure)."""

from collections.abc import Sequence
from typing import Final, Literal, get_args

from overhop.sidecar.filters import Data, whole_chain

Protocol = Literal["h1", "h2", "auto", "preserve-case", "auto-preserve-case"]
"""`h1`: HTTP/1.1; `h2`: HTTP/2; `auto`: as the client came; `preserve-case`: HTTP/1.1 with names in the case
in which they came. Istio 1.28 to 1.30 generates them in pilot/pkg/networking/core/cluster_builder.go."""
PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_PRESERVE_CASE: Final = "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"


def protocol_options(protocol: Protocol, filters: Sequence[Data]) -> Data:
    """HttpProtocolOptions with the filters before the codec."""
    return {
        "@type": f"type.googleapis.com/{OPTIONS}",
        **upstream_protocol(protocol),
        "http_filters": whole_chain(list(filters)),
    }


def upstream_protocol(protocol: Protocol) -> Data:
    """The choice of HttpProtocolOptions alone."""
    http1 = preserved_case() if protocol.endswith("preserve-case") else {}
    if protocol.startswith("auto"):
        both: Data = {"http_protocol_options": http1, "http2_protocol_options": {}}
        return {"use_downstream_protocol_config": both}
    if protocol == "h2":
        return {"explicit_http_config": {"http2_protocol_options": {}}}
    return {"explicit_http_config": {"http_protocol_options": http1}}


def preserved_case() -> Data:
    """Http1ProtocolOptions that remember the case of names."""
    formatter = {
        "name": "preserve_case",
        "typed_config": {"@type": f"type.googleapis.com/{_PRESERVE_CASE}"},
    }
    return {"header_key_format": {"stateful_formatter": formatter}}


def with_options(cluster: Data, protocol: Protocol, filters: Sequence[Data]) -> Data:
    """The cluster, which has no options yet, with the filters."""
    return cluster | {"typed_extension_protocol_options": {OPTIONS: protocol_options(protocol, filters)}}
