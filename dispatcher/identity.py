# SPDX-License-Identifier: Apache-2.0
"""Which node's agent a token is of, by TokenReview. Closed: what does not fit every rule is refused.

A token must be meant for this controller (audience), be the agents' service account's, and be bound to a pod
that is a live agent; that pod's node is the identity. Tokens are kept as digests only, for a minute at most.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from collector.snapshot import Pod

AUDIENCE: Final = "overhop-controller"
AGENT: Final = "overhop-agent"
"""The agents' service account."""
KEPT_S: Final = 60.0
REFUSED_S: Final = 5.0
MAX_KEPT: Final = 20_000
MAX_TOKEN_BYTES: Final = 16 << 10
_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_NODE_NAME: Final = "authentication.kubernetes.io/node-name"
_OVER: Final = ("Succeeded", "Failed")


class Refused(Exception):  # noqa: N818  an answer, no failure
    """`status`: 401 the token is nobody's, 403 it is not an agent's, 503 nobody could be asked."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class ReviewApi(Protocol):
    """What is asked of the Kubernetes API; collector.cluster.api.Api has it."""

    def send(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Raises an exception where it refuses or cannot be asked."""


class Identities(Protocol):
    """Says whose a token is. May take as long as a call to the API server; threads may share it."""

    def node_of(self, token: str) -> str:
        """The node whose agent has it. Raises Refused."""

    def node_if_known(self, token: str) -> str | None:
        """The same at once; None: somebody must be asked. Raises Refused."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What a review said."""

    until_s: float
    pod_uid: str = ""
    node: str = ""
    """The claim of the token; empty: there is none."""
    refused: tuple[int, str] | None = None


class TokenReviews:
    """Asks the Kubernetes API. `live_pod`: a pod that is there now, by uid."""

    def __init__(
        self,
        api: ReviewApi,
        namespace: str,
        live_pod: Callable[[str], Pod | None],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reviews = 0
        self._api, self._namespace, self._live_pod, self._now_s = api, namespace, live_pod, now_s
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def node_of(self, token: str) -> str:
        """The node whose agent has it. Raises Refused."""
        node = self.node_if_known(token)
        if node is not None:
            return node
        known = self._reviewed(token)
        digest = _digest(token)
        with self._lock:
            self._known[digest] = known
            self._known.move_to_end(digest)
            while len(self._known) > MAX_KEPT:
                self._known.popitem(last=False)
        return self._node(known)

    def node_if_known(self, token: str) -> str | None:
        """The same by an earlier review; None: there is none, or it is too old. Raises Refused."""
        if not token or len(token) > MAX_TOKEN_BYTES:
            raise Refused(401, "no token, or none that could be one")
        with self._lock:
            known = self._known.get(_digest(token))
        return None if known is None or known.until_s <= self._now_s() else self._node(known)

    def _reviewed(self, token: str) -> _Known:
        """Raises Refused where nobody could be asked: that is not remembered."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        self.reviews += 1
        try:
            status = self._api.send("POST", _REVIEWS, body).get("status")
        except Exception:  # noqa: BLE001  its text may quote what was sent
            raise Refused(503, "the Kubernetes API could not be asked whose the token is") from None
        now_s = self._now_s()
        refused = _refused(status, f"system:serviceaccount:{self._namespace}:{AGENT}")
        if refused is not None or not isinstance(status, dict):
            return _Known(now_s + REFUSED_S, refused=refused)
        extra = status["user"]["extra"]
        return _Known(now_s + KEPT_S, extra[_POD_UID][0], _only(extra.get(_NODE_NAME)))

    def _node(self, known: _Known) -> str:
        if known.refused is not None:
            raise Refused(*known.refused)
        pod = self._live_pod(known.pod_uid)
        if pod is None or pod.phase in _OVER:
            raise Refused(403, "the token's pod is not there, or not any more")
        if (pod.namespace, pod.service_account) != (self._namespace, AGENT):
            raise Refused(403, "the token's pod is no agent")
        if known.node and known.node != pod.node:
            raise Refused(403, "the token names another node than its pod's")
        return pod.node


class TokenFile:
    """Outside of a cluster: lines `NODE TOKEN`. Raises ValueError when made, with the line that is wrong."""

    def __init__(self, text: str) -> None:
        self._nodes: dict[bytes, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) != 2 or len(words[1]) < 16:
                raise ValueError(f"line {number}: must be NODE TOKEN, the token at least 16 characters")
            if self._nodes.setdefault(_digest(words[1]), words[0]) != words[0]:
                raise ValueError(f"line {number}: this token is another node's already")
        if not self._nodes:
            raise ValueError("there is no token in it")

    def node_of(self, token: str) -> str:
        """The node whose agent has it. Raises Refused."""
        node = self._nodes.get(_digest(token))
        if node is None:
            raise Refused(401, "no token, or an unknown one")
        return node

    def node_if_known(self, token: str) -> str | None:
        """The same: nobody needs to be asked. Raises Refused."""
        return self.node_of(token)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _refused(status: object, account: str) -> tuple[int, str] | None:
    """Why a review's status names no agent; None: it does."""
    if not isinstance(status, dict) or status.get("authenticated") is not True:
        return 401, "the token is not valid"
    audiences, user = status.get("audiences"), status.get("user")
    if not isinstance(audiences, list) or AUDIENCE not in audiences:
        return 401, f"the token is not meant for {AUDIENCE}"
    if not isinstance(user, dict) or user.get("username") != account:
        return 403, f"the token is not of {account}"
    extra = user.get("extra")
    uids = extra.get(_POD_UID) if isinstance(extra, Mapping) else None
    if not isinstance(uids, list) or len(uids) != 1 or not isinstance(uids[0], str) or not uids[0]:
        return 403, "the token is not bound to a pod"
    return None


def _only(values: object) -> str:
    return values[0] if isinstance(values, list) and len(values) == 1 and isinstance(values[0], str) else ""
