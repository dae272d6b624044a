# SPDX-License-Identifier: Apache-2.0
"""overhop in a real cluster of two nodes, as a user has it. In this order: the last test uninstalls."""

import base64
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.cluster import objects
from tests.cluster.installation import IMAGE, NAMESPACE, ROOT, Installation, request, trace_ids, unique
from tests.kubernetes import KubernetesError, until

pytestmark = pytest.mark.timeout(600)
PER_POD = 10
NAMED_S = 45.0
"""Rows wait at most an interval, five seconds and another interval; then they are sent."""


@dataclass(frozen=True, slots=True)
class Web:
    """A Deployment of four HTTP servers and its Service."""

    pods: list[dict[str, Any]]
    address: str


@pytest.fixture(scope="module")
def web(installed: Installation) -> Web:
    cluster = installed.cluster
    cluster.apply(*objects.web("web", 4))
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    pods = cluster.get("pods", "-l", "app=web")["items"]
    return Web(pods, cluster.get("service", "web")["spec"]["clusterIP"])


def test_requests_between_pods_have_all_their_hops_by_name(installed: Installation, web: Web) -> None:
    since_s = time.time()
    node_of = {each["metadata"]["name"]: each["spec"]["nodeName"] for each in web.pods}
    assert set(node_of.values()) == {"n1", "n2"}
    sent: dict[str, tuple[str, str]] = {}
    for at, pod in enumerate(node_of):
        ids = trace_ids(at * 1000, PER_POD)
        answers = request(installed.cluster, pod, web.address, ids)
        assert set(answers) <= set(node_of)
        sent |= {each: (pod, answer) for each, answer in zip(ids, answers, strict=True)}

    def arrived() -> Any:  # noqa: ANN401  hops by id, or nothing yet
        found = installed.hops_of(list(sent), since_s)
        wanted = {each: 1 if node_of[pod] == node_of[to] else 2 for each, (pod, to) in sent.items()}
        return found if all(len(found[each]) >= wanted[each] for each in sent) else None

    found = until("all hops are stored", arrived, NAMED_S)
    for each, (pod, answer) in sent.items():
        hops = {hop["kind"]: hop for hop in found[each]}
        is_local = node_of[pod] == node_of[answer]
        assert sorted(hops) == (["local"] if is_local else ["rx", "tx"]), (each, pod, answer)
        for kind, hop in hops.items():
            assert (hop["src_ns"], hop["src_workload"]) == ("default", "web")
            assert (hop["dst_ns"], hop["dst_workload"]) == ("default", "web")
            assert (hop["src_pod"], hop["dst_pod"]) == (pod, answer)
            assert hop["node"] == node_of[answer if kind == "rx" else pod]
            assert hop["service"] == ("" if kind == "rx" else "default/web")
            is_routed = installed.cluster.facts["cni"] == "host-gw"
            assert hop["encap"] == ("none" if is_local or is_routed else "vxlan")


def test_hops_by_series_agree_with_what_was_sent(installed: Installation, web: Web) -> None:
    """By a service of its own: rows of earlier requests may come later."""
    pods = [each["metadata"]["name"] for each in web.pods]
    since_s, name = time.time(), unique("counted")
    installed.cluster.apply(objects.service(name, "web"))
    address = installed.cluster.get("service", name)["spec"]["clusterIP"]
    rules = "n1", "iptables-save" if installed.proxy_mode == "iptables" else "nft list ruleset"
    until("rules", lambda: address in installed.cluster.exec(rules[0], *rules[1].split()))
    until("rules", lambda: address in installed.cluster.exec("n2", *rules[1].split()))
    for at, pod in enumerate(pods):
        request(installed.cluster, pod, address, trace_ids(100_000 + at * 1000, PER_POD))
    total = 0

    def counted() -> bool:
        nonlocal total
        kinds: Counter[str] = Counter()
        span = f"{int(time.time() - since_s) + 1}s"
        for row in installed.stored("hops", "--since", span, "--workload", "web")["rows"]:
            if row["service"] == f"default/{name}":
                kinds[row["kind"]] += row["count"]
        total = kinds["tx"] + kinds["local"]
        return total >= len(pods) * PER_POD

    until("all requests are in summaries", counted, NAMED_S)
    assert total == len(pods) * PER_POD


def test_kubelet_probes_are_from_the_host(installed: Installation) -> None:
    cluster = installed.cluster
    since_s, name = time.time(), unique("probed")
    pod = objects.http_pod(name, probe=True)
    cluster.apply(pod)
    cluster.kubectl("wait", "--for=condition=ready", "--timeout=60s", f"pod/{name}")

    def probes() -> Any:  # noqa: ANN401  rows
        return [each for each in installed.samples(since_s) if each["dst_pod"] == name]

    until("a probe is seen or the time for it is over", lambda: probes() or time.time() > since_s + 30, 40)
    # A probe comes from the node itself and passes one tracing point only: no hop, counted as waiting stamps.
    assert all(each["src_workload"] == "host" for each in probes())


