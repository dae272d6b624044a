# SPDX-License-Identifier: Apache-2.0
"""What either filter does to requests of HTTP/1.1 in a real Envoy: heads as the server gets them."""

from collections.abc import Iterator

import pytest

from overhop.sidecar.protocols import upstream_protocol
from tests.e2e.envoy import require_envoy
from tests.sidecar.filtering import Filtering
from tests.sidecar.proxy import Proxy, cluster, exchange, listener
from tests.sidecar.recorder import Recorder, recording_http1

TRACEPARENT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"


@pytest.fixture
def town(filtering: Filtering) -> Iterator[tuple[Proxy, Recorder]]:
    """Listener `moved` with the filter and `stock` without lead to the same server."""
    require_envoy()
    h1 = upstream_protocol("h1")
    with recording_http1() as server:
        clusters = [cluster("stock", [server.port], h1), filtering.cluster("moved", server, h1)]
        listeners = [listener(name, {"cluster": name}) for name in ("stock", "moved")]
        with filtering.envoy(listeners, clusters) as proxy:
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


B3 = b"x-b3-traceid: 463ac35c9f6413ad48485a3953bb6124\r\nx-b3-spanid: a2fb4a1d1a96d312\r\nx-b3-sampled: 1\r\n"
PROTO = b"x-forwarded-proto: http\r\n"
HEAD = b"GET / HTTP/1.1\r\nhost: shop\r\n"


def moved(town: tuple[Proxy, Recorder], lines: bytes) -> bytes:
    """What comes behind host, and before what Envoy appends itself."""
    head = heads(town, lines)[1]
    assert head.startswith(HEAD)
    return head.removeprefix(HEAD).replace(PROTO, b"").removesuffix(b"\r\n")


def test_relocation_puts_b3_and_w3c_in_the_order_that_was_asked_for(town: tuple[Proxy, Recorder]) -> None:
    # As Envoy's Zipkin tracer appends them.
    assert moved(town, b"accept: */*\r\n" + B3 + TRACEPARENT) == TRACEPARENT + B3 + b"accept: */*\r\n"


def test_relocation_of_a_context_in_the_middle_keeps_the_others_in_order(
    town: tuple[Proxy, Recorder],
) -> None:
    lines = b"a: 1\r\nb3: 0\r\nb: 2\r\ntracestate: x=y\r\nc: 3\r\n"
    assert moved(town, lines) == b"tracestate: x=y\r\nb3: 0\r\na: 1\r\nb: 2\r\nc: 3\r\n"


def test_relocation_keeps_duplicates_in_order(town: tuple[Proxy, Recorder]) -> None:
    lines = b"a: 1\r\nb: 1\r\na: 2\r\nset: 1\r\nset: 1\r\n"
    assert moved(town, lines + TRACEPARENT) == TRACEPARENT + lines


def test_relocation_of_duplicated_context_drops_nothing_and_the_first_still_wins(
    town: tuple[Proxy, Recorder],
) -> None:
    second = b"traceparent: 00-11111111111111111111111111111111-2222222222222222-00\r\n"
    lines = TRACEPARENT + b"a: 1\r\ntracestate: x=1\r\n" + second + b"tracestate: y=2\r\n"
    expected = TRACEPARENT + second + b"tracestate: x=1\r\ntracestate: y=2\r\na: 1\r\n"
    assert moved(town, lines) == expected


def test_relocation_keeps_empty_values(town: tuple[Proxy, Recorder], filtering: Filtering) -> None:
    lines = b"empty: \r\na: 1\r\nempty: \r\nb: 2\r\n"
    # The native module cannot move them, nor anything before them (docs/sidecar-native.md).
    first, rest = (b"", lines) if filtering.variant == "lua" else (lines[:-6], b"b: 2\r\n")
    assert moved(town, lines + b"tracestate:\r\n") == first + b"tracestate: \r\n" + rest


def test_relocation_of_a_context_without_a_value_behind_the_others(town: tuple[Proxy, Recorder]) -> None:
    # As Envoy's OpenTelemetry tracer appends them.
    context = TRACEPARENT + b"tracestate: \r\n"
    assert moved(town, b"a: 1\r\nb: 2\r\n" + context) == context + b"a: 1\r\nb: 2\r\n"


def test_relocation_keeps_bytes_beyond_ascii(town: tuple[Proxy, Recorder]) -> None:
    lines = "name: Zoë Ωμέγα 🐱\r\n".encode() + b"latin: caf\xe9\r\n"
    assert moved(town, lines + TRACEPARENT) == TRACEPARENT + lines


def test_relocation_keeps_what_envoy_knows_by_name(town: tuple[Proxy, Recorder]) -> None:
    lines = (
        b"user-agent: curl/8\r\naccept-encoding: gzip\r\ncookie: a=1\r\ncookie: b=2\r\nx-request-id: 7\r\n"
        b"content-type: text/plain\r\nreferer: http://shop/\r\nvia: 1.1 one\r\nvia: 1.1 two\r\n"
        b"x-forwarded-for: 10.0.0.1\r\nx-forwarded-for: 10.0.0.2\r\n"
    )
    stock, head = heads(town, lines + TRACEPARENT)
    assert head == HEAD + TRACEPARENT + stock.replace(TRACEPARENT, b"").removeprefix(HEAD)


def test_relocation_keeps_a_body_that_has_a_length(town: tuple[Proxy, Recorder]) -> None:
    proxy, server = town
    body = b"x" * 100_000
    head = b"POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 100000\r\n" + TRACEPARENT + b"\r\n"
    assert exchange(proxy.ports["moved"], head + body).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.heads == [
        b"POST / HTTP/1.1\r\nhost: shop\r\n" + TRACEPARENT + b"content-length: 100000\r\n" + PROTO + b"\r\n"
    ]


def test_relocation_of_60_kilobytes_keeps_every_byte(town: tuple[Proxy, Recorder]) -> None:
    lines = b"".join(b"x-%d: %s\r\n" % (n, b"v" * 60) for n in range(860)) + b"cookie: %s\r\n" % (b"c" * 4000)
    assert moved(town, lines + TRACEPARENT) == TRACEPARENT + lines


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"a: 1\r\nb:\r\na: 2\r\n",
        TRACEPARENT + b"a: 1\r\n",
        TRACEPARENT + b"tracestate: x=y\r\n" + B3 + b"a: 1\r\n",
        TRACEPARENT,
    ],
)
def test_relocation_of_nothing_or_of_what_leads_changes_nothing(
    town: tuple[Proxy, Recorder], filtering: Filtering, lines: bytes
) -> None:
    stock, head = heads(town, lines)
    assert head == stock
    assert filtering.errors(town[0]) == 0
