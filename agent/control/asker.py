# SPDX-License-Identifier: Apache-2.0
"""Asks the controller what marks stand for, in batches, in a thread of its own.

Who had an address is asked some seconds after the time in question: until then the API server may not have
heard of a pod that is new. Answers about addresses hold for the time that was asked for and no longer.
"""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.control.client import ControllerAddress, ControllerClient, ControllerError
from agent.control.controller_clock import own_offset_ns
from agent.control.pods import OwnPod
from agent.naming.marks import Mark, interface_mark, parse_mark
from agent.naming.names import EndNames

_log = logging.getLogger(__name__)

SETTLE_S: Final = 5.0
"""How long after a time it is asked about."""
EXPIRES_S: Final = 10.0
"""How long a row waits for an answer after that: one interval."""
BATCH: Final = 2_000
RETRY_S: Final = 1.0
MAX_LATEST: Final = 20_000
MAX_INTERFACES: Final = 2_000
_BUCKETS: Final = {"node": "host", "external": "external", "ambiguous": "ambiguous"}
_UNKNOWN: Final = "unknown"


@dataclass(slots=True)
class Ticket:
    """A question for some marks in a time. `answers` None: not yet."""

    marks: frozenset[str]
    from_ns: int
    until_ns: int
    """Real time of this node, as its clock was at `own_offset_ns`: real time minus CLOCK_MONOTONIC."""
    own_offset_ns: int
    due_s: float
    """Not to be asked before; CLOCK_MONOTONIC."""
    expires_s: float
    answers: Mapping[str, EndNames] | None = field(default=None)


class Asker:
    """`ask` for a ticket and look at it later; threads may share it."""

    def __init__(self, address: ControllerAddress) -> None:
        self.workloads: Mapping[str, str] = {}
        """Of pods that were asked for by uid; a new mapping whenever it changes."""
        self.counts = {"asked": 0, "answered": 0, "ask_failures": 0, "expired": 0}
        self._client = ControllerClient(address)
        self.clock = self._client.clock
        self._latest: OrderedDict[str, EndNames] = OrderedDict()
        self._tickets: list[Ticket] = []
        self._uids: set[str] = set()
        self._interfaces: OrderedDict[str, OwnPod] = OrderedDict()
        self._lock = threading.Lock()
        self._is_called = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="names", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()
        self._is_called.set()
        self._client.end()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._client.close()

    def ask(self, marks: Iterable[str], from_ns: int, until_ns: int, settle_s: float = SETTLE_S) -> Ticket:
        """A ticket for these marks; times are this node's real time, in ns."""
        now_s = time.monotonic()
        wanted = frozenset(marks)
        is_about_time = any(parse_mark(each).kind in ("address", "interface") for each in wanted)
        due_s = now_s + (settle_s if is_about_time else 0.0)
        ticket = Ticket(wanted, from_ns, until_ns, own_offset_ns(), due_s, due_s + EXPIRES_S)
        with self._lock:
            self._tickets.append(ticket)
        self._is_called.set()
        return ticket

    def know(self, pods: Iterable[OwnPod]) -> None:
        """These are the pods of the node: workloads of new ones are asked for, those of others forgotten.

        Whose an interface was is remembered: a pod may be gone before its hops are named.
        """
        with self._lock:
            found = list(pods)
            self._uids = {pod.uid for pod in found if not pod.workload}
            if any(uid not in self._uids for uid in self.workloads):
                self.workloads = {uid: name for uid, name in self.workloads.items() if uid in self._uids}
            for pod in found:
                if pod.ifname:
                    self._interfaces[pod.ifname] = pod
                    self._interfaces.move_to_end(pod.ifname)
            while len(self._interfaces) > MAX_INTERFACES:
                self._interfaces.popitem(last=False)
        self._is_called.set()

    def hurry(self) -> None:
        """Tickets that wait are to be asked now: the agent ends."""
        with self._lock:
            for each in self._tickets:
                each.due_s = 0.0
        self._is_called.set()

    def latest(self, mark: str) -> EndNames | None:
        """The last answer, of whatever time: for people who look on, not for what is stored."""
        return self._latest.get(mark)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._is_called.wait(self._pause_s())
            self._is_called.clear()
            if self._stopping.is_set():
                return
            try:
                self._ask_due()
            except ControllerError as error:
                self.counts["ask_failures"] += 1
                if self.counts["ask_failures"] in (1, 10, 100):
                    _log.warning("names cannot be asked for", extra={"reason": str(error)})
                self._is_called.wait(RETRY_S)

    def _pause_s(self) -> float:
        with self._lock:
            if self._uids - self.workloads.keys():
                return RETRY_S
            waits = [each.due_s for each in self._tickets]
        return max(0.0, min(waits) - time.monotonic()) if waits else 60.0

    def _ask_due(self) -> None:
        """Raises ControllerError."""
        now_s = time.monotonic()
        with self._lock:
            due = [each for each in self._tickets if each.due_s <= now_s]
            self._tickets = [each for each in self._tickets if each.expires_s > now_s or each in due]
            uids = self._uids - self.workloads.keys()
        for each in due:
            if each.expires_s <= now_s:
                self.counts["expired"] += 1
                self._done(each, {})
        if uids:
            self._ask_workloads(uids)
        for each in due:
            if each.answers is None:
                self._done(each, self._answers(each))

    def _done(self, ticket: Ticket, answers: Mapping[str, EndNames]) -> None:
        ticket.answers = answers
        with self._lock:
            self._tickets = [each for each in self._tickets if each is not ticket]
            for mark, end in answers.items():
                self._latest[mark] = end
                self._latest.move_to_end(mark)
            while len(self._latest) > MAX_LATEST:
                self._latest.popitem(last=False)

    def _ask_workloads(self, uids: set[str]) -> None:
        """Pods that the controller does not know yet are asked for again."""
        found = self._posted([{"uid": uid} for uid in sorted(uids)])
        named = {uid: _text(each, "workload") for uid, each in zip(sorted(uids), found, strict=True)}
        with self._lock:
            self.workloads = {**self.workloads, **{uid: name for uid, name in named.items() if name}}

    def _answers(self, ticket: Ticket) -> dict[str, EndNames]:
        marks = sorted(ticket.marks)
        parsed = [parse_mark(each) for each in marks]
        with self._lock:
            owners = {
                each.text: self._interfaces.get(each.text) for each in parsed if each.kind == "interface"
            }
        known = {
            interface_mark(ifname): _told(ifname, pod)
            for ifname, pod in owners.items()
            if pod is None or pod.workload
        }
        asked = [(text, mark) for text, mark in zip(marks, parsed, strict=True) if text not in known]
        if not self.clock.is_heard and any(mark.kind == "address" for _, mark in asked):
            self._request([])
        span = self._span(ticket)
        questions = [_question(mark, span, owners.get(mark.text)) for _, mark in asked]
        found = {
            text: _named(mark, each, owners.get(mark.text))
            for (text, mark), each in zip(asked, self._posted(questions), strict=True)
        }
        return found | known

    def _posted(self, questions: list[dict[str, object]]) -> list[dict[str, Any]]:
        """One answer each. Raises ControllerError."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(questions), BATCH):
            part = questions[start : start + BATCH]
            self.counts["asked"] += len(part)
            found += _answers_in(self._request(part), len(part))
        self.counts["answered"] += len(found)
        return found

    def _request(self, questions: list[dict[str, object]]) -> bytes:
        """Raises ControllerError."""
        return self._client.request("POST", "/v1/names", json.dumps({"asked": questions}).encode()).body

    def _span(self, ticket: Ticket) -> tuple[int, int]:
        """The time of a ticket as the controller's clock has it, also where ours was set meanwhile."""
        ahead_ns = self.clock.ahead_ns(ticket.own_offset_ns)
        return max(0, ticket.from_ns + ahead_ns), max(0, ticket.until_ns + ahead_ns)


