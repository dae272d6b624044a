# SPDX-License-Identifier: Apache-2.0
"""The pods of this node, as somebody who knows tells them; looked at by a thread of its own."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.plan.names import Address

_log = logging.getLogger(__name__)

HURRY_S: Final = 0.1
"""How often to look while an interface waits for its pod."""
HURRIES: Final = 100
"""How many times in a row; an interface may be nobody's."""
CALM_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class OwnPod:
    """A pod of this node."""

    uid: str
    namespace: str
    name: str
    ifname: str
    """Its interface on the node; empty: not known, or it has none."""
    addresses: tuple[Address, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    workload: str = ""
    """As whoever knows the pod says; empty: it is one of Kubernetes, the controller is asked by its uid."""


@dataclass(frozen=True, slots=True)
class Pods:
    """What there is; `problem`: why that may not be all, empty otherwise."""

    found: tuple[OwnPod, ...] = ()
    problem: str = ""


Look = Callable[[], tuple[Sequence[OwnPod], str]]
"""All pods, and why that may not be all. May take long; never raises."""


class PodFollower:
    """Looks now and then, and often while `hurry` was called a moment ago."""

    def __init__(self, look: Look) -> None:
        self.now = Pods()
        self.looks = 0
        self._look = look
        self._hurries = 0
        self._is_called = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pods", daemon=True)

    def start(self) -> None:
        """Look once, now, and then in the background."""
        self._look_once()
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()
        self._is_called.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def hurry(self) -> None:
        """An interface is new."""
        self._hurries = HURRIES
        self._is_called.set()

    def rest(self) -> None:
        """No interface waits for its pod any more."""
        self._hurries = 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._hurries > 0:
                self._hurries -= 1
                self._is_called.wait(HURRY_S)
            else:
                self._is_called.wait(CALM_S)
            self._is_called.clear()
            if not self._stopping.is_set():
                self._look_once()

    def _look_once(self) -> None:
        found, problem = self._look()
        self.looks += 1
        new = Pods(tuple(found), problem)
        if new.problem != self.now.problem:
            _log.warning("pods of this node", extra={"problem": new.problem or "none any more"})
        if new != self.now:
            self.now = new
