# SPDX-License-Identifier: Apache-2.0
"""Address translation of this node as data: services and their back ends, masquerading.

Understands what leads from PREROUTING and OUTPUT to DNAT, as kube-proxy's iptables mode (Kubernetes
pkg/proxy/iptables/proxier.go), the CNI port mapper and Docker build it. What it does not is counted.
"""

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

from collector.node.iptables import Rule, parse_rules

MAX_EXAMPLES = 10
_TIMEOUT_S = 10
_MAX_DEPTH = 16
_STRUCTURE = frozenset({"", "RETURN", "ACCEPT", "DROP", "MARK", "CONNMARK", "LOG", "NFLOG", "TRACE"})
"""Targets that translate nothing."""
_ENTRY_OPTIONS = frozenset(
    {
        "--destination",
        "--protocol",
        "--dport",
        "--dst-type",
        "--comment",
        "--jump",
        "--goto",
        "--to-destination",
        "--nfacct-name",
        "! --in-interface",
        "--random",
        "--persistent",
        "-m",
    }
)
_KINDS = {"cluster IP": "cluster-ip", "loadbalancer IP": "load-balancer", "external IP": "external-ip"}
_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?::[\w.-]*)?(?= |$)")


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a service's connections go. `share`: of new connections, 0 to 1; port 0: the one called."""

    address: str
    port: int
    share: float


@dataclass(frozen=True, slots=True)
class Service:
    """An address and port that are translated; without an address: this port on every address of the node."""

    kind: str
    """`cluster-ip`, `node-port`, `load-balancer`, `external-ip`, or `dnat` where nobody said."""
    name: str
    """`namespace/name` out of the rule's comment; empty without one."""
    protocol: str
    address: str
    port: int
    backends: tuple[Backend, ...]
    masquerade: str
    """Whose source is translated too: `always`, `outside` (not from pods), empty: a pod calling itself."""


@dataclass(frozen=True, slots=True)
class Masquerade:
    """A rule that translates the source; `when` as iptables writes it, `to` empty: the NIC's address."""

    chain: str
    when: str
    to: str


@dataclass(frozen=True, slots=True)
class NatRules:
    """The nat table of one address family."""

    read: bool
    reason: str = ""
    """Why it was not read."""
    services: tuple[Service, ...] = ()
    masquerades: tuple[Masquerade, ...] = ()
    not_understood: int = 0
    """Rules that may translate and are in no field above."""
    examples: tuple[str, ...] = ()
    """The first of them."""


def read_nat() -> dict[str, NatRules]:
    """The rules of both families, `ipv4` and `ipv6`; needs CAP_NET_ADMIN to be told them.

    Of iptables, both back ends where both are in use (the legacy one needs CAP_NET_RAW too), and of nftables.
    """
    from collector.node.nftables import parse_nft

    nft = _output(["nft", "-j", "list", "ruleset"])
    found = {}
    for family, command, names in _FAMILIES:
        own = _read(command, Path(names))
        if isinstance(nft, NatRules):
            found[family] = own
            continue
        other = parse_nft(nft, family)
        found[family] = _joined(own, other) if own.read else replace(other, reason=own.reason)
    return found


_FAMILIES = (
    ("ipv4", "iptables", "/proc/net/ip_tables_names"),
    ("ipv6", "ip6tables", "/proc/net/ip6_tables_names"),
)


def parse_nat(text: str) -> NatRules:
    """The nat table in the output of iptables-save."""
    rules, unknown = parse_rules(text, "nat")
    table = _Table(rules)
    services = _without_loopback_doubles([*table.entries("PREROUTING"), *table.entries("OUTPUT")])
    for at, rule in enumerate(rules):
        if at not in table.understood and not table.is_harmless(rule):
            unknown.append(f"-A {rule.chain} {rule.text}")
    return NatRules(
        read=True,
        services=tuple(dict.fromkeys(services)),
        masquerades=tuple(_masquerades(rules)),
        not_understood=len(unknown),
        examples=tuple(unknown[:MAX_EXAMPLES]),
    )


