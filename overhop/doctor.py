# SPDX-License-Identifier: Apache-2.0
"""What a node's abilities mean for the agent, and what to do about them. Pure: facts in, findings out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from collector.node.abilities import Abilities
from collector.node.links import OVERLAY_KINDS, Link, Network
from overhop.own_pods import OwnPods, pod_name
from overhop.text import listed

OLDEST_KERNEL = (6, 1)
TCX_KERNEL = (6, 6)
DEFAULT_OVERLAY_PORTS = {"vxlan": (4789, 8472), "geneve": (6081,)}
BLIND_SHARE = 0.5
"""From this share of encrypted or HTTP/2 payloads on, a vport gets a warning."""


class Verdict(StrEnum):
    """How much a finding is in the way."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of `overhop doctor`."""

    subject: str
    verdict: Verdict
    fact: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class VportLooks:
    """What a running agent has seen at one vport, in packets with payload."""

    name: str
    tls: int
    http2: int
    requests: int
    """Cleartext HTTP/1 request starts."""


@dataclass(frozen=True, slots=True)
class StoreState:
    """The store that a running agent fills."""

    path: str
    rows: int
    """Appended since the agent's start."""
    waiting: int
    dropped: int
    error: str | None = None
    """Why rows wait."""
    has_writer: bool = True
    """Somebody makes Parquet of them."""
    ahead_ns: int = 0
    """How far row times are ahead of the clock."""


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """The agent of this network namespace."""

    pid: int
    looks: tuple[VportLooks, ...] = ()
    store: StoreState | None = None
    """None: it keeps nothing, or did not say."""
    silence: str = ""
    """Why it does not answer; empty if it does, or if we may not ask."""


def examine(
    abilities: Abilities,
    network: Network,
    agent: RunningAgent | None,
    pods: OwnPods = OwnPods(),  # noqa: B008  it is frozen
) -> tuple[Finding, ...]:
    """All findings, in the order of a start: system, kernel, tools, interfaces, what stays unseen, agent.

    `pods`: whose the interfaces are.
    """
    return (
        *_system(abilities),
        *_attaching(abilities),
        *_tools(abilities),
        *_interfaces(network, pods),
        *_unseen(network.links),
        *_encryption(network),
        *_agent(agent),
    )


def can_run(findings: Iterable[Finding]) -> bool:
    """Whether an agent could run here."""
    return all(finding.verdict is not Verdict.FAIL for finding in findings)


def _system(abilities: Abilities) -> Iterable[Finding]:
    if abilities.kernel_version < OLDEST_KERNEL:
        yield Finding("kernel", Verdict.FAIL, abilities.kernel_release, "overhop needs Linux 6.1 or later")
    else:
        yield Finding("kernel", Verdict.OK, abilities.kernel_release)
    if abilities.machine == "x86_64":
        yield Finding("machine", Verdict.OK, abilities.machine)
    elif abilities.machine == "aarch64":
        yield Finding(
            "machine", Verdict.WARN, abilities.machine, "arm64 is untested; please report what you see"
        )
    else:
        yield Finding("machine", Verdict.FAIL, abilities.machine, "only x86-64 and arm64 are known")
    if abilities.realtime:
        advice = "a preempted search gives a hop without its trace context (counter scratch_busy)"
        yield Finding("PREEMPT_RT", Verdict.WARN, "real-time kernel", advice)
    if abilities.lockdown == "confidentiality":
        yield Finding(
            "lockdown", Verdict.NOTE, "confidentiality", "TC programs still load; tracing tools do not"
        )
    elif abilities.lockdown is not None:
        yield Finding("lockdown", Verdict.OK, abilities.lockdown)
    yield _btf(abilities)
    yield _jit(abilities)


def _btf(abilities: Abilities) -> Finding:
    if abilities.btf:
        return Finding("BTF", Verdict.OK, "the kernel describes its types")
    return Finding("BTF", Verdict.NOTE, "not there", "nothing of overhop needs it; bpftool shows less")


def _jit(abilities: Abilities) -> Finding:
    if abilities.jit is None:
        is_admin = "CAP_SYS_ADMIN" in abilities.capabilities
        where = "in the machine's own network namespace" if is_admin else "as root"
        return Finding("BPF JIT", Verdict.NOTE, "unknown", f"run doctor {where} to see it")
    if abilities.jit:
        return Finding("BPF JIT", Verdict.OK, "on")
    return Finding("BPF JIT", Verdict.WARN, "off: several times slower", "sysctl net.core.bpf_jit_enable=1")


