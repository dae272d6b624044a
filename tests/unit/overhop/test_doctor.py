# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

from collector.node.abilities import Abilities
from collector.node.links import Link, Network
from collector.node.pods.local import LocalPod
from overhop.doctor import Finding, RunningAgent, StoreState, Verdict, VportLooks, can_run, examine
from overhop.own_pods import OwnPods

GOOD = Abilities(
    machine="x86_64",
    kernel_release="6.12.1",
    kernel_version=(6, 12),
    realtime=False,
    btf=True,
    jit=True,
    tcx=True,
    clsact=True,
    clsact_problem="",
    lockdown="none",
    capabilities=frozenset({"CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"}),
    bcc_python="/usr/bin/python3",
    system_headers=True,
)


def link(name: str, kind: str = "", **more: object) -> Link:
    plain = Link(9, name, kind, True, 1450, True, False, 0, "", 0, 0)
    return replace(plain, **more)  # type: ignore[arg-type]  # any field, by keyword


ETH0 = link("eth0", ifindex=2, mtu_bytes=1500)
POD = link("veth1", "veth", peer_elsewhere=True)
NODE = Network((ETH0, POD), ("eth0",), "default route", {"gro": True, "gso": True, "tso": True}, 0)


def finding(
    subject: str, abilities: Abilities = GOOD, network: Network = NODE, agent: RunningAgent | None = None
) -> Finding | None:
    return next((found for found in examine(abilities, network, agent) if found.subject == subject), None)


def with_links(*links: Link) -> Network:
    return replace(NODE, links=(ETH0, POD, *links))


def test_examine_good_node_can_run_without_a_warning() -> None:
    found = examine(GOOD, NODE, RunningAgent(812))
    assert {each.verdict for each in found} == {Verdict.OK}
    assert can_run(found)


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [
        (
            replace(GOOD, kernel_release="5.15.0", kernel_version=(5, 15)),
            Finding("kernel", Verdict.FAIL, "5.15.0", "overhop needs Linux 6.1 or later"),
        ),
        (
            replace(GOOD, machine="riscv64"),
            Finding("machine", Verdict.FAIL, "riscv64", "only x86-64 and arm64 are known"),
        ),
        (
            replace(GOOD, capabilities=frozenset({"CAP_NET_ADMIN"})),
            Finding(
                "capabilities", Verdict.FAIL, "without CAP_BPF, CAP_PERFMON", "run as root or grant them"
            ),
        ),
        (
            replace(GOOD, bcc_python=None),
            Finding(
                "compiler",
                Verdict.FAIL,
                "no Python with bcc",
                "apt install python3-bpfcc (PyPI's bcc is another package)",
            ),
        ),
        (
            replace(GOOD, system_headers=False),
            Finding("headers", Verdict.FAIL, "no linux/bpf.h", "apt install linux-libc-dev"),
        ),
        (
            replace(GOOD, tcx=False, clsact=False, clsact_problem="Unknown qdisc"),
            Finding(
                "attach",
                Verdict.FAIL,
                "neither TCX nor clsact: Unknown qdisc",
                "needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF (modprobe sch_ingress cls_bpf)",
            ),
        ),
    ],
)
def test_examine_what_an_agent_cannot_do_without_fails(abilities: Abilities, expected: Finding) -> None:
    found = examine(abilities, NODE, None)
    assert expected in found
    assert not can_run(found)


