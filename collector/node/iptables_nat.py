# SPDX-License-Identifier: Apache-2.0
"""Address translation out of iptables-save(8). Pure.

Understands what leads from PREROUTING and OUTPUT to DNAT, as kube-proxy's iptables mode (Kubernetes
pkg/proxy/iptables/proxier.go), the CNI port mapper and Docker build it. What it does not is counted.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Final

from collector.node.iptables import Rule, parse_chains, parse_rules
from collector.node.nat import MAX_EXAMPLES, Masquerade, NatRules, Service, with_refusals
from collector.node.steps import Action, Clients, Match, Step
from collector.node.translation import Translation

HOOKS: Final = ("PREROUTING", "OUTPUT")
_MAX_PORTS: Final = 64
_NODE_PORTS: Final = "KUBE-NODEPORTS"
_REFUSING: Final = {"KUBE-SERVICES": "cluster-ip", "KUBE-EXTERNAL-SERVICES": "external"}
"""Chains of the filter table where kube-proxy refuses services, and what kind these are if no node ports."""
_REFUSALS: Final = {"REJECT": "reject", "DROP": "drop"}
_STOPS: Final = frozenset({"RETURN", "ACCEPT", "DROP"})
_NOTHING: Final = frozenset({"", "MARK", "CONNMARK", "LOG", "NFLOG", "TRACE"})
"""Targets after which the next rule follows."""
_SOURCES: Final = ("MASQUERADE", "SNAT")
_NEUTRAL: Final = frozenset(
    {
        "-m",
        "--comment",
        "--jump",
        "--goto",
        "--to-destination",
        "--to-source",
        "--nfacct-name",
        "! --in-interface",
        "--random",
        "--random-fully",
        "--persistent",
    }
)
_UNDERSTOOD: Final = _NEUTRAL | {
    "--destination",
    "--protocol",
    "--dport",
    "--dports",
    "--destination-ports",
    "--dst-type",
    "--mode",
    "--probability",
    "--source",
    "! --source",
    "--src-type",
}
_LOOPBACK: Final = frozenset({"127.0.0.0/8", "127.0.0.1/32", "::1/128"})
_RECENT: Final = frozenset({"--rcheck", "--set", "--seconds", "--reap", "--name", "--mask", "--rsource"})
"""Options of session affinity: `--rcheck` asks who was here, `--set` notes who is."""
_KINDS: Final = {"cluster IP": "cluster-ip", "loadbalancer IP": "load-balancer", "external IP": "external-ip"}
_NAME: Final = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?::[\w.-]*)?(?= |$)")
_TARGET: Final = re.compile(r"\s*-j (MASQUERADE|SNAT)\b.*")


def parse_nat(text: str, max_examples: int = MAX_EXAMPLES) -> NatRules:
    """The nat table in the output of iptables-save, and what kube-proxy's filter table says of services."""
    rules, unknown = parse_rules(text, "nat")
    chains: dict[str, list[Step]] = defaultdict(list)
    names = parse_chains(text, "nat") | {rule.chain for rule in rules}
    for at, rule in enumerate(rules):
        chains[rule.chain] += _steps(at, rule, names)
    translation = Translation(chains, HOOKS)
    services = translation.services()
    unknown += [f"-A {rules[at].chain} {rules[at].text}" for at in translation.missed()]
    return NatRules(
        read=True,
        services=with_refusals(services, _refusals(text)),
        masquerades=tuple(_masquerades(rules)),
        not_understood=len(unknown),
        examples=tuple(unknown[:max_examples]),
    )


def _steps(at: int, rule: Rule, chains: frozenset[str]) -> Iterator[Step]:
    action, backend = _action(rule, chains)
    matches = _matches(rule)
    clients: Clients = _clients(rule) if matches else "unclear"
    name = _NAME.match(rule.comment)
    kind = next((kind for ending, kind in _KINDS.items() if rule.comment.endswith(ending)), "")
    for match in matches or (Match(),):
        yield Step(
            rule=at,
            action=action,
            match=match,
            target=rule.target if action == "go" else "",
            backend=backend,
            share=_share(rule),
            clients=clients,
            kind="node-port" if rule.chain == _NODE_PORTS else kind,
            name=name["name"] if name else "",
            affinity_s=_number(rule.options.get("--seconds", "")),
        )


