# SPDX-License-Identifier: Apache-2.0
"""What relocate.lua does to requests of HTTP/1.1 in a real Envoy: heads as the server gets them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from overhop.sidecar.contexts import Relocation
from overhop.sidecar.filters import upstream_filters, whole_chain
from tests.e2e.envoy import require_envoy
from tests.sidecar.proxy import Proxy, cluster, envoy, exchange, listener
from tests.sidecar.recorder import Recorder, recording_http1

TRACEPARENT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[tuple[Proxy, Recorder]]:
    """Listener `moved` with the filter and `stock` without lead to the same server."""
    require_envoy()
    h1: dict[str, object] = {"explicit_http_config": {"http_protocol_options": {}}}
    chain = {"http_filters": whole_chain(upstream_filters("lua", Relocation()))}
    with recording_http1() as server:
        clusters = [cluster("stock", [server.port], h1), cluster("moved", [server.port], h1 | chain)]
        listeners = [listener(name, {"cluster": name}) for name in ("stock", "moved")]
        with envoy(tmp_path, listeners, clusters) as proxy:
            yield proxy, server


def heads(town: tuple[Proxy, Recorder], lines: bytes, start: bytes = b"GET / HTTP/1.1\r\n") -> list[bytes]:
    """What the server gets of the same request, stock and moved."""
    proxy, server = town
    server.heads.clear()
    for name in ("stock", "moved"):
        answer = exchange(proxy.ports[name], start + b"host: shop\r\n" + lines + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    return server.heads


def test_relocation_puts_the_context_behind_host(town: tuple[Proxy, Recorder]) -> None:
    stock, moved = heads(town, b"accept: */*\r\nx-one: 1\r\n" + TRACEPARENT)
    proto = b"x-forwarded-proto: http\r\n"
    assert stock == (
        b"GET / HTTP/1.1\r\nhost: shop\r\naccept: */*\r\nx-one: 1\r\n" + TRACEPARENT + proto + b"\r\n"
    )
    assert moved == (
        b"GET / HTTP/1.1\r\nhost: shop\r\n" + TRACEPARENT + b"accept: */*\r\nx-one: 1\r\n" + proto + b"\r\n"
    )