def _told(ifname: str, owner: OwnPod | None) -> EndNames:
    """Without the controller: nobody's interface stands for itself."""
    if owner is None:
        return EndNames("", ifname, ifname)
    return EndNames(owner.namespace, owner.name, owner.workload)


def _question(mark: Mark, span: tuple[int, int], owner: OwnPod | None) -> dict[str, object]:
    if owner is not None:
        return {"uid": owner.uid}
    if mark.kind == "uid":
        return {"uid": mark.text}
    if mark.kind == "node_port":
        return {"node_port": mark.port}
    if mark.kind == "service":
        return {"address": mark.text}
    return {"address": mark.text, "from_ns": span[0], "until_ns": span[1]}


def _answers_in(body: bytes, count: int) -> list[dict[str, Any]]:
    try:
        found = json.loads(body)["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if (
        not isinstance(found, list)
        or len(found) != count
        or not all(isinstance(each, dict) for each in found)
    ):
        raise ControllerError(0, "its answer is no list of names")
    return found


def _named(mark: Mark, answer: Mapping[str, Any], owner: OwnPod | None) -> EndNames:
    kind = _text(answer, "kind")
    if owner is not None:
        return EndNames(owner.namespace, owner.name, _text(answer, "workload") or _UNKNOWN)
    if mark.kind == "uid":
        return EndNames("", "", _text(answer, "workload") or _UNKNOWN)
    if mark.kind in ("service", "node_port"):
        return EndNames("", "", _service(mark, answer) if kind == "service" else _UNKNOWN)
    if kind == "pod":
        names = (_text(answer, key) for key in ("namespace", "name", "workload"))
        return EndNames(*names)
    return EndNames("", "", _BUCKETS.get(kind, _UNKNOWN))


def _service(mark: Mark, answer: Mapping[str, Any]) -> str:
    ports = answer.get("ports")
    key = "port" if mark.kind == "service" else "node_port"
    has_it = isinstance(ports, list) and any(
        isinstance(each, dict) and each.get(key) == mark.port for each in ports
    )
    return f"{_text(answer, 'namespace')}/{_text(answer, 'name')}" if has_it else _UNKNOWN


def _text(answer: Mapping[str, Any], key: str) -> str:
    value = answer.get(key)
    return value if isinstance(value, str) else ""
