# SPDX-License-Identifier: Apache-2.0
"""Sends this node's NAT rules to the controller, as often as it wants them, in a thread of its own."""

import json
import logging
import threading
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from agent.control.client import ControllerAddress, ControllerClient, ControllerError

_log = logging.getLogger(__name__)

FIRST_S: Final = 15.0
AGAIN_S: Final = 60.0
"""After a failure."""
BOUNDS_S: Final = (10.0, 24 * 3600.0)
_TIMEOUT_S: Final = 30.0


class RulesSender:
    """`read`: the rules as JSON; None: they could not be read. May take seconds."""

    def __init__(self, address: ControllerAddress, node: str, read: Callable[[], bytes | None]) -> None:
        self.counts = {"rules_sent": 0, "rules_failures": 0}
        self._client = ControllerClient(address)
        self._path = f"/v1/nodes/{quote(node, safe='')}/nat"
        self._read = read
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rules", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()
        self._client.end()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._client.close()

    def _run(self) -> None:
        wait_s = FIRST_S
        while not self._stopping.wait(wait_s):
            wait_s = self._sent()

    def _sent(self) -> float:
        """Send them. Returns how long to wait."""
        body = self._read()
        if body is None or self._stopping.is_set():
            self.counts["rules_failures"] += 1
            return AGAIN_S
        try:
            reply = self._client.request("PUT", self._path, body, timeout_s=_TIMEOUT_S)
            again_s = float(json.loads(reply.body)["again_s"])
        except (ControllerError, ValueError, KeyError, TypeError, RecursionError) as error:
            self.counts["rules_failures"] += 1
            if self.counts["rules_failures"] == 1:
                _log.warning("NAT rules cannot be sent", extra={"reason": str(error)})
            return AGAIN_S
        self.counts["rules_sent"] += 1
        least_s, most_s = BOUNDS_S
        return min(max(again_s, least_s), most_s)