def _attaching(abilities: Abilities) -> Iterable[Finding]:
    needed = {"CAP_NET_ADMIN": False, "CAP_BPF": True, "CAP_PERFMON": True}
    is_admin = "CAP_SYS_ADMIN" in abilities.capabilities
    lacking = [
        name
        for name, admin_will_do in needed.items()
        if name not in abilities.capabilities and not (admin_will_do and is_admin)
    ]
    if lacking:
        yield Finding("capabilities", Verdict.FAIL, f"without {listed(lacking)}", "run as root or grant them")
    else:
        yield Finding("capabilities", Verdict.OK, listed(sorted(needed)))
    yield _hook(abilities)


def _hook(abilities: Abilities) -> Finding:
    has_tcx = abilities.tcx if abilities.tcx is not None else abilities.kernel_version >= TCX_KERNEL
    if has_tcx:
        beside = {True: "; clsact too", False: "; no clsact", None: ""}[abilities.clsact]
        return Finding("attach", Verdict.OK, f"TCX{beside}")
    if abilities.clsact:
        return Finding("attach", Verdict.OK, "clsact (TCX needs 6.6)")
    if abilities.clsact is None:
        return Finding("attach", Verdict.NOTE, "clsact unknown", "run doctor as root to see it")
    advice = "needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF (modprobe sch_ingress cls_bpf)"
    return Finding("attach", Verdict.FAIL, f"neither TCX nor clsact: {abilities.clsact_problem}", advice)


def _tools(abilities: Abilities) -> Iterable[Finding]:
    if abilities.bcc_python is None:
        advice = "apt install python3-bpfcc (PyPI's bcc is another package)"
        yield Finding("compiler", Verdict.FAIL, "no Python with bcc", advice)
    else:
        yield Finding("compiler", Verdict.OK, f"bcc of {abilities.bcc_python}")
    if not abilities.system_headers:
        yield Finding("headers", Verdict.FAIL, "no linux/bpf.h", "apt install linux-libc-dev")


def _interfaces(network: Network, pods: OwnPods) -> Iterable[Finding]:
    yield from _nics(network)
    names = {pod.interface: pod_name(pod) for pod in pods.found if pod.name}
    vports = [link.name for link in network.links if _leads_elsewhere(link) and link.name not in network.nics]
    yield _pods([names.get(each, each) for each in vports])
    if pods.source:
        yield _pod_names(pods, len(vports), sum(each in names for each in vports))
    for link in network.links:
        if link.kind in OVERLAY_KINDS and link.up:
            yield _overlay(link)


def _leads_elsewhere(link: Link) -> bool:
    return link.kind == "veth" and link.peer_elsewhere and link.up


def _pods(vports: Sequence[str]) -> Finding:
    if not vports:
        return Finding("pods", Verdict.NOTE, "no veth leads to a pod", "pods appear when they start")
    plural = "s" if len(vports) != 1 else ""
    return Finding("pods", Verdict.OK, f"{len(vports)} interface{plural} to pods: {listed(vports, 4)}")


def _pod_names(pods: OwnPods, vports: int, named: int) -> Finding:
    if pods.problem:
        return Finding("pod names", Verdict.WARN, pods.problem, "see docs/pods.md: who tells a node's pods")
    if named or not vports:
        return Finding("pod names", Verdict.OK, f"by {pods.source}: {named} of {vports}")
    advice = "a controller or a plan gives names; see docs/pods.md"
    return Finding("pod names", Verdict.NOTE, f"{pods.source}: no names", advice)


def _nics(network: Network) -> Iterable[Finding]:
    by_name = {link.name: link for link in network.links}
    found = [by_name[name] for name in network.nics if name in by_name]
    if not found:
        missing = f"no such interface: {listed(network.nics)}" if network.nics else network.nic_reason
        yield Finding("NIC", Verdict.WARN, missing, "name it: overhop agent --nic NAME")
        return
    for link in found:
        kind = f"{link.kind}, " if link.kind else ""
        fact = f"{link.name} ({kind}{network.nic_reason}), MTU {link.mtu_bytes}"
        if link.has_ethernet:
            yield Finding("NIC", Verdict.OK, fact)
        else:
            advice = "name the device below: --nic NAME"
            yield Finding("NIC", Verdict.WARN, f"{fact}: no Ethernet header", advice)
    yield from _offloads(found[0].name, network.offloads)


def _offloads(nic: str, offloads: Mapping[str, bool]) -> Iterable[Finding]:
    off = sorted(name for name, on in offloads.items() if not on)
    if "gro" in off:
        advice = f"a context beyond the first segment is not found: ethtool -K {nic} gro on"
        yield Finding("offloads", Verdict.WARN, f"{listed(off)} off", advice)
    elif offloads:
        yield Finding("offloads", Verdict.OK, f"{listed(off)} off" if off else "gro, gso, tso on")


