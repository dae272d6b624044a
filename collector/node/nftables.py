# SPDX-License-Identifier: Apache-2.0
"""Address translation out of `nft -j list ruleset`. Pure.

Understands kube-proxy's nftables mode (Kubernetes pkg/proxy/nftables/proxier.go), and what leads from chains
of type nat to dnat in other tables where it is as simple (the CNI port mapper, Docker). The rest is counted.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from collector.node.nat import MAX_EXAMPLES, Masquerade, NatRules, Service, with_refusals
from collector.node.nft_conditions import text_of
from collector.node.nft_ruleset import NftRule, Ruleset, RulesetError, parse_ruleset
from collector.node.nft_steps import Steps, is_kube_proxy, is_of_other_family, match_key, service_name
from collector.node.steps import Step
from collector.node.translation import Translation

IPTABLES: Final = frozenset({"nat", "filter", "mangle", "raw", "security"})
"""Tables that iptables makes; nft cannot show all of what is in them, iptables-save can."""
_HOOKS: Final = ("prerouting", "output")
_SOURCES: Final = ("masquerade", "snat")
_KEY: Final = ("address", "protocol", "port")
"""Of kube-proxy's maps; those of node ports have no address."""
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
    hooks = [" ".join(place) for hook in _HOOKS for place in ruleset.hooked(hook)]
    translation = Translation(chains, hooks)
    services = translation.services()
    missed = translation.missed()
    return NatRules(
        read=True,
        services=with_refusals(services, _refusals(ruleset)),
        masquerades=tuple(_masquerades(ruleset.rules, family)),
        not_understood=len(missed),
        examples=tuple(ruleset.rules[at].text for at in missed[:max_examples]),
    )


def _masquerades(rules: Sequence[NftRule], family: str) -> Iterator[Masquerade]:
    for rule in rules:
        for name, value in rule.expressions:
            if name in _SOURCES and not is_of_other_family(value, family):
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
            found = match_key(_KEY[-len(each.key) :], each.key)
            if found is not None and each.action in _REFUSED:
                kind = (
                    "node-port"
                    if not found.address
                    else "cluster-ip"
                    if found.address in cluster
                    else "external"
                )
                called = found.protocol, found.address, found.port
                yield Service(kind, service_name(each.comment), *called, (), "", 0, _REFUSED[each.action])
