# SPDX-License-Identifier: Apache-2.0
"""One of several controllers leads, by a Lease of Kubernetes (docs/decisions/0013-controller.md).

Times are of this process's monotonic clock: a holder counts as gone when its record did not change for as
long as it said, as seen from here, so that no clock needs to agree with another.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

_log = logging.getLogger(__name__)

LEASE: Final = "overhop-controller"
LEASE_S: Final = 10
RENEW_S: Final = 7.0
"""A leader that could not renew for that long leads no more."""
RETRY_S: Final = 2.0
_CALL_S: Final = 5.0
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409


class LeaseApi(Protocol):
    """What is asked of the Kubernetes API; collector.cluster.api.Api has it."""

    def send(self, method: str, path: str, body: object = None, *, timeout_s: float = ...) -> dict[str, Any]:
        """Raises an exception with the `status` of HTTP, 0 where there was no answer."""


class Election:
    """Tries to lead, in a thread of its own. `on_change` hears True and False, in that thread."""

    def __init__(
        self,
        api: LeaseApi,
        namespace: str,
        identity: str,
        on_change: Callable[[bool], object],
        *,
        retry_s: float = RETRY_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem = ""
        """Why it is not known who leads; empty: it is."""
        self.holder = ""
        self._api, self._identity, self._on_change = api, identity, on_change
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._retry_s, self._now_s = retry_s, now_s
        self._is_leader = False
        self._renewed_s = 0.0
        self._seen: tuple[object, ...] = ()
        self._seen_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)

    @property
    def is_leader(self) -> bool:
        """Whether this one leads; False as soon as another might."""
        return self._is_leader and self._now_s() - self._renewed_s < RENEW_S

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a leader lets go, so that another need not wait."""
        self._stopping.set()
        self._thread.join(timeout=2 * _CALL_S)
        if self._is_leader:
            try:
                lease = self._api.send("GET", f"{self._path}/{LEASE}", timeout_s=_CALL_S)
                if lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    self._api.send("PUT", f"{self._path}/{LEASE}", lease, timeout_s=_CALL_S)
            except Exception as error:  # noqa: BLE001  it ends, whatever the API server does
                _log.warning("could not let go of the lease", extra={"reason": str(error)})
            self._lead(False)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.step()
            self._stopping.wait(self._retry_s * (0.8 + 0.4 * random.random()))

    def step(self) -> None:
        """Take, renew, or look; never raises."""
        began_s = self._now_s()
        try:
            has_it = self._try(began_s)
            self.problem = ""
        except Exception as error:  # noqa: BLE001  API server away, forbidden, an object that is no lease
            self.problem = f"lease {LEASE}: {error}"
            has_it = self._is_leader and began_s - self._renewed_s < RENEW_S
        else:
            if has_it:
                self._renewed_s = began_s
        self._lead(has_it)

    def _lead(self, has_it: bool) -> None:
        if has_it != self._is_leader:
            self._is_leader = has_it
            _log.info("leads" if has_it else "leads no more", extra={"identity": self._identity})
            self._on_change(has_it)

    def _try(self, now_s: float) -> bool:
        try:
            lease = self._api.send("GET", f"{self._path}/{LEASE}", timeout_s=_CALL_S)
        except Exception as error:
            if getattr(error, "status", 0) != _NOT_FOUND:
                raise
            return self._written("POST", self._path, self._record(None))
        spec = lease.get("spec") or {}
        self.holder = str(spec.get("holderIdentity") or "")
        seen = (self.holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_s = seen, now_s
        lasts_s = float(spec.get("leaseDurationSeconds") or 0)
        if self.holder not in ("", self._identity) and now_s - self._seen_s < lasts_s:
            return False
        return self._written("PUT", f"{self._path}/{LEASE}", self._record(lease))

    def _written(self, method: str, path: str, lease: dict[str, Any]) -> bool:
        """False: another was faster."""
        try:
            self._api.send(method, path, lease, timeout_s=_CALL_S)
        except Exception as error:
            if getattr(error, "status", 0) != _CONFLICT:
                raise
            return False
        self.holder = self._identity
        return True

    def _record(self, lease: dict[str, Any] | None) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        before = {} if lease is None else dict(lease.get("spec") or {})
        spec = before | {
            "holderIdentity": self._identity, "leaseDurationSeconds": LEASE_S, "renewTime": now,
        }  # fmt: skip
        if before.get("holderIdentity") != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(before.get("leaseTransitions") or 0) + 1}
        found = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}}
        return (found if lease is None else lease) | {"spec": spec}
