# SPDX-License-Identifier: Apache-2.0
"""The EnvoyFilter merged as Istio does it, and requests through a real Envoy that runs the result."""

from pathlib import Path
from typing import Any

import pytest

from overhop.sidecar.istio import envoy_filter
from overhop.sidecar.protocols import PROTOCOLS
from overhop.sidecar.wish import Given, parse_wish
from tests.e2e.envoy import require_envoy
from tests.sidecar.istio import GENERATED, OPTIONS, generated, patched
from tests.sidecar.proxy import call, envoy, exchange, listener, validate
from tests.sidecar.recorder import recording, without_pseudo

NAME = "outbound|9080||reviews.shop.svc.cluster.local"
VALUE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
GRPC = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/shop.Cart/Get"),
    (b":authority", b"shop"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"traceparent", VALUE),
]
SPEAKS_HTTP1 = {"h1", "auto", "preserve-case", "auto-preserve-case"}
SPEAKS_HTTP2 = {"h2", "auto", "auto-preserve-case"}
MOVED = b"GET / HTTP/1.1\r\nhost: shop\r\ntraceparent: %s\r\nx-one: 1\r\n" % VALUE
MOVED_WITH_CASE = b"GET / HTTP/1.1\r\nHost: shop\r\nTraceparent: %s\r\nX-One: 1\r\n" % VALUE


@pytest.fixture(autouse=True)
def program() -> None:
    require_envoy()


def rendered(*protocols: str) -> dict[str, Any]:
    return envoy_filter(parse_wish(Given("istio", protocols=protocols)))


def came_case(protocol: str) -> dict[str, Any]:
    """Of the listener: remembers the case of names where the mesh is told to."""
    if not protocol.endswith("preserve-case"):
        return {}
    return {
        "http_protocol_options": GENERATED["preserve-case"]["explicit_http_config"]["http_protocol_options"]
    }


@pytest.mark.parametrize("by", ["router", "cluster"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_envoy_filter_merged_by_istio_keeps_the_protocol_and_moves_the_context(
    protocol: str, by: str, tmp_path: Path
) -> None:
    asked = () if by == "router" else (f"{protocol}=reviews.shop.svc.cluster.local:9080",)
    with recording() as server:
        came, cluster = patched(
            listener("out", {"cluster": NAME}, **came_case(protocol)),
            generated(protocol, server.port),
            rendered(*asked),
        )
        assert validate({"static_resources": {"listeners": [came], "clusters": [cluster]}}) == ""
        with envoy(tmp_path, [came], [cluster]) as proxy:
            if protocol in SPEAKS_HTTP1:
                request = b"GET / HTTP/1.1\r\nHost: shop\r\nX-One: 1\r\nTraceparent: %s\r\n\r\n" % VALUE
                assert exchange(proxy.ports["out"], request).startswith(b"HTTP/1.1 200 OK\r\n")
            if protocol in SPEAKS_HTTP2:
                answer = call(proxy.ports["out"], GRPC, b"\0\0\0\0\2hi")
                assert answer == (b"\0\0\0\0\2ok", [(b"grpc-status", b"0")])
    if protocol in SPEAKS_HTTP1:
        (head,) = server.heads
        assert head.startswith(MOVED_WITH_CASE if protocol.endswith("preserve-case") else MOVED)
    if protocol in SPEAKS_HTTP2:
        (fields,) = server.fields
        assert without_pseudo(fields)[:3] == [GRPC[6], GRPC[4], GRPC[5]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_envoy_filter_by_clusters_restates_what_istio_generates(protocol: str) -> None:
    _, cluster = patched(
        listener("out", {"cluster": NAME}),
        generated(protocol, 80),
        rendered(f"{protocol}=reviews.shop.svc.cluster.local"),
    )
    options = cluster["typed_extension_protocol_options"][OPTIONS]
    assert [each["name"] for each in options.pop("http_filters")] == [
        "overhop.relocate.lua",
        "envoy.filters.http.upstream_codec",
    ]
    # Envoy takes a cluster without options for one of HTTP/1.1; with them it must be said.
    said = {"@type": f"type.googleapis.com/{OPTIONS}", "explicit_http_config": {"http_protocol_options": {}}}
    assert options == (GENERATED[protocol] or said)


def test_envoy_filter_by_the_router_touches_no_cluster() -> None:
    before = generated("h2", 80)
    _, after = patched(listener("out", {"cluster": NAME}), before, rendered())
    assert after == before


def test_envoy_filter_of_one_service_leaves_others_alone() -> None:
    before = generated("h2", 80)
    _, after = patched(
        listener("out", {"cluster": NAME}), before, rendered("h1=ratings.shop.svc.cluster.local")
    )
    assert after == before


def test_relocation_by_the_router_that_fails_is_counted_by_the_listener(tmp_path: Path) -> None:
    broken = rendered()
    router = broken["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]
    lua = router["upstream_http_filters"][0]["typed_config"]["default_source_code"]
    lua["inline_string"] += "\nfunction envoy_on_request(handle) error('broken') end\n"
    with recording() as server:
        came, cluster = patched(listener("out", {"cluster": NAME}), generated("h1", server.port), broken)
        with envoy(tmp_path, [came], [cluster]) as proxy:
            request = b"GET / HTTP/1.1\r\nhost: shop\r\na: 1\r\ntraceparent: %s\r\n\r\n" % VALUE
            assert exchange(proxy.ports["out"], request).startswith(b"HTTP/1.1 200 OK\r\n")
            assert proxy.statistic("http.outlua.errors") == 1
    assert server.heads[0].startswith(b"GET / HTTP/1.1\r\nhost: shop\r\na: 1\r\ntraceparent: %s" % VALUE)
