# SPDX-License-Identifier: Apache-2.0
"""Drift of all nodes: each agent sends its node's rules now and then, as often as that costs little."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from collector.cluster.state import ClusterState
from collector.drift import SETTLE_S, Drift, DriftWatch, Expectation, drifts, not_judged
from collector.node.nat import Backend, NatRules, Service
from dispatcher.names import WHOLE

LEAST_S: Final = 60.0
MOST_S: Final = 6 * 3600.0
FRESH_S: Final = 2.0
"""How old the snapshot may be that rules are compared with."""
SHARE: Final = 0.05
"""Of a core, that comparing may take."""
_Text = Annotated[str, Field(max_length=512)]
_Port = Annotated[int, Field(ge=0, le=65535), WHOLE]


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class BackendMessage(_Message):
    """Where connections go, and how many of them (0 to 1)."""

    address: _Text
    port: _Port
    share: Annotated[float, Field(ge=0, le=1)]


class RuleMessage(_Message):
    """What a node translates; collector.node.nat.Service."""

    kind: _Text
    name: _Text
    protocol: _Text
    address: _Text
    port: _Port
    backends: Annotated[list[BackendMessage], Field(max_length=10_000)] = []
    affinity_s: Annotated[int, Field(ge=0), WHOLE] = 0
    refused: _Text = ""

    def rule(self) -> Service:
        """As the parsers give it; masquerading is not compared."""
        backends = tuple(Backend(each.address, each.port, each.share) for each in self.backends)
        return Service(
            self.kind, self.name, self.protocol, self.address, self.port, backends, "",
            min(self.affinity_s, 1 << 31), self.refused,
        )  # fmt: skip


class FamilyMessage(_Message):
    """The rules of ipv4 or ipv6."""

    read: bool
    reason: Annotated[str, Field(max_length=2048)] = ""
    not_understood: Annotated[int, Field(ge=0), WHOLE] = 0
    services: Annotated[list[RuleMessage], Field(max_length=200_000)] = []

    def rules(self) -> NatRules:
        """As the parsers give them."""
        services = tuple(each.rule() for each in self.services)
        return NatRules(self.read, self.reason, services, not_understood=self.not_understood)


class NatMessage(_Message):
    """All rules of a node, by family."""

    ipv4: FamilyMessage
    ipv6: FamilyMessage


class Again(BaseModel):
    """When to send the rules again, and how many differences there are now."""

    again_s: float
    drift: int


@dataclass(frozen=True, slots=True)
class _Node:
    """What is known of one. Times: Unix time, s."""

    at_s: float
    lasting: Mapping[Drift, float]
    not_compared: Mapping[str, str]
    not_understood: int


class DriftBook:
    """Compares what agents send. Threads may share it, one node at a time."""

    def __init__(self, state: ClusterState, now_s: Callable[[], float] = time.time) -> None:
        self._state, self._now_s = state, now_s
        self._watch = DriftWatch()
        self._nodes: dict[str, _Node] = {}
        self._made: tuple[float, Expectation] | None = None

    def take(self, node: str, message: NatMessage) -> Again:
        """The rules of a node as they are now."""
        began_s, now_s = time.perf_counter(), self._now_s()
        rules = {"ipv4": message.ipv4.rules(), "ipv6": message.ipv6.rules()}
        wanted = self._expectation(now_s).of(node)
        found = drifts(wanted, rules)
        lasting = self._watch.update(node, found, now_s)
        families = {key[0] for key, each in wanted.items() if each.backends}
        reasons = {family: not_judged(rules[family]) for family in sorted(families)}
        self._nodes[node] = _Node(
            now_s,
            lasting,
            {family: reason for family, reason in reasons.items() if reason},
            sum(each.not_understood for each in rules.values()),
        )
        for gone in self._nodes.keys() - self._state.nodes.kept.keys():
            self._nodes.pop(gone, None)
            self._watch.forget(gone)
        cost_s = time.perf_counter() - began_s
        calm_s = min(max(LEAST_S, cost_s * len(self._state.nodes.kept) / SHARE), MOST_S)
        return Again(again_s=SETTLE_S + 5 if len(found) > len(lasting) else calm_s, drift=len(found))

    def _expectation(self, now_s: float) -> Expectation:
        """Made anew where the last one is older than a moment: many nodes send at once."""
        if self._made is None or not 0 <= now_s - self._made[0] <= FRESH_S:
            self._made = now_s, Expectation(self._state.snapshot())
        return self._made[1]

    def facts(self) -> dict[str, Any]:
        """For people: drift that lasts, since when (Unix time, s); null: the node's rules are not known."""
        return {name: self._of(self._nodes.get(name)) for name in sorted(self._state.nodes.kept)}

    @staticmethod
    def _of(node: _Node | None) -> dict[str, Any] | None:
        if node is None:
            return None
        return {
            "at_s": round(node.at_s, 1),
            "drift": [asdict(each) | {"since_s": round(since, 1)} for each, since in node.lasting.items()],
            "not_compared": dict(node.not_compared),
            "not_understood": node.not_understood,
        }