def test_client_on_the_host_network_of_another_node_is_the_host(installed: Installation, web: Web) -> None:
    since_s = time.time()
    target = next(each for each in web.pods if each["spec"]["nodeName"] == "n2")
    ids = trace_ids(200_000, 5)
    for each in ids:
        header = f"traceparent: 00-{each}-00000000000000b2-01"
        installed.cluster.exec(
            "n1", "curl", "-s", "-m", "5", "-H", header, f"http://{target['status']['podIP']}/"
        )

    def arrived() -> Any:  # noqa: ANN401  hops by id, or nothing yet
        found = installed.hops_of(ids, since_s)
        return found if all(found.values()) else None

    found = until("all hops are stored", arrived, NAMED_S)
    for hops in found.values():
        [hop] = hops
        assert (hop["kind"], hop["src_workload"], hop["dst_pod"]) == (
            "rx",
            "host",
            target["metadata"]["name"],
        )


def test_status_names_every_node_and_the_leader(installed: Installation) -> None:
    found = json.loads(installed.managed("status", "--json"))
    assert [(each["node"], each["is_ready"], each["image"]) for each in found["nodes"]] == [
        ("n1", True, IMAGE),
        ("n2", True, IMAGE),
    ]
    assert [each["leads"] for each in found["controllers"]].count(True) == 1
    assert [each["is_reached"] for each in found["nodes"]] == [True, True]


def test_agents_come_from_where_the_network_policy_lets_in(installed: Installation) -> None:
    """Flannel's tunnels and bridges, not the nodes' own addresses: seen at the controller's connections."""
    cluster = installed.cluster
    policy = cluster.get("-n", NAMESPACE, "networkpolicy", "overhop-controller")
    [rule] = policy["spec"]["ingress"]
    open_to = [ip_network(each["ipBlock"]["cidr"]) for each in rule["from"]]
    status = json.loads(installed.managed("status", "--json"))
    leader = next(each["pod"] for each in status["controllers"] if each["leads"])
    command = ("ss", "-Htn", "state", "established", "sport = :9443")
    said = cluster.kubectl("-n", NAMESPACE, "exec", leader, "--", *command)
    peers = {ip_address(line.split()[-1].rpartition(":")[0].strip("[]")) for line in said.splitlines()}
    peers = {each for each in peers if not each.is_loopback}  # port-forward
    assert len(peers) >= 2, said
    assert [each for each in peers if not any(each in network for network in open_to)] == []
    nodes = {ip_address(each["ip"]) for each in cluster.facts["nodes"]}
    assert peers - nodes, "all peers have the address of a node: this test shows nothing"


def test_upgrade_that_says_nothing_keeps_store_and_policies(installed: Installation) -> None:
    cluster = installed.cluster

    def now() -> list[object]:
        agents = ("pods", "-l", "app.kubernetes.io/component=agent")
        pods = cluster.get("-n", NAMESPACE, *agents)["items"]
        configs = cluster.get("-n", NAMESPACE, "configmap", "overhop-agent", "overhop-policies")["items"]
        return [[each["metadata"]["uid"] for each in pods], [each["data"] for each in configs]]

    before = now()
    installed.managed("install", "--image", IMAGE, "--wait", "90")
    assert now() == before, "what is configured, and the agents: nothing changed, so none is replaced"


def test_controller_knows_the_cluster_and_its_agents(installed: Installation) -> None:
    found = installed.controller()
    uid = installed.cluster.get("namespace", "kube-system")["metadata"]["uid"]
    assert found["cluster"] == uid[:8]
    assert {name: each["has_agent"] for name, each in found["nodes"].items()} == {"n1": True, "n2": True}
    assert found["problems"] == {}
    assert found["shared_addresses"] == {}


def test_agents_run_with_three_capabilities_and_no_secret_in_any_log(installed: Installation) -> None:
    cluster = installed.cluster
    for node in cluster.nodes:
        [pid] = cluster.exec(node, "pgrep", "-f", "overhop agent").split()[:1]
        status = cluster.exec(node, "cat", f"/proc/{pid}/status")
        effective = int(
            next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16
        )
        # NET_ADMIN 12, PERFMON 38, BPF 39 (linux/capability.h)
        assert effective & ~(1 << 12 | 1 << 38 | 1 << 39) == 0
    logs = installed.logs()
    for name in ("overhop-people", "overhop-store"):
        secret = cluster.get("-n", NAMESPACE, "secret", name)["data"]["token"]
        assert base64.b64decode(secret).decode() not in logs
    assert "eyJhbGciOi" not in logs, "a token of a service account"
    assert "Traceback" not in logs