def _overlay(link: Link) -> Finding:
    known = DEFAULT_OVERLAY_PORTS.get(link.kind, ())
    if not link.overlay_port:
        return Finding("overlay", Verdict.OK, f"{link.name}: {link.kind}, MTU {link.mtu_bytes}")
    fact = f"{link.name}: {link.kind} on UDP {link.overlay_port}, MTU {link.mtu_bytes}"
    if link.overlay_port in known:
        return Finding("overlay", Verdict.OK, fact)
    option = "vxlan_ports" if link.kind == "vxlan" else "geneve_port"
    return Finding("overlay", Verdict.WARN, fact, f"not a default port: set program.{option} in the plan")


def _unseen(links: Sequence[Link]) -> Iterable[Finding]:
    """Ways past the hooks (pods that use them show no hops)."""
    by_index = {link.ifindex: link for link in links}
    if netkit := [link.name for link in links if link.kind == "netkit"]:
        yield Finding("netkit", Verdict.WARN, listed(netkit), "netkit has no clsact: these pods show no hops")
    if cilium := [link.name for link in links if link.name.startswith("cilium_")]:
        advice = "with bpf_redirect_peer packets to pods pass by vport-out: expect tx, but no rx"
        yield Finding("Cilium", Verdict.WARN, listed(cilium), advice)
    direct = [
        f"{link.name} on {by_index[link.lower_ifindex].name}"
        for link in links
        if link.kind in ("macvlan", "ipvlan") and link.lower_ifindex in by_index
    ]
    if direct:
        yield Finding("macvlan", Verdict.WARN, listed(direct), "pods behind it have no host-side interface")
    if functions := [f"{link.name} ({link.virtual_functions})" for link in links if link.virtual_functions]:
        yield Finding("SR-IOV", Verdict.NOTE, listed(functions), "pods on a virtual function show no hops")
    if any(link.name == "kube-ipvs0" for link in links):
        yield Finding(
            "kube-proxy", Verdict.NOTE, "IPVS mode", "hops are seen; service names need iptables or nft"
        )


def _encryption(network: Network) -> Iterable[Finding]:
    advice = "what goes through it is encrypted at the NIC: only local hops are seen"
    if wireguard := [link.name for link in network.links if link.kind == "wireguard" and link.up]:
        yield Finding("WireGuard", Verdict.WARN, listed(wireguard), advice)
    if network.ipsec_states:
        yield Finding("IPsec", Verdict.WARN, f"{network.ipsec_states} associations", advice)


def _agent(agent: RunningAgent | None) -> Iterable[Finding]:
    if agent is None:
        yield Finding("agent", Verdict.NOTE, "none runs in this network namespace", "overhop agent")
        return
    if agent.silence:
        yield Finding("agent", Verdict.WARN, f"pid {agent.pid} does not answer", agent.silence)
        return
    yield Finding("agent", Verdict.OK, f"runs as pid {agent.pid}")
    if agent.store is not None:
        yield _store(agent.store)
    for looks in agent.looks:
        yield from _blind_vport(looks)


def _store(store: StoreState) -> Finding:
    dropped = f", {store.dropped} rows dropped" if store.dropped else ""
    if store.error is not None:
        return Finding("store", Verdict.WARN, f"{store.waiting} rows wait{dropped}", store.error)
    if not store.has_writer:
        return Finding("store", Verdict.WARN, f"{store.path}: no writer{dropped}", "see the agent's log")
    if store.ahead_ns:
        fact = f"{store.path}: row times {store.ahead_ns / 1e9:,.0f} s ahead of the clock{dropped}"
        advice = "the clock was set back: if it is right now, begin a new store, or wait until it is there"
        return Finding("store", Verdict.WARN, fact, advice)
    if store.dropped:
        return Finding("store", Verdict.WARN, f"{store.path}: works{dropped}", "see the agent's log")
    return Finding("store", Verdict.OK, f"{store.path}: {store.rows} rows since the agent's start")


def _blind_vport(looks: VportLooks) -> Iterable[Finding]:
    seen = looks.tls + looks.http2 + looks.requests
    for count, what in ((looks.tls, "TLS"), (looks.http2, "HTTP/2")):
        if seen and count / seen >= BLIND_SHARE:
            fact = f"{100 * count / seen:.0f} % {what}"
            yield Finding(looks.name, Verdict.WARN, fact, "only cleartext HTTP/1 requests give hops")