def test_examine_sys_admin_stands_for_bpf_and_perfmon() -> None:
    admin = replace(GOOD, capabilities=frozenset({"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}))
    found = finding("capabilities", admin)
    assert found is not None
    assert found.verdict is Verdict.OK


def test_examine_agent_that_does_not_answer_is_a_warning() -> None:
    found = finding("agent", agent=RunningAgent(812, silence="watch socket /run/w: no answer within 10 s"))
    assert found == Finding(
        "agent", Verdict.WARN, "pid 812 does not answer", "watch socket /run/w: no answer within 10 s"
    )


@pytest.mark.parametrize(
    ("capabilities", "advice"),
    [
        (frozenset({"CAP_SYS_ADMIN"}), "run doctor in the machine's own network namespace to see it"),
        (frozenset(), "run doctor as root to see it"),
    ],
)
def test_examine_jit_that_is_not_known_says_where_it_is(capabilities: frozenset[str], advice: str) -> None:
    found = finding("BPF JIT", replace(GOOD, jit=None, capabilities=capabilities))
    assert found == Finding("BPF JIT", Verdict.NOTE, "unknown", advice)


def test_examine_old_kernel_with_clsact_is_ok() -> None:
    old = replace(GOOD, tcx=False, kernel_release="6.1.0", kernel_version=(6, 1))
    assert finding("attach", old) == Finding("attach", Verdict.OK, "clsact (TCX needs 6.6)")


def test_examine_tcx_not_to_be_asked_is_judged_by_the_version() -> None:
    assert finding("attach", replace(GOOD, tcx=None)) == Finding("attach", Verdict.OK, "TCX; clsact too")
    unknown = replace(GOOD, tcx=None, clsact=None, kernel_version=(6, 1))
    found = finding("attach", unknown)
    assert found is not None
    assert found.verdict is Verdict.NOTE


@pytest.mark.parametrize(
    ("extra", "subject", "fact"),
    [
        (link("wg0", "wireguard"), "WireGuard", "wg0"),
        (link("nk0", "netkit"), "netkit", "nk0"),
        (link("cilium_host", "veth"), "Cilium", "cilium_host"),
        (link("mac0", "macvlan", lower_ifindex=2), "macvlan", "mac0 on eth0"),
        (link("vx", "vxlan", overlay_port=9999), "overlay", "vx: vxlan on UDP 9999, MTU 1450"),
    ],
)
def test_examine_what_hides_traffic_is_a_warning(extra: Link, subject: str, fact: str) -> None:
    found = finding(subject, network=with_links(extra))
    assert found is not None
    assert (found.verdict, found.fact) == (Verdict.WARN, fact)
    assert found.advice != ""


def test_examine_ipsec_associations_are_a_warning() -> None:
    found = finding("IPsec", network=replace(NODE, ipsec_states=2))
    assert found is not None
    assert (found.verdict, found.fact) == (Verdict.WARN, "2 associations")


def test_examine_gro_off_is_a_warning_with_the_command() -> None:
    found = finding("offloads", network=replace(NODE, offloads={"gro": False, "gso": True, "tso": True}))
    assert found is not None
    assert found.verdict is Verdict.WARN
    assert found.advice.endswith("ethtool -K eth0 gro on")


def test_examine_no_nic_is_a_warning() -> None:
    found = finding(
        "NIC", network=replace(NODE, nics=(), nic_reason="no default route, and no interface is hardware")
    )
    assert found is not None
    assert found.verdict is Verdict.WARN


def store_finding(store: StoreState) -> tuple[str, str, str]:
    found = finding("store", agent=RunningAgent(812, store=store))
    assert found is not None
    return found.verdict, found.fact, found.advice


def test_examine_store_that_works_is_ok() -> None:
    assert finding("store", agent=RunningAgent(812)) is None
    assert store_finding(StoreState("/s", rows=12, waiting=0, dropped=0)) == (
        "ok",
        "/s: 12 rows since the agent's start",
        "",
    )


def test_examine_store_in_trouble_is_a_warning_with_the_reason() -> None:
    full = StoreState("/s", rows=12, waiting=7, dropped=3, error="store /s: No space left: make room")
    assert store_finding(full) == (
        "warn",
        "7 rows wait, 3 rows dropped",
        "store /s: No space left: make room",
    )
    assert store_finding(StoreState("/s", 12, 0, 3)) == (
        "warn",
        "/s: works, 3 rows dropped",
        "see the agent's log",
    )
    assert store_finding(StoreState("/s", 12, 0, 3, ahead_ns=5_400_000_000_000)) == (
        "warn",
        "/s: row times 5,400 s ahead of the clock, 3 rows dropped",
        "the clock was set back: if it is right now, begin a new store, or wait until it is there",
    )
    assert store_finding(StoreState("/s", 12, 0, 0, has_writer=False)) == (
        "warn",
        "/s: no writer",
        "see the agent's log",
    )


def test_examine_vport_with_tls_is_named_with_its_share() -> None:
    agent = RunningAgent(812, (VportLooks("pod a", 98, 0, 2), VportLooks("pod b", 1, 0, 99)))
    assert finding("pod a", agent=agent) == Finding(
        "pod a", Verdict.WARN, "98 % TLS", "only cleartext HTTP/1 requests give hops"
    )
    assert finding("pod b", agent=agent) is None


def test_examine_nics_each_with_its_kind_and_the_reason() -> None:
    bond, vlan = link("bond0", "bond"), link("bond0.7", "vlan", mtu_bytes=1496)
    node = replace(with_links(bond, vlan), nics=("bond0.7", "eth0"), nic_reason="underlay of flannel.1")
    found = [each.fact for each in examine(GOOD, node, None) if each.subject == "NIC"]
    assert found == [
        "bond0.7 (vlan, underlay of flannel.1), MTU 1496",
        "eth0 (underlay of flannel.1), MTU 1500",
    ]


def test_examine_nic_that_is_not_there_is_a_warning() -> None:
    found = finding("NIC", network=replace(NODE, nics=("eth7",)))
    assert found is not None
    assert (found.verdict, found.fact) == (Verdict.WARN, "no such interface: eth7")


def pod_findings(pods: OwnPods) -> list[Finding]:
    found = examine(GOOD, NODE, None, pods)
    return [each for each in found if each.subject in ("pods", "pod names")]


def test_examine_names_interfaces_by_who_knows_the_pods() -> None:
    pods = OwnPods("CRI at /x (containerd 1.6)", "", (LocalPod("u", "shop", "web-0", interface="veth1"),))
    assert pod_findings(pods) == [
        Finding("pods", Verdict.OK, "1 interface to pods: shop/web-0"),
        Finding("pod names", Verdict.OK, "by CRI at /x (containerd 1.6): 1 of 1"),
    ]


def test_examine_without_a_runtime_notes_that_names_come_from_elsewhere() -> None:
    pods = OwnPods("no container runtime: processes", "", (LocalPod("u", "", "", interface="veth1"),))
    assert pod_findings(pods) == [
        Finding("pods", Verdict.OK, "1 interface to pods: veth1"),
        Finding(
            "pod names",
            Verdict.NOTE,
            "no container runtime: processes: no names",
            "a controller or a plan gives names; see docs/pods.md",
        ),
    ]


def test_examine_warns_of_a_runtime_that_does_not_answer() -> None:
    found = pod_findings(OwnPods("Docker at /x", "Docker at /x: Permission denied"))
    assert (found[1].verdict, found[1].fact) == (Verdict.WARN, "Docker at /x: Permission denied")
