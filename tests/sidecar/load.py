# SPDX-License-Identifier: Apache-2.0
"""Requests without a pause, by clients side by side, and each that fails."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.sidecar.client import Client, NoAnswerError

_JOIN_S = 60.0


@dataclass
class Load:
    """What the clients did so far."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    """Whatever was not an answer with status 200."""
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def load(port: int, requests: Sequence[bytes], clients: int) -> Iterator[Load]:
    """Each client sends the requests, again and again, on a connection of its own, until the block ends."""
    made, is_over = Load(), threading.Event()
    threads = [
        threading.Thread(target=_send, args=(port, requests, at, made, is_over), daemon=True)
        for at in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        is_over.set()
        for thread in threads:
            thread.join(_JOIN_S)


def _send(port: int, requests: Sequence[bytes], begin: int, made: Load, is_over: threading.Event) -> None:
    at = begin
    with Client(port) as client:
        while not is_over.is_set():
            failure = _failure(client, requests[at % len(requests)])
            at += 1
            with made.lock:
                made.answers += 1
                if failure:
                    made.failures.append(failure)


def _failure(client: Client, request: bytes) -> str:
    try:
        answer = client.exchange(request)
    except (OSError, NoAnswerError) as error:
        return f"{type(error).__name__}: {error}"
    status = answer.split(b"\r\n", 1)[0]
    return "" if status == b"HTTP/1.1 200 OK" else status.decode("latin-1")
