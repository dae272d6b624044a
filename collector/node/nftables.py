# SPDX-License-Identifier: Apache-2.0
"""Address translation out of `nft -j list ruleset`. Pure.

Understands kube-proxy's nftables mode (Kubernetes pkg/proxy/nftables/proxier.go), and what leads from chains of
type nat to dnat in other tables where it is as simple (the CNI port mapper, Docker). What is not is counted.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from collector.node.nat import MAX_EXAMPLES, Masquerade, NatRules, Service, with_refusals
from collector.node.nft_conditions import text_of
from collector.node.nft_ruleset import NftRule, Ruleset, RulesetError, parse_ruleset
from collector.node.nft_steps import Steps, is_kube_proxy, service_name
from collector.node.translation import Step, Translation

IPTABLES: Final = frozenset({"nat", "filter", "mangle", "raw", "security"})
"""Tables that iptables makes; nft cannot show all of what is in them, iptables-save can."""
_HOOKS: Final = ("prerouting", "output")
_SOURCES: Final = ("masquerade", "snat")
_REFUSED: Final = {"drop": "drop", "goto": "reject"}


def parse_nft(
    text: str, family: str, without: frozenset[str] = IPTABLES, max_examples: int = MAX_EXAMPLES
) -> NatRules:
    """The translation of `family` (ipv4, ipv6); what is no such JSON is not read, with a reason."""
    try:
        ruleset = parse_ruleset(text, family, without)
    except RulesetError as error:
        return NatRules(read=False, reason=str(error))
    steps = Steps(ruleset, family)
    chains: dict[str, list[Step]] = defaultdict(list)
    for at, rule in enumerate(ruleset.rules):
        chains[" ".join(rule.chain)] += steps.of(at, rule)
    translation = Translation(chains)
    hooks = [" ".join(place) for hook in _HOOKS for place, of in ruleset.hooks.items() if of == hook]
    services = translation.services(hooks)
    missed = translation.missed()
    return NatRules(
        read=True,
        services=with_refusals(services, _refusals(ruleset)),
        masquerades=tuple(_masquerades(ruleset.rules)),
        not_understood=len(missed),
        examples=tuple(ruleset.rules[at].text for at in missed[:max_examples]),
    )


def _masquerades(rules: Sequence[NftRule]) -> Iterator[Masquerade]:
    for rule in rules:
        for name, value in rule.expressions:
            if name in _SOURCES:
                to = value.get("addr") if isinstance(value, dict) else None
                when = " ".join(text_of(each) for kind, each in rule.expressions if kind == "match")
                yield Masquerade(rule.chain[1], when[:300], to if isinstance(to, str) else "")


def _refusals(ruleset: Ruleset) -> Iterator[Service]:
    """Services that kube-proxy refuses before they are translated."""
    for place, verdicts in ruleset.maps.items():
        if not is_kube_proxy(place[0]) or not place[1].startswith("no-endpoint-"):
            continue
        cluster = ruleset.sets.get((place[0], "cluster-ips"), ())
        for each in verdicts:
            kind, address = "node-port", ""
            match each.key:
                case (str(address), str(protocol), int(port)):
                    kind = "cluster-ip" if address in cluster else "external"
                case (str(protocol), int(port)):
                    pass
                case _:
                    continue
            if each.action in _REFUSED:
                name = service_name(each.comment)
                yield Service(kind, name, protocol, address, port, (), "", 0, _REFUSED[each.action])
