# SPDX-License-Identifier: Apache-2.0
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from overhop.lab import http_client, http_server
from overhop.lab.http import trace_ids
from overhop.lab.http_client import Load, render_head


def load(**options: Any) -> Load:  # noqa: ANN401  # Load checks them
    return Load("10.0.0.1", 80, seed=0x0123456789ABCDEF, **options)


def test_render_head_w3c_carries_seed_and_number() -> None:
    assert render_head(load()) % (7, 7) == (
        b"GET / HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: overhop-lab\r\n"
        b"traceparent: 00-0123456789abcdef0000000000000007-89abcdef00000007-01\r\n\r\n"
    )


def test_render_head_b3_single_not_sampled_says_0() -> None:
    head = render_head(load(context="b3-single", sampled=False)) % (1, 1)
    assert b"\r\nb3: 0123456789abcdef0000000000000001-89abcdef00000001-0\r\n" in head


def test_render_head_b3_multi_has_three_fields() -> None:
    head = render_head(load(context="b3-multi")) % (1, 1)
    assert b"\r\nx-b3-traceid: 0123456789abcdef0000000000000001\r\n" in head
    assert b"\r\nx-b3-spanid: 89abcdef00000001\r\nx-b3-sampled: 1\r\n" in head


def test_render_head_none_takes_no_numbers() -> None:
    assert b"%" not in render_head(load(context="none"))


def test_render_head_padding_moves_the_context_by_its_size() -> None:
    plain = (render_head(load()) % (1, 1)).index(b"traceparent")
    padded = (render_head(load(padding_bytes=700)) % (1, 1)).index(b"traceparent")
    assert padded - plain == 700


def test_render_head_ipv6_host_has_brackets() -> None:
    head = render_head(Load("fd00::1", 80, seed=1))
    assert b"\r\nHost: [fd00::1]:80\r\n" in head


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"context": "zipkin"}, "context"),
        ({"padding_bytes": 15}, "padding_bytes"),
        ({"source_port": 5000, "connections": 2}, "source_port"),
        ({"split_body": True}, "split_body"),
        ({"requests": 0}, "requests"),
        ({"rate_hz": 0.0}, "rate_hz"),
        ({"rate_hz": 2e6}, "rate_hz"),
    ],
)
def test_load_impossible_option_is_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        load(**options)


def test_trace_ids_are_what_the_requests_carry() -> None:
    ids = trace_ids(load(requests=2))
    assert [one.tobytes().hex() for one in ids] == [
        "0123456789abcdef0000000000000001",
        "0123456789abcdef0000000000000002",
    ]


@pytest.fixture
def server_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    argv = (sys.executable, "-I", "-S", http_server.__file__, str(port), "hello")
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield port
        process.kill()


def run(port: int, **options: Any) -> http_client.Outcome:  # noqa: ANN401  # Load checks them
    return http_client.run_load(Load("127.0.0.1", port, seed=1, timeout_s=20, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"connections": 4},
        {"pipeline": 10},
        {"body_bytes": 300_000},
        {"body_bytes": 30_000, "split_body": True, "connections": 2},
        {"requests_per_connection": 3},
        {"rate_hz": 1000.0, "connections": 2},
        {"context": "none"},
    ],
)
def test_load_against_server_every_request_is_answered_once(
    server_port: int, options: dict[str, Any]
) -> None:
    outcome = run(server_port, requests=50, **options)
    assert list(outcome.status) == [200] * 50
    assert outcome.errors == {}
    assert outcome.bodies == {"hello": 50}
    assert min(outcome.latency_ns) > 0


def test_load_with_a_rate_takes_its_time_and_no_more(server_port: int) -> None:
    outcome = run(server_port, requests=101, rate_hz=500.0, connections=4)
    assert 0.2 <= outcome.elapsed_s < 2.0
    assert list(outcome.status) == [200] * 101
    assert len(outcome.lag_ns) == 101


def test_load_without_a_rate_has_no_lag(server_port: int) -> None:
    assert len(run(server_port, requests=2).lag_ns) == 0


STALL_S = 0.4


def test_load_with_a_rate_charges_a_stall_to_every_request_that_it_delays() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer_with_a_stall, args=(listener,))
        thread.start()
        outcome = run(listener.getsockname()[1], requests=60, rate_hz=100.0)
        thread.join()
    assert list(outcome.status) == [200] * 60
    slow = [latency_ns for latency_ns in outcome.latency_ns if latency_ns > 100_000_000]
    late = [lag_ns for lag_ns in outcome.lag_ns if lag_ns > 100_000_000]
    assert len(slow) >= 25
    assert len(late) >= 25
    assert max(outcome.lag_ns) > 300_000_000
    waited = sum(latency - lag > 300_000_000 for latency, lag in zip(*_both(outcome), strict=True))
    assert 1 <= waited <= 3


def _both(outcome: http_client.Outcome) -> tuple[list[int], list[int]]:
    return list(outcome.latency_ns), list(outcome.lag_ns)


def _answer_with_a_stall(listener: socket.socket) -> None:
    """Answers 60 requests, of which the tenth has to wait."""
    sock, _ = listener.accept()
    with sock:
        for number in range(60):
            sock.recv(65536)
            if number == 10:
                threading.Event().wait(STALL_S)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_load_that_cannot_keep_up_says_what_it_never_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = Load(
            "127.0.0.1", listener.getsockname()[1], seed=1, requests=50, rate_hz=100.0, timeout_s=0.3
        )
        outcome = http_client.run_load(silent)
    assert outcome.errors == {"no answer within 0.3 s": 1, "not sent within 0.3 s": 49}


def test_load_without_server_fails_each_request_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    outcome = run(port, requests=3)
    assert list(outcome.status) == [0, 0, 0]
    assert outcome.errors == {"connect: [Errno 111] Connection refused": 3}


def test_load_server_that_closes_without_answer_counts_the_request_as_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_take_and_close, args=(listener, 2))
        thread.start()
        outcome = run(listener.getsockname()[1], requests=2)
        thread.join()
    assert list(outcome.status) == [0, 0]
    assert outcome.errors == {"connection closed by the server": 2}


def _take_and_close(listener: socket.socket, times: int) -> None:
    for _ in range(times):
        sock, _ = listener.accept()
        sock.recv(65536)
        sock.close()
