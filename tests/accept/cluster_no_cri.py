# SPDX-License-Identifier: Apache-2.0
"""An installation whose agents have no runtime's socket: the kernel and the controller give names."""

import time
from collections.abc import Iterator

from tests.accept.lines import Line
from tests.cluster import objects
from tests.cluster.installation import NAMESPACE, Installation, request, trace_ids

SETTLED_S = 45.0
PER_POD = 10


def lines(one: Installation) -> Iterator[Line]:
    """Requests between four pods by a service, and what is stored of them."""
    cluster = one.cluster
    agent = cluster.get("-n", NAMESPACE, "daemonset", "overhop-agent")["spec"]["template"]["spec"]
    sockets = [each["hostPath"]["path"] for each in agent["volumes"] if "hostPath" in each]
    yield Line(
        "no runtime's socket in the agent's pod",
        not any("containerd" in path for path in sockets),
        ", ".join(sockets),
    )
    cluster.apply(*objects.web("web", 4))
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    pods = cluster.get("pods", "-l", "app=web", "--field-selector=status.phase=Running")["items"]
    node_of = {each["metadata"]["name"]: each["spec"]["nodeName"] for each in pods}
    address = cluster.get("service", "web")["spec"]["clusterIP"]
    time.sleep(5)  # a pod is found once it has sent its first packet and the API knows its address
    since_s = time.time()
    sent: dict[str, tuple[str, str]] = {}
    for at, pod in enumerate(node_of):
        ids = trace_ids(at * 1000, PER_POD)
        sent |= {each: (pod, to) for each, to in zip(ids, request(cluster, pod, address, ids), strict=True)}
    time.sleep(SETTLED_S)
    found = one.hops_of(list(sent), since_s)
    wanted = {each: 1 if node_of[pod] == node_of[to] else 2 for each, (pod, to) in sent.items()}
    whole = sum(len(found[each]) >= wanted[each] for each in sent)
    yield Line("every request has its hops", whole == len(sent) > 0, f"{whole} of {len(sent)}")
    hops = [(each, hop) for each in sent for hop in found[each]]
    right = sum((hop["src_pod"], hop["dst_pod"]) == sent[each] for each, hop in hops)
    yield Line("every hop has both names", right == len(hops) > 0, f"{right} of {len(hops)}")
