# SPDX-License-Identifier: Apache-2.0
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from overhop.lab.bookinfo_app import Call, Message, Role, Service, Spans, Stream, read_role, spans_in

TWO_SPANS = bytes.fromhex(
    "0a12"  # resource_spans 1, 18 bytes
    "0a03" + "0a0161"  # resource 1
    "120b"  # scope_spans 2, 11 bytes
    "0a03" + "0a0162"  # scope 1
    "1202" + "3003"  # spans 2: kind 6 = 3
    "1200"  # spans 2: empty
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.settimeout(5)
        yield ours, theirs


def test_spans_in_counts_spans_of_every_scope() -> None:
    assert spans_in(b"") == 0
    assert spans_in(TWO_SPANS) == 2
    assert spans_in(TWO_SPANS * 3) == 6


def test_spans_in_skips_numbers_of_other_fields() -> None:
    assert spans_in(b"\x10\x96\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4) + TWO_SPANS) == 2


@pytest.mark.parametrize("broken", [b"\x0b", b"\x80", b"\x0a\xff"])
def test_spans_in_what_is_no_protobuf_is_an_error(broken: bytes) -> None:
    with pytest.raises(ValueError, match="protobuf"):
        spans_in(broken)


def test_stream_reads_messages_with_length_in_chunks_and_without_body(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    theirs.sendall(
        b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        b"POST /b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwxyz\r\n1\r\n!\r\n0\r\n\r\n"
        b"GET /c HTTP/1.1\r\nHost: x \r\n\r\n"
    )
    theirs.shutdown(socket.SHUT_WR)
    assert list(Stream(ours).messages()) == [
        Message(b"POST /a HTTP/1.1", [(b"content-length", b"3")], b"abc"),
        Message(b"POST /b HTTP/1.1", [(b"transfer-encoding", b"chunked")], b"wxyz!"),
        Message(b"GET /c HTTP/1.1", [(b"host", b"x")], b""),
    ]


def test_stream_closed_within_a_message_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab")
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError, match="closed within a message"):
        next(Stream(ours).messages())


def test_service_hands_on_the_context_and_joins_the_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []

        def ratings() -> None:
            sock, _ = listener.accept()
            with sock:
                heard.append(sock.recv(4096))
                sock.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"stars": "5"}\n')

        thread = threading.Thread(target=ratings)
        thread.start()
        port = listener.getsockname()[1]
        service = Service(Role("reviews", 9080, 4318, (Call("ratings", "127.0.0.1", port, "/ratings/0"),)))
        request = Message(
            b"GET / HTTP/1.1",
            [(b"host", b"reviews"), (b"traceparent", b"00-1-2-01"), (b"x-forwarded-proto", b"http")],
            b"",
        )
        answer = service.answer(request)
        service.close()
        thread.join()
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"service": "reviews", "ratings": {"stars": "5"}}
    assert heard[0].startswith(b"GET /ratings/0 HTTP/1.1\r\nhost: ratings:%d\r\n" % port)
    assert heard[0].endswith(b"\r\ntraceparent: 00-1-2-01\r\n\r\n")
    assert b"x-forwarded-proto" not in heard[0]


def test_service_whose_callee_is_not_there_answers_502_with_its_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    service = Service(Role("reviews", 9080, 4318, (Call("ratings", "127.0.0.1", port, "/"),)))
    answer = service.answer(Message(b"GET / HTTP/1.1", [], b""))
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"].startswith("ratings: ")


def test_spans_are_told_by_get() -> None:
    spans = Spans()
    assert spans.answer(Message(b"POST /v1/traces HTTP/1.1", [], TWO_SPANS)).startswith(b"HTTP/1.1 200 OK")
    assert spans.answer(Message(b"GET / HTTP/1.1", [], b"")).endswith(b'\r\n\r\n{"spans":2}')


def test_read_role_of_the_command_line() -> None:
    text = (
        '{"name":"a","port":1,"spans_port":2,"calls":[{"service":"b","address":"::1","port":3,"path":"/"}]}'
    )
    assert read_role(text) == Role("a", 1, 2, (Call("b", "::1", 3, "/"),))
