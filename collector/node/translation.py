# SPDX-License-Identifier: Apache-2.0
"""What chains of rules translate destinations to, whoever wrote them and in whichever language. Pure.

A front end (iptables_nat, nftables) turns each rule into steps; here they are followed from the hooks on.
What a rule demands of the destination is collected on the way: an address, protocol and port that lead to
back ends are a service. A rule with conditions that nobody understood is not followed, but counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from collector.node.nat import Backend, Service
from collector.node.steps import Match, Step

_MAX_DEPTH: Final = 32
_STEPS_EACH: Final = 20
"""kube-proxy's rules are passed some three times each; a maze of chains that somebody built ends here."""
_NEARLY_ALL: Final = 1e-9
_LOOPBACK: Final = ("127.0.0.0/8", "127.0.0.1")


@dataclass(slots=True)
class _Way:
    """What a chain does with one destination."""

    backends: list[Backend] = field(default_factory=list)
    masquerade: str = ""
    affinity_s: int = 0
    services: dict[Match, Service] = field(default_factory=dict)
    """Narrower destinations."""
    aside: list[Step] = field(default_factory=list)
    """For some clients only; a Service tells where the others come."""
    is_for_insiders: bool = False
    """The node and its pods have a way of their own; if nobody else has, there are no back ends."""
    left: float = 1.0


class Translation:
    """Chains of steps, and those that the kernel calls itself.

    `understood`: numbers of the rules that were followed.
    """

    def __init__(self, chains: Mapping[str, Sequence[Step]], hooks: Sequence[str]) -> None:
        self.understood: set[int] = set()
        self._chains = chains
        self._hooks = hooks
        self._translating = _translating(chains)
        self._ways: dict[tuple[str, Match], _Way] = {}
        self._steps_left = 10_000 + _STEPS_EACH * sum(map(len, chains.values()))

    def services(self) -> tuple[Service, ...]:
        """What is translated; of two with one destination the first."""
        found: dict[Match, Service] = {}
        for hook in self._hooks:
            way = self._way(hook, Match(), 0)
            for match, service in way.services.items():
                found.setdefault(match, service)
            if way.backends:
                found.setdefault(Match(), _service(Match(), way, Step(-1, "go")))
        return tuple(dict.fromkeys(_without_loopback_doubles(found)))

    def _may_translate(self, step: Step) -> bool:
        """It is a translation, or leads to one."""
        return step.action in ("dnat", "odd") or (step.action == "go" and step.target in self._translating)

    def missed(self) -> list[int]:
        """Numbers of the rules that packets come to, that may translate, and were not followed."""
        steps = (step for chain in self._reached() for step in self._chains.get(chain, ()))
        return sorted({s.rule for s in steps if s.rule not in self.understood and self._may_translate(s)})

    def _reached(self) -> set[str]:
        """Chains with a way from the hooks; kube-proxy leaves others behind for a while."""
        found: set[str] = set()
        waiting = list(self._hooks)
        while waiting:
            chain = waiting.pop()
            if chain not in found:
                found.add(chain)
                waiting += [step.target for step in self._chains.get(chain, ()) if step.action == "go"]
        return found

    def _way(self, chain: str, match: Match, depth: int) -> _Way:
        key = chain, match
        if key in self._ways:
            return self._ways[key]
        way = self._ways[key] = _Way()  # a loop of chains ends here
        if depth > _MAX_DEPTH:
            return way
        for step in self._chains.get(chain, ()):
            self._steps_left -= 1
            if self._steps_left < 0 or not self._follow(step, match, way, depth):
                break
        self._follow_aside(match, way, depth)
        return way

    def _follow(self, step: Step, match: Match, way: _Way, depth: int) -> bool:
        """Adds what a step does to the way; False: none comes further than this step."""
        narrowed = match & step.match
        if narrowed is None:
            return True
        is_same = narrowed == match
        if step.action == "mark":
            if is_same and step.clients in ("all", "others"):
                way.masquerade = way.masquerade or ("always" if step.clients == "all" else "outside")
        elif step.action == "stop":
            return not (is_same and step.clients == "all" and step.share == 1.0)
        elif not self._may_translate(step) or step.action == "odd":
            pass
        elif step.clients != "all":
            if is_same and match.port and step.clients in ("some", "local", "known"):
                way.aside.append(step)
        elif is_same:
            self._add(step, match, way, depth)
        else:
            self._add_narrower(step, narrowed, way, depth)
        return way.left > _NEARLY_ALL

    def _add(self, step: Step, match: Match, way: _Way, depth: int) -> None:
        share = way.left * step.share
        if step.action == "dnat":
            self.understood.add(step.rule)
            way.backends.append(Backend(*step.backend, share))
            way.left -= share
            return
        below = self._way(step.target, match, depth + 1)
        if below.services and step.share != 1.0:
            return  # a chance to be translated is more than a Service can tell
        for narrower, service in below.services.items():
            way.services.setdefault(narrower, service)
        if below.services or below.backends or below.is_for_insiders:
            self.understood.add(step.rule)
        if below.backends:
            way.backends += [replace(each, share=each.share * share) for each in below.backends]
            way.left -= share
            way.masquerade = way.masquerade or below.masquerade
            way.affinity_s = max(way.affinity_s, below.affinity_s)
        elif below.is_for_insiders:
            way.is_for_insiders = True

    def _add_narrower(self, step: Step, match: Match, way: _Way, depth: int) -> None:
        if step.share != 1.0:
            return
        below = _Way()
        self._add(step, match, below, depth)
        for narrower, service in below.services.items():
            way.services.setdefault(narrower, service)
        if below.backends or below.is_for_insiders:
            way.services.setdefault(match, _service(match, below, step))

    def _follow_aside(self, match: Match, way: _Way, depth: int) -> None:
        """Steps for some clients: understood if they are one of three things that kube-proxy does."""
        others = [step for step in way.aside if step.clients != "known"]
        is_local = any(step.clients == "local" for step in others)
        if is_local and len({(step.action, step.target, step.backend) for step in others}) == 1:
            # externalTrafficPolicy Local: all back ends for pods and the node, its own for everybody else.
            way.is_for_insiders = True
            for step in others:
                self._add(replace(step, share=0.0), match, _Way(), depth)
        elif others and not way.backends and not is_local:
            # loadBalancerSourceRanges: who does not come by one of these steps does not come at all.
            self._add(replace(others[0], share=1.0), match, way, depth)
        self._follow_doubles(match, way, depth)

    def _follow_doubles(self, match: Match, way: _Way, depth: int) -> None:
        """Session affinity, and further source ranges: to the same back ends by another way."""
        own = {(each.address, each.port) for each in way.backends}
        for step in way.aside:
            if step.action == "dnat":
                targets = {step.backend}
            else:
                targets = {
                    (each.address, each.port) for each in self._way(step.target, match, depth + 1).backends
                }
            if targets and targets <= own:
                self.understood.add(step.rule)
                way.affinity_s = max(way.affinity_s, step.affinity_s)


