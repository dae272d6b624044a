# SPDX-License-Identifier: Apache-2.0
"""Tracers of the lab's sidecars, as data: which context they hand on, and where their spans go."""

from typing import Literal, get_args

from overhop.lab.redirect import LOOPBACK
from overhop.sidecar.filters import Data

Tracer = Literal["opentelemetry", "zipkin"]
"""`opentelemetry`: W3C; `zipkin`: B3 in several headers, and W3C."""
TRACERS: tuple[Tracer, ...] = get_args(Tracer)
SPANS_PORT = 4318
"""OTLP or Zipkin's JSON over HTTP, on the pod's loopback."""
CLUSTER = "spans"
_TYPE = "type.googleapis.com/envoy.config.trace.v3"


def tracing(tracer: Tracer, service: str) -> Data:
    """Every request makes a span (HttpConnectionManager.Tracing)."""
    provider = _zipkin() if tracer == "zipkin" else _opentelemetry(service)
    return {"random_sampling": {"value": 100}, "provider": provider}


def _opentelemetry(service: str) -> Data:
    uri = f"http://{LOOPBACK[4].address}:{SPANS_PORT}/v1/traces"
    config: Data = {
        "@type": f"{_TYPE}.OpenTelemetryConfig",
        "http_service": {"http_uri": {"uri": uri, "cluster": CLUSTER, "timeout": "2s"}},
        "service_name": service,
    }
    return {"name": "envoy.tracers.opentelemetry", "typed_config": config}


def _zipkin() -> Data:
    """Spans carry the name of the node's cluster, which is the service."""
    config: Data = {
        "@type": f"{_TYPE}.ZipkinConfig",
        "collector_cluster": CLUSTER,
        "collector_endpoint": "/api/v2/spans",
        "collector_endpoint_version": "HTTP_JSON",
        "trace_id_128bit": True,
        "shared_span_context": False,
        "trace_context_option": "USE_B3_WITH_W3C_PROPAGATION",
    }
    return {"name": "envoy.tracers.zipkin", "typed_config": config}