def _action(rule: Rule, chains: frozenset[str]) -> tuple[Action, tuple[str, int]]:
    """What a rule does, and where it sends connections if it does."""
    if rule.target.endswith(("MARK-MASQ", "SETMARK")):
        return "mark", ("", 0)
    if rule.target in chains:
        return "go", ("", 0)
    if rule.target in _STOPS:
        return "stop", ("", 0)
    if rule.target == "DNAT":
        backend = destination(rule.options.get("--to-destination", ""))
        return ("odd", ("", 0)) if backend is None else ("dnat", backend)
    return "none" if rule.target in _NOTHING or rule.target in _SOURCES else "odd", ("", 0)


def _clients(rule: Rule) -> Clients:
    options = set(rule.options)
    if rule.options.get("! --destination") in _LOOPBACK:
        options.discard("! --destination")  # nobody else comes to these
    if "--rcheck" in options:
        return "known" if options <= _UNDERSTOOD | _RECENT else "unclear"
    if not options <= _UNDERSTOOD | (_RECENT if rule.target == "DNAT" and "--set" in options else set()):
        return "unclear"
    if rule.options.get("--mode", "random") != "random" or _number_of_sources(rule) > 1:
        return "unclear"
    if "! --source" in options:
        return "others"
    if "--src-type" in options:
        return "local" if rule.options["--src-type"] == "LOCAL" else "unclear"
    return "some" if "--source" in options else "all"


def _number_of_sources(rule: Rule) -> int:
    return sum(name in rule.options for name in ("--source", "! --source", "--src-type"))


def _matches(rule: Rule) -> tuple[Match, ...]:
    """What it demands of the destination, one for each of several ports; none: it cannot be told."""
    options = rule.options
    ports = [
        part
        for name in ("--dport", "--dports", "--destination-ports")
        if name in options
        for part in options[name].split(",")
    ]
    address = _host(options.get("--destination", ""))
    is_local = "--dst-type" in options
    if address is None or (is_local and options["--dst-type"] != "LOCAL"):
        return ()
    if len(ports) > _MAX_PORTS or not all(0 < _number(port) < 65536 for port in ports):
        return ()
    protocol = options.get("--protocol", "")
    return tuple(Match(address, protocol, _number(port or "0"), is_local) for port in ports or [""])


def _share(rule: Rule) -> float:
    try:
        share = float(rule.options.get("--probability", "1"))
    except ValueError:
        return 1.0
    return share if 0.0 <= share <= 1.0 else 1.0


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def destination(text: str) -> tuple[str, int] | None:
    """`10.0.0.1:80`, `[fd00::1]:80`, `10.0.0.1` (port 0); None for ranges and what is no address."""
    host, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "0")
    if not port.isdigit() or len(port) > 5 or int(port) > 65535:
        return None
    try:
        return str(ip_address(host.strip("[]"))), int(port)
    except ValueError:
        return None


def _host(text: str) -> str | None:
    """An address without the length of a whole one; a network as it is; None for what is neither."""
    if not text:
        return ""
    try:
        network = ip_network(text)
    except ValueError:
        return None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _masquerades(rules: Sequence[Rule]) -> Iterator[Masquerade]:
    for rule in rules:
        if rule.target in _SOURCES:
            when = _TARGET.sub("", rule.text).strip()
            yield Masquerade(rule.chain, when, rule.options.get("--to-source", ""))


def _refusals(text: str) -> Iterator[Service]:
    """Services that kube-proxy refuses in the filter table, because no back end is (allowed) there."""
    rules, _ = parse_rules(text, "filter")
    for rule in rules:
        kind, refused = _REFUSING.get(rule.chain), _REFUSALS.get(rule.target)
        matches = _matches(rule)
        name = _NAME.match(rule.comment)
        if kind and refused and len(matches) == 1 and name and rule.comment.endswith("endpoints"):
            [match] = matches
            kind = kind if match.address else "node-port"
            yield Service(kind, name["name"], match.protocol, match.address, match.port, (), "", 0, refused)
