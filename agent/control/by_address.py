# SPDX-License-Identifier: Apache-2.0
"""This node's pods without a container runtime: addresses by the kernel, whose they are by the controller."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.control.client import ControllerAddress, ControllerClient, ControllerError
from agent.control.controller_clock import own_offset_ns
from agent.control.pods import OwnPod
from agent.network.behind import addresses_behind, read_kernel
from agent.network.links import links
from agent.plan.names import Address

ASK_S: Final = 0.5
"""How often the controller is asked at most; the kernel is looked at each time."""
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Nameless:
    """Somebody behind an interface."""

    ifname: str
    addresses: tuple[Address, ...]
    """At least one."""
    uid: str = ""
    """Of the pod in the API, where its cgroup says it; the address is not asked about then."""


class PodsByAddress:
    """A Look of agent.control.pods. An interface is asked about until it is known whose it is."""

    def __init__(self, address: ControllerAddress) -> None:
        self._client = ControllerClient(address)
        self._known: dict[Nameless, OwnPod] = {}
        self._next_ask_s = 0.0

    def __call__(self) -> tuple[Sequence[OwnPod], str]:
        """All pods that routes and neighbours tell of, and why that may not be all."""
        try:
            behind = addresses_behind(links(), read_kernel())
        except OSError as error:
            return tuple(self._known.values()), f"addresses behind interfaces: {error}"
        return self.named(Nameless(name, addresses) for name, addresses in behind.items())

    def named(self, found: Iterable[Nameless]) -> tuple[Sequence[OwnPod], str]:
        """Those whose names are known, and why that may not be all."""
        behind = set(found)
        self._known = {key: pod for key, pod in self._known.items() if key in behind}
        new = sorted(behind - self._known.keys(), key=str)
        if not new or time.monotonic() < self._next_ask_s:
            return tuple(self._known.values()), ""
        self._next_ask_s = time.monotonic() + ASK_S
        try:
            answers = self._asked(new)
        except ControllerError as error:
            return tuple(self._known.values()), str(error)
        for each, answer in zip(new, answers, strict=True):
            if answer.get("kind") == "pod" and isinstance(answer.get("uid"), str):
                self._known[each] = _pod(each, answer)
        return tuple(self._known.values()), ""

    def _asked(self, new: Sequence[Nameless]) -> list[dict[str, Any]]:
        """Raises ControllerError."""
        if not self._client.clock.is_heard and not all(each.uid for each in new):
            self._request([])
        now_ns = time.time_ns() + self._client.clock.ahead_ns(own_offset_ns())
        body = self._request([_question(each, now_ns) for each in new])
        try:
            found = json.loads(body)["names"]
        except (ValueError, KeyError, TypeError, RecursionError):
            found = None
        if not isinstance(found, list) or len(found) != len(new):
            raise ControllerError(0, "its answer is no list of names")
        return [each if isinstance(each, dict) else {} for each in found]

    def _request(self, questions: list[dict[str, object]]) -> bytes:
        return self._client.request("POST", "/v1/names", json.dumps({"asked": questions}).encode()).body


def _question(one: Nameless, now_ns: int) -> dict[str, object]:
    if one.uid:
        return {"uid": one.uid}
    return {"address": str(one.addresses[0]), "from_ns": now_ns - _SECOND_NS, "until_ns": now_ns}


def _pod(one: Nameless, answer: dict[str, Any]) -> OwnPod:
    labels = answer.get("labels")
    known = {str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}
    uid, namespace, name = (str(answer.get(key, "")) for key in ("uid", "namespace", "name"))
    return OwnPod(uid, namespace, name, one.ifname, one.addresses, known)
