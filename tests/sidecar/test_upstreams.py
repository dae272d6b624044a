# SPDX-License-Identifier: Apache-2.0
"""Either filter where a request goes out more than once, in another protocol, or is no request any more."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from overhop.sidecar.filters import Data
from overhop.sidecar.protocols import upstream_protocol
from tests.e2e.envoy import require_envoy
from tests.kernel.leaks import wait_until
from tests.sidecar.filtering import Filtering
from tests.sidecar.proxy import Proxy, call, exchange, listener
from tests.sidecar.recorder import HEAD_END, OK, Recorder, recording_http1, recording_http2, without_pseudo

VALUE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = b"GET /x HTTP/1.1\r\nhost: shop\r\na: 1\r\ntraceparent: %s\r\n\r\n" % VALUE
MOVED = b"GET /x HTTP/1.1\r\nhost: shop\r\ntraceparent: %s\r\na: 1\r\n" % VALUE


@pytest.fixture(autouse=True)
def program() -> None:
    require_envoy()


@contextmanager
def proxied(filtering: Filtering, server: Recorder, route: Data, **manager: object) -> Iterator[Proxy]:
    """Listener `moved` leads over HTTP/1.1 to the server, by a cluster of that name."""
    listeners = [listener("moved", {"cluster": "moved"} | route, **manager)]
    with filtering.envoy(listeners, [filtering.cluster("moved", server, upstream_protocol("h1"))]) as proxy:
        yield proxy


def test_relocation_of_retries_leads_in_each(filtering: Filtering) -> None:
    answers = iter([b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"] * 2 + [OK])
    policy: Data = {"retry_policy": {"retry_on": "5xx", "num_retries": 3}}
    with recording_http1(lambda _: next(answers)) as server, proxied(filtering, server, policy) as proxy:
        assert exchange(proxy.ports["moved"], REQUEST).startswith(b"HTTP/1.1 200 OK\r\n")
    assert [head.startswith(MOVED) for head in server.heads] == [True, True, True]


def test_relocation_of_hedged_requests_leads_in_each(filtering: Filtering) -> None:
    answers = iter([b"", OK])  # the first is never answered: its time is over, a second goes out beside it
    policy: Data = {
        "retry_policy": {"retry_on": "5xx", "num_retries": 2, "per_try_timeout": "0.3s"},
        "hedge_policy": {"hedge_on_per_try_timeout": True},
    }
    with recording_http1(lambda _: next(answers)) as server, proxied(filtering, server, policy) as proxy:
        assert exchange(proxy.ports["moved"], REQUEST).startswith(b"HTTP/1.1 200 OK\r\n")
    assert [head.startswith(MOVED) for head in server.heads] == [True, True]


def test_relocation_of_a_shadow_leads_in_both(filtering: Filtering) -> None:
    mirrored: Data = {
        "cluster": "moved",
        "request_mirror_policies": [
            {"cluster": "shadow", "runtime_fraction": {"default_value": {"numerator": 100}}}
        ],
    }
    h1 = upstream_protocol("h1")
    with recording_http1() as server, recording_http1() as shadow:
        clusters = [filtering.cluster("moved", server, h1), filtering.cluster("shadow", shadow, h1)]
        with filtering.envoy([listener("moved", mirrored)], clusters) as proxy:
            assert exchange(proxy.ports["moved"], REQUEST).startswith(b"HTTP/1.1 200 OK\r\n")
            wait_until(lambda: len(shadow.heads) == 1, "the shadow arrived")
    assert server.heads[0].startswith(MOVED)
    assert shadow.heads[0].startswith(MOVED.replace(b"host: shop", b"host: shop-shadow"))


def test_relocation_of_an_upgrade_keeps_it_one(filtering: Filtering) -> None:
    request = (
        b"GET /ws HTTP/1.1\r\nhost: shop\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\ntraceparent: %s\r\n\r\n"
        % VALUE
    )
    switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    with (
        recording_http1(lambda _: switched) as server,
        proxied(filtering, server, {}, upgrade_configs=[{"upgrade_type": "websocket"}]) as proxy,
        socket.create_connection(("127.0.0.1", proxy.ports["moved"]), 30) as client,
    ):
        client.sendall(request)
        data = b""
        while HEAD_END not in data:
            data += client.recv(1 << 16)
        assert data.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        client.sendall(b"\x81\x05hello")
        assert client.recv(1 << 16) == b"\x81\x05hello"
    assert server.heads == [
        b"GET /ws HTTP/1.1\r\nhost: shop\r\ntraceparent: %s\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"x-forwarded-proto: http\r\n\r\n" % VALUE
    ]


def test_relocation_keeps_the_case_of_names_where_the_cluster_does(filtering: Filtering) -> None:
    case = upstream_protocol("preserve-case")
    came: Data = {"http_protocol_options": case["explicit_http_config"]["http_protocol_options"]}  # type: ignore[index]
    request = (
        b"GET / HTTP/1.1\r\nHost: shop\r\nX-One: 1\r\nx-TWO: 2\r\nX-One: 3\r\nTraceParent: %s\r\n\r\n" % VALUE
    )
    with recording_http1() as server:
        clusters = [filtering.cluster("moved", server, case)]
        with filtering.envoy([listener("moved", {"cluster": "moved"}, **came)], clusters) as proxy:
            assert exchange(proxy.ports["moved"], request).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.heads == [
        b"GET / HTTP/1.1\r\nHost: shop\r\nTraceParent: %s\r\nX-One: 1\r\nx-TWO: 2\r\nX-One: 3\r\n"
        b"x-forwarded-proto: http\r\n\r\n" % VALUE
    ]


def test_relocation_on_http2_puts_the_context_behind_the_pseudo_headers(filtering: Filtering) -> None:
    with recording_http2() as server:
        clusters = [filtering.cluster("moved", server, upstream_protocol("h2"))]
        with filtering.envoy([listener("moved", {"cluster": "moved"})], clusters) as proxy:
            assert b"200 OK" in exchange(proxy.ports["moved"], REQUEST)
    assert without_pseudo(server.fields[0]) == [
        (b"traceparent", VALUE),
        (b"a", b"1"),
        (b"x-forwarded-proto", b"http"),
    ]


def test_relocation_of_grpc_keeps_body_and_trailers(filtering: Filtering) -> None:
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/shop.Cart/Get"),
        (b":authority", b"shop"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-timeout", b"5S"),
        (b"bin-bin", b"AAEC"),
        (b"traceparent", VALUE),
    ]
    with recording_http2() as server:
        clusters = [filtering.cluster("moved", server, upstream_protocol("h2"))]
        with filtering.envoy([listener("moved", {"cluster": "moved"})], clusters) as proxy:
            assert call(proxy.ports["moved"], fields, b"\0\0\0\0\2hi") == (
                b"\0\0\0\0\2ok",
                [(b"grpc-status", b"0")],
            )
    assert without_pseudo(server.fields[0]) == [
        (b"traceparent", VALUE),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-timeout", b"5S"),
        (b"bin-bin", b"AAEC"),
        (b"x-forwarded-proto", b"http"),
    ]