class _Table:
    """Rules by chain, and which of them were understood, by index."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.understood: set[int] = set()
        self._rules = rules
        self._chains: dict[str, list[int]] = defaultdict(list)
        for at, rule in enumerate(rules):
            self._chains[rule.chain].append(at)
        self._backends: dict[str, tuple[Backend, ...]] = {}
        self._walked: set[str] = set()

    def entries(self, chain: str, depth: int = 0) -> Iterator[Service]:
        """Services whose first rule with a destination port is reached from `chain`; each chain once."""
        if chain in self._walked or depth > _MAX_DEPTH:
            return
        self._walked.add(chain)
        for at in self._chains.get(chain, ()):
            rule = self._rules[at]
            is_entry = rule.has("--dport") or rule.target == "DNAT"
            if not is_entry and rule.target in self._chains:
                yield from self.entries(rule.target, depth + 1)
            elif is_entry and (service := self._service(at)) is not None:
                yield service

    def is_harmless(self, rule: Rule) -> bool:
        """It translates nothing itself, or only the source (which `masquerades` has)."""
        if rule.target in self._chains:
            return not rule.has("--dport") or not self.backends(rule.target)
        return rule.target in _STRUCTURE or rule.target in ("MASQUERADE", "SNAT") or _is_mark(rule)

    def backends(self, chain: str, depth: int = 0) -> tuple[Backend, ...]:
        """Where a connection that enters `chain` goes; nowhere: empty."""
        if chain not in self._backends:
            self._backends[chain] = ()  # a loop of chains ends here
            if depth <= _MAX_DEPTH:
                found = tuple(self._shared(chain, depth, for_some=False))
                self._backends[chain] = found or tuple(self._shared(chain, depth, for_some=True))
        return self._backends[chain]

    def _service(self, at: int) -> Service | None:
        rule = self._rules[at]
        if not rule.options.keys() <= _ENTRY_OPTIONS:
            return None
        if rule.target == "DNAT":
            backends = self._translated(at, 1.0)
        else:
            backends = self.backends(rule.target) if rule.target in self._chains else ()
        port = rule.options.get("--dport", "0")
        if not backends or not port.isdigit():
            return None
        self.understood.add(at)
        address = _host(rule.options.get("--destination", ""))
        kind = "dnat" if address else "node-port"
        for ending, known in _KINDS.items():
            kind = known if rule.comment.endswith(ending) else kind
        name = _NAME.match(rule.comment)
        masquerade = self._masquerade(rule.target)
        protocol = rule.options.get("--protocol", "")
        return Service(kind, name["name"] if name else "", protocol, address, int(port), backends, masquerade)

    def _shared(self, chain: str, depth: int, *, for_some: bool) -> Iterator[Backend]:
        """Back ends with their shares: each rule takes its probability of what those before it left.

        `for_some`: also by rules that hold for some sources only (a load balancer's allowed clients).
        """
        left = 1.0
        for at in self._chains.get(chain, ()):
            rule = self._rules[at]
            if rule.has("--rcheck") or (_is_for_some_sources(rule) and not for_some):
                continue  # session affinity and local traffic: the same back ends by another way
            share = left * _probability(rule)
            found = self._translated(at, 1.0) if rule.target == "DNAT" else ()
            if rule.target in self._chains:
                found = self.backends(rule.target, depth + 1)
            yield from (replace(each, share=round(each.share * share, 6)) for each in found)
            if found:
                left -= share
            if left <= 1e-9:
                return

    def _translated(self, at: int, share: float) -> tuple[Backend, ...]:
        backend = _destination(self._rules[at].options.get("--to-destination", ""), share)
        if backend is None:
            return ()
        self.understood.add(at)
        return (backend,)

    def _masquerade(self, chain: str) -> str:
        marks = [self._rules[at] for at in self._chains.get(chain, ()) if _is_mark(self._rules[at])]
        if any(not mark.has("--source", "--src-type") for mark in marks):
            return "always"
        return "outside" if any("! --source" in mark.options for mark in marks) else ""


def _is_mark(rule: Rule) -> bool:
    """It marks what POSTROUTING shall masquerade."""
    return rule.target.endswith(("MARK-MASQ", "SETMARK"))


def _is_for_some_sources(rule: Rule) -> bool:
    return "--source" in rule.options or rule.has("--src-type")


def _probability(rule: Rule) -> float:
    try:
        return min(max(float(rule.options.get("--probability", "1")), 0.0), 1.0)
    except ValueError:
        return 1.0


def _destination(text: str, share: float) -> Backend | None:
    """`10.0.0.1:80`, `[fd00::1]:80`, `10.0.0.1`; None for ranges and what is no address."""
    host, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "0")
    try:
        return Backend(str(ip_address(host.strip("[]"))), int(port), share)
    except ValueError:
        return None


def _host(text: str) -> str:
    """An address without the length of a whole one; a network as it is; no text for any address."""
    try:
        network = ip_network(text) if text else None
    except ValueError:
        return text
    if network is None:
        return ""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _without_loopback_doubles(services: Sequence[Service]) -> Iterator[Service]:
    """kube-proxy counts what comes to a node port of 127.0.0.0/8 by a rule of its own."""
    ports = {(each.protocol, each.port) for each in services if each.kind == "node-port"}
    for each in services:
        if each.address != "127.0.0.0/8" or (each.protocol, each.port) not in ports:
            yield each


def _masquerades(rules: Sequence[Rule]) -> Iterator[Masquerade]:
    for rule in rules:
        if rule.target in ("MASQUERADE", "SNAT"):
            when = re.sub(rf"\s*-j {rule.target}\b.*", "", rule.text).strip()
            yield Masquerade(rule.chain, when, rule.options.get("--to-source", ""))


def _read(command: str, legacy_tables: Path) -> NatRules:
    found = _saved(f"{command}-save")
    if not found.read:
        return found
    legacy = f"{command}-legacy-save"
    try:
        has_legacy = "nat" in legacy_tables.read_text().split()
    except OSError:
        has_legacy = False  # the kernel has no such tables
    return _joined(found, _saved(legacy)) if has_legacy else found


def _joined(one: NatRules, other: NatRules) -> NatRules:
    """Rules of both back ends of iptables, which the kernel both applies; some see both by either command."""
    return NatRules(
        read=True,
        reason=other.reason,
        services=tuple(dict.fromkeys((*one.services, *other.services))),
        masquerades=tuple(dict.fromkeys((*one.masquerades, *other.masquerades))),
        not_understood=one.not_understood + other.not_understood,
        examples=(*one.examples, *other.examples)[:MAX_EXAMPLES],
    )


def _saved(command: str) -> NatRules:
    found = _output([command, "-t", "nat"])
    return found if isinstance(found, NatRules) else parse_nat(found)


def _output(command: Sequence[str]) -> "str | NatRules":
    """What a command prints; rules that were not read, and why, if it fails."""
    name = command[0]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_TIMEOUT_S,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        return NatRules(read=False, reason=f"{name} is not installed")
    except (OSError, subprocess.TimeoutExpired) as error:
        return NatRules(read=False, reason=f"{name}: {error}")
    if done.returncode != 0:
        return NatRules(read=False, reason=" ".join(done.stderr.split()) or f"{name} failed")
    return done.stdout
