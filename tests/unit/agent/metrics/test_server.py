# SPDX-License-Identifier: Apache-2.0
import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from agent.metrics import server as metrics_server
from agent.metrics.server import MetricsError, MetricsServer
from agent.metrics.snapshot import MetricsSnapshot

SNAPSHOT = MetricsSnapshot("1.2.3", "spec", "source", waiting=4)


class Agent:
    """The agent's loop in a thread."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.threads: set[threading.Thread] = set()
        self.server = MetricsServer(host, port, self._snapshot)
        self._end = threading.Event()
        self.loop = threading.Thread(target=self._loop)
        self.loop.start()

    def _snapshot(self) -> MetricsSnapshot:
        self.threads.add(threading.current_thread())
        return SNAPSHOT

    def _loop(self) -> None:
        while not self._end.wait(0.002):
            self.server.poll()

    def stop_polling(self) -> None:
        self._end.set()
        self.loop.join()

    def close(self) -> None:
        self.stop_polling()
        self.server.close()


@pytest.fixture
def agent() -> Iterator[Agent]:
    running = Agent()
    yield running
    running.close()


def connect(agent: Agent) -> socket.socket:
    return socket.create_connection((agent.server.host, agent.server.port), timeout=10)


def ask(agent: Agent, method: str = "GET", path: str = "/metrics") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(agent.server.host, agent.server.port, timeout=10)
    connection.request(method, path)
    with connection.getresponse() as response:
        return response.status, response.headers["Content-Type"], response.read()


def answer(client: socket.socket) -> bytes:
    """Everything until the end; nothing if the connection was reset."""
    try:
        with client.makefile("rb") as stream:
            return stream.read()
    except ConnectionResetError:
        return b""


def is_open(client: socket.socket) -> bool:
    """Whether one more byte is taken, after a while without an answer."""
    try:
        client.sendall(b"x")
        return bool(client.recv(1))
    except TimeoutError:
        return True
    except (BrokenPipeError, ConnectionResetError):
        return False


def test_get_metrics_is_answered_with_what_the_agents_thread_says(agent: Agent) -> None:
    status, content_type, body = ask(agent)
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'overhop_agent_info{source="source",spec="spec",version="1.2.3"} 1.0\n' in body
    assert agent.threads == {agent.loop}


def test_get_metrics_again_and_with_a_query_is_answered(agent: Agent) -> None:
    assert [ask(agent, path=path)[0] for path in ("/metrics", "/metrics?a=b", "/metrics")] == [200] * 3


def test_get_readyz_is_short_and_wants_the_agents_thread(agent: Agent) -> None:
    assert ask(agent, path="/readyz") == (200, "text/plain; charset=utf-8", b"the agent runs\n")
    assert agent.threads == {agent.loop}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/metrics/../etc/passwd", 404),
        ("POST", "/metrics", 405),
        ("HEAD", "/metrics", 405),
        ("DELETE", "/x", 404),
    ],
)
def test_anything_else_is_refused(agent: Agent, method: str, path: str, status: int) -> None:
    assert ask(agent, method, path)[0] == status
    assert agent.threads == set()


@pytest.mark.parametrize(
    "head", [b"GET /metrics\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n"]
)
def test_what_is_no_http_1_is_refused(agent: Agent, head: bytes) -> None:
    with connect(agent) as client:
        client.sendall(head)
        assert answer(client).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_request_without_end_is_dropped_by_size_and_by_time(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(agent) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n" + b"x" * 20_000)
        assert answer(client) == b""
    monkeypatch.setattr(metrics_server, "REQUEST_TIMEOUT_S", 0.1)
    with connect(agent) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert answer(client) == b""
    assert ask(agent)[0] == 200


def test_a_request_byte_by_byte_is_dropped_when_the_time_for_all_of_it_is_over(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_TIMEOUT_S", 0.2)
    end_s = time.monotonic() + 10
    with connect(agent) as client:
        client.settimeout(0.01)
        while is_open(client):
            assert time.monotonic() < end_s


def test_more_clients_than_places_are_closed_and_the_others_answered(agent: Agent) -> None:
    clients = [connect(agent) for _ in range(4)]
    try:
        for client in clients:
            client.sendall(b"GET /metrics ")
        with connect(agent) as fifth:
            assert answer(fifth) == b""
        for client in clients:
            client.sendall(b"HTTP/1.1\r\n\r\n")
            assert answer(client).startswith(b"HTTP/1.1 200 OK\r\n")
    finally:
        for client in clients:
            client.close()


def test_an_agent_that_is_busy_is_unavailable(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "SNAPSHOT_TIMEOUT_S", 0.1)
    agent.stop_polling()
    assert ask(agent)[0] == 503
    assert ask(agent, path="/readyz")[0] == 503


def test_close_while_somebody_waits_answers_and_frees_the_port(agent: Agent) -> None:
    agent.stop_polling()
    with connect(agent) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        deadline_s = time.monotonic() + 10
        while not agent.server._asked.is_set():
            assert time.monotonic() < deadline_s
        agent.server.close()
        agent.server.close()
        assert answer(client).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    again = Agent(port=agent.server.port)
    assert ask(again)[0] == 200
    again.close()


def test_a_taken_port_is_said(agent: Agent) -> None:
    with pytest.raises(MetricsError) as caught:
        MetricsServer("127.0.0.1", agent.server.port, lambda: SNAPSHOT)
    assert str(caught.value) == (
        f"metrics 127.0.0.1 port {agent.server.port}: EADDRINUSE: another process listens there: "
        "name another address with --metrics-listen"
    )


def test_an_address_that_is_not_here_is_said() -> None:
    with pytest.raises(MetricsError, match=r"^metrics 192\.0\.2\.1 port 0: EADDRNOTAVAIL: Cannot assign"):
        MetricsServer("192.0.2.1", 0, lambda: SNAPSHOT)


def test_ipv6_is_served() -> None:
    running = Agent("::1")
    assert ask(running)[0] == 200
    running.close()
