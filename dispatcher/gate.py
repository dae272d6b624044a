# SPDX-License-Identifier: Apache-2.0
"""Who may come in, how often, with how much: before anything of a request is looked at. ASGI.

Everything under /v1/ is closed: agents come with the token of their pod, people with a token of their own.
"""

import asyncio
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from dispatcher.identity import Identities, Refused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Direct = Callable[[str, bytes], tuple[int, bytes]]
"""Node and body in, status and JSON out."""
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES: Final = 2 << 20
MAX_RULES_BYTES: Final = 24 << 20
"""NAT rules of a node: 10,000 services with fifteen back ends each are half of it."""
BODY_S: Final = 10.0
"""How long a request may take to arrive."""
RATE_PER_S: Final = 10.0
BURST: Final = 60.0
_KEPT: Final = 20_000
PEOPLE: Final = "/v1/cluster"
"""What is under it is for people, the rest for agents."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float


class Gate:
    """Wraps an application. `leads`: whether this controller is the one to ask."""

    def __init__(
        self,
        app: App,
        identities: Identities,
        people: Callable[[], str],
        leads: Callable[[], bool],
        direct: Mapping[tuple[str, str], Direct],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`direct`: by method and path what is asked so often that the application is left out."""
        self.counts: dict[str, int] = {}
        """Requests that did not come in, by reason."""
        self._app, self._identities, self._people, self._leads = app, identities, people, leads
        self._direct = direct
        self._now_s = now_s
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._reviewers = ThreadPoolExecutor(8, "review")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        try:
            if not self._leads():
                raise Refused(503, "this controller does not lead")
            scope["overhop.node"] = await self._identity(scope)
            self._spend(scope["overhop.node"])
            body = await _body(scope, receive)
        except Refused as refused:
            key = f"{refused.status}"
            self.counts[key] = self.counts.get(key, 0) + 1
            await _refuse(send, refused)
            return
        direct = self._direct.get((scope["method"], scope["path"]))
        if direct is None:
            await self._app(scope, _again(body, receive), send)
        else:
            await _reply(send, *direct(scope["overhop.node"], body))

    async def _identity(self, scope: Scope) -> str:
        """The node of an agent; empty for people. Raises Refused."""
        token = _token(scope)
        if scope["path"].startswith(PEOPLE):
            wanted = self._people()
            if not wanted or not hmac.compare_digest(token.encode(), wanted.encode()):
                raise Refused(401, "no token, or an unknown one")
            return ""
        node = self._identities.node_if_known(token)
        if node is None:
            loop = asyncio.get_running_loop()
            node = await loop.run_in_executor(self._reviewers, self._identities.node_of, token)
        parts = scope["path"].split("/")
        if parts[2] == "nodes" and (len(parts) < 4 or parts[3] != node):
            raise Refused(403, f"this token is node {node}'s")
        return node

    def _spend(self, node: str) -> None:
        """Raises Refused: too many."""
        now_s = self._now_s()
        bucket = self._buckets.setdefault(node, _Bucket(BURST, now_s))
        self._buckets.move_to_end(node)
        if len(self._buckets) > _KEPT:
            self._buckets.popitem(last=False)
        bucket.left = min(BURST, bucket.left + (now_s - bucket.at_s) * RATE_PER_S)
        bucket.at_s = now_s
        if bucket.left < 1:
            raise Refused(429, "too many requests")
        bucket.left -= 1


def _token(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if kind.lower() == "bearer" and token.isascii() else ""
    return ""


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Raises Refused: too large, too slow."""
    most = MAX_RULES_BYTES if scope["path"].endswith("/nat") else MAX_BODY_BYTES
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value[:20]) > most):
            raise Refused(413, f"at most {most} bytes")
    parts: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(400, "the request did not end")
                parts.append(message.get("body", b""))
                length += len(parts[-1])
                if length > most:
                    raise Refused(413, f"at most {most} bytes")
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {BODY_S:g} s") from None


def _again(body: bytes, receive: Receive) -> Receive:
    """What was read already, then what comes."""
    is_given = False

    async def given() -> MutableMapping[str, Any]:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return given


async def _reply(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, refused: Refused) -> None:
    body = json.dumps({"detail": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refused.status in (429, 503):
        headers.append((b"retry-after", b"1"))
    if refused.status in (408, 413, 503):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
