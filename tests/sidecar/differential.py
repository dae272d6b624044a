# SPDX-License-Identifier: Apache-2.0
"""The same requests through an Envoy with and without the filter, to a server that keeps every byte.

What differs between both must be the order that was asked for, and nothing else; answers must be equal.
Clients speak HTTP/1.1; upstream it is HTTP/1.1, HTTP/1.1 with the case of names preserved, or HTTP/2, and a
tracer writes context or none does.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import get_args

from overhop.lab.tracers import CLUSTER, Tracer, tracing
from overhop.sidecar.contexts import DEFAULT_HEADERS
from overhop.sidecar.filters import Data
from overhop.sidecar.protocols import Protocol, preserved_case, upstream_protocol
from tests.sidecar.client import Client
from tests.sidecar.filtering import Filtering
from tests.sidecar.header_sets import Request, random_request
from tests.sidecar.proxy import Proxy, cluster, listener
from tests.sidecar.recorder import Fields, Recorder, recording_http1, recording_http2, without_pseudo
from tests.sidecar.wanted import wanted_order

UPSTREAMS: tuple[Protocol, ...] = ("h1", "h2", "preserve-case")
TRACERS: tuple[Tracer | None, ...] = (None, *get_args(Tracer))
WAYS = tuple(product(UPSTREAMS, TRACERS))
NAMES = tuple(name.encode() for name in DEFAULT_HEADERS)
_DATE = re.compile(rb"(?im)^date: [^\r\n]*\r\n")
_HEX = re.compile(rb"[0-9a-f]")
_LINE = re.compile(rb"([^:\r\n]+):[ ]?([^\r\n]*)\r\n")


@dataclass
class Findings:
    """What the comparison of some requests found."""

    requests: int = 0
    compared: int = 0
    """Of them, those that Envoy forwarded."""
    moved: int = 0
    """Of them, those whose order changed."""
    largest_bytes: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Way:
    """Both ways to one server."""

    upstream: Protocol
    tracer: Tracer | None
    server: Recorder
    stock: Client
    moved: Client


@contextmanager
def town(filtering: Filtering) -> Iterator[tuple[Proxy, list[Way]]]:
    """An Envoy with a listener for each way, stock and moved."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(_server(name)) for name in UPSTREAMS}
        spans = stack.enter_context(recording_http1())
        clusters = [cluster(CLUSTER, [spans.port])]
        for name in UPSTREAMS:
            protocol = upstream_protocol(name)
            clusters.append(cluster(f"{name}-stock", [servers[name].port], protocol))
            clusters.append(filtering.cluster(f"{name}-moved", servers[name], protocol))
        listeners = [_listener(*way, kind) for way in WAYS for kind in ("stock", "moved")]
        proxy = stack.enter_context(filtering.envoy(listeners, clusters))
        ways = []
        for upstream, tracer in WAYS:
            both = [
                stack.enter_context(Client(proxy.ports[f"{upstream}-{tracer}-{kind}"]))
                for kind in ("stock", "moved")
            ]
            ways.append(Way(upstream, tracer, servers[upstream], *both))
        yield proxy, ways


def compare(ways: Sequence[Way], count: int, seed: str, *, moves_empty: bool) -> Findings:
    """`count` random requests, each by one of the ways, stock and moved; the same for the same seed."""
    findings = Findings()
    for at in range(count):
        way = ways[at % len(ways)]
        request = random_request(f"{seed}-{at}")
        findings.requests += 1
        for problem in _differences(way, request, findings, moves_empty=moves_empty):
            findings.problems.append(f"request {seed}-{at}, {way.upstream}, tracer {way.tracer}: {problem}")
    return findings


def _differences(way: Way, request: Request, findings: Findings, *, moves_empty: bool) -> Iterator[str]:
    answers = [_DATE.sub(b"", client.exchange(request.data)) for client in (way.stock, way.moved)]
    if answers[0] != answers[1]:
        yield f"answers differ: {answers[0][:200]!r} and {answers[1][:200]!r}"
    came = _taken(way.server)
    if len(came) != 2:
        if came:
            yield f"{len(came)} of both came to the server"
        return
    findings.compared += 1
    findings.largest_bytes = max(findings.largest_bytes, sum(map(len, came[0])))
    (stock_start, *stock), (moved_start, *moved) = came
    if way.tracer is not None:
        stock, moved = _masked(stock), _masked(moved)
    if stock_start != moved_start:
        yield f"start differs: {stock_start!r} and {moved_start!r}"
    expected = [stock[at] for at in wanted_order(_fields(stock), NAMES, moves_empty=moves_empty)]
    findings.moved += expected != stock
    if sorted(moved) != sorted(stock):
        lost, new = set(stock) - set(moved), set(moved) - set(stock)
        yield f"not the same headers: lost {sorted(lost)[:3]}, new {sorted(new)[:3]}"
    elif moved != expected:
        first = next(at for at in range(len(moved)) if moved[at] != expected[at])
        yield f"header {first} is {moved[first][:80]!r}, expected {expected[first][:80]!r}"


def _taken(server: Recorder) -> list[list[bytes]]:
    """Start and lines of each request that came since."""
    came = [[head[: _start_length(head)], *_raw_lines(head)] for head in server.heads]
    for fields in server.fields:
        rest = without_pseudo(fields)
        came.append([b"%r" % sorted(fields[: -len(rest) or None]), *(b"%s: %s\r\n" % each for each in rest)])
    server.heads.clear()
    server.fields.clear()
    return came


def _start_length(head: bytes) -> int:
    """Request line and host, which both come first."""
    return head.index(b"\r\n", head.index(b"\r\n") + 2) + 2


def _raw_lines(head: bytes) -> list[bytes]:
    return head[_start_length(head) : -2].splitlines(keepends=True)


def _fields(lines: Sequence[bytes]) -> Fields:
    found = [_LINE.fullmatch(line) for line in lines]
    return [(match.group(1).lower(), match.group(2)) for match in found if match]


def _masked(lines: Sequence[bytes]) -> list[bytes]:
    """Contexts without the identities that the tracer draws anew for each request."""
    return [_masked_line(line) for line in lines]


def _masked_line(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    return name + colon + _HEX.sub(b"x", value) if name.lower() in NAMES else line


@contextmanager
def _server(upstream: str) -> Iterator[Recorder]:
    with recording_http2() if upstream == "h2" else recording_http1(_answer) as server:
        yield server


def _answer(head: bytes) -> bytes:
    """With the status that the path names."""
    status = int(head.split(b"/", 2)[1])
    body = b"" if status == 204 else b"answer to %s" % head.split(b" ", 2)[1]
    length = b"" if status == 204 else b"content-length: %d\r\n" % len(body)
    return b"HTTP/1.1 %d Said\r\nx-One: 1\r\n%sx-two: 2\r\n\r\n%s" % (status, length, body)


def _listener(upstream: Protocol, tracer: Tracer | None, kind: str) -> Data:
    manager: Data = {}
    if upstream == "preserve-case":
        manager["http_protocol_options"] = preserved_case()
    if tracer is not None:
        manager["tracing"] = tracing(tracer, "shop")
    return listener(f"{upstream}-{tracer}-{kind}", {"cluster": f"{upstream}-{kind}"}, **manager)