def _service(match: Match, way: _Way, step: Step) -> Service:
    shares: dict[tuple[str, int], float] = {}
    for each in way.backends:
        shares[each.address, each.port] = shares.get((each.address, each.port), 0.0) + each.share
    return Service(
        kind=step.kind or ("dnat" if match.address else "host-port"),
        name=step.name,
        protocol=match.protocol,
        address=match.address,
        port=match.port,
        backends=tuple(Backend(*target, round(share, 6)) for target, share in shares.items()),
        masquerade=way.masquerade,
        affinity_s=way.affinity_s,
    )


def _translating(chains: Mapping[str, Sequence[Step]]) -> frozenset[str]:
    """The chains from which a translation can be reached."""
    callers: dict[str, set[str]] = {}
    for name, steps in chains.items():
        for step in steps:
            if step.action == "go":
                callers.setdefault(step.target, set()).add(name)
    found = {name for name, steps in chains.items() if any(step.action in ("dnat", "odd") for step in steps)}
    waiting = list(found)
    while waiting:
        new = callers.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return frozenset(found)


def _without_loopback_doubles(found: Mapping[Match, Service]) -> Iterator[Service]:
    """kube-proxy counts what comes to a node port of 127.0.0.0/8 by a rule of its own."""
    ports = {(match.protocol, match.port) for match in found if match.is_local and not match.address}
    for match, service in found.items():
        is_double = match.address in _LOOPBACK and (match.protocol, match.port) in ports
        if not is_double:
            yield service