def test_new_pod_is_traced_within_a_second(installed: Installation, web: Web) -> None:
    """It sends its first request as soon as it runs, and one every 50 ms from then on."""
    cluster = installed.cluster
    since_s, name = time.time(), unique("early")
    ids = trace_ids(300_000, 60)
    cluster.apply(objects.sender(name, web.address, ids, on="n1"))
    until("it is done", lambda: cluster.get("pod", name)["status"]["phase"] == "Succeeded", 60)
    done_s = time.time()

    def arrived() -> Any:  # noqa: ANN401  hops by id, or nothing yet
        found = installed.hops_of(ids, since_s)
        return found if all(found.values()) or time.time() > done_s + NAMED_S else None

    found = until("its hops are stored", arrived, NAMED_S + 5)
    missed = [at for at, each in enumerate(ids) if not found[each]]
    assert len(missed) <= 20, missed  # 20 requests are a second
    assert missed == list(range(len(missed))), "once it is traced, every request is"
    names = {
        (hop["src_ns"], hop["src_pod"], hop["src_workload"])
        for hops in found.values()
        for hop in hops
        if hop["kind"] != "rx"
    }
    assert names == {("default", name, name)}


def test_plan_of_the_live_cluster_explains_itself(installed: Installation, web: Web) -> None:
    kubeconfig = ("--kubeconfig", str(installed.cluster.kubeconfig))
    found = json.loads(installed.overhop("plan", *kubeconfig, "--json"))
    assert sorted(found["plans"]) == ["n1", "n2"]
    name = web.pods[0]["metadata"]["name"]
    said = installed.overhop("plan", *kubeconfig, "--why", f"default/{name}")
    assert "everything is traced" in said


def test_doctor_says_what_is_seen_on_every_node(installed: Installation) -> None:
    """Agents say it some twenty seconds after their start, and every ten minutes."""

    def found() -> Any:  # noqa: ANN401  JSON
        said = json.loads(installed.managed("doctor", "--json"))
        return said if all(said["nodes"].values()) else None

    said = until("both agents have said it", lambda: _tried(found), 90)
    assert said["blind"] == []
    assert sorted(said["nodes"]) == ["n1", "n2"]
    subjects = {each["subject"] for each in said["nodes"]["n1"]}
    assert {"kernel", "NIC"} <= subjects, subjects
    assert "2 of 2 nodes are traced." in installed.managed("doctor")


def test_drift_of_all_nodes_is_none_as_their_agents_say(installed: Installation) -> None:
    def known() -> Any:  # noqa: ANN401  JSON
        said = json.loads(installed.managed("drift", "--json"))["nodes"]
        return said if all(said.values()) else None

    said = until("both agents have sent their rules", lambda: _tried(known), 90)
    assert {name: (each["drift"], each["not_understood"]) for name, each in said.items()} == {
        "n1": ([], 0),
        "n2": ([], 0),
    }
    assert "0 differences on 2 of 2 nodes" in installed.managed("drift")


def _tried(ask: Callable[[], Any]) -> Any:  # noqa: ANN401  what it returns
    with suppress(KubernetesError):
        return ask()
    return None


def test_drift_is_a_rule_that_somebody_deleted(installed: Installation, web: Web) -> None:
    cluster = installed.cluster
    if installed.proxy_mode != "iptables":
        pytest.skip("by rules of iptables; nftables' are compared with recordings (tests/unit/collector)")

    def drift(node: str, expect: int) -> Any:  # noqa: ANN401  JSON
        command = (
            sys.executable,
            "-P",
            "-m",
            "overhop",
            "cluster",
            "drift",
            "--node",
            node,
            "--wait",
            "0",
            "--json",
        )
        script = f"cd {ROOT}; PYTHONPATH={ROOT} OVERHOP_CONFIG=/dev/null {' '.join(command)}"
        script += f" --kubeconfig {cluster.kubeconfig}; test $? = {expect}"
        return json.loads(cluster.exec(node, "sh", "-c", script))["drift"]

    assert drift("n1", 0) == drift("n2", 0) == []
    rules = cluster.exec("n1", "iptables-save", "-t", "nat").splitlines()
    [rule] = [
        line for line in rules if line.startswith("-A KUBE-SERVICES") and f"-d {web.address}/32" in line
    ]
    try:
        cluster.exec("n1", "sh", "-c", "iptables -t nat " + rule.replace("-A", "-D", 1))
        [found] = drift("n1", 1)
        assert (found["service"], found["what"]) == ("default/web", "missing service")
        assert (found["address"], found["port"]) == (web.address, 80)
    finally:
        cluster.exec("n1", "sh", "-c", "iptables -t nat " + rule.replace("-A", "-I", 1))


def test_uninstall_leaves_nothing(installed: Installation) -> None:
    cluster = installed.cluster
    said = installed.managed("uninstall")
    assert "nodes: 2 of 2 cleaned" in said
    listed = cluster.kubectl("get", "namespaces,clusterroles,clusterrolebindings", "-o", "name")
    assert "overhop" not in listed
    for node in cluster.nodes:
        assert "overhop" not in cluster.exec(node, "bpftool", "net", "show")
    assert json.loads(installed.managed("uninstall", "--json")) == {"not_reached": []}
