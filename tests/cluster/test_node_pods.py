# SPDX-License-Identifier: Apache-2.0
"""The pods of a real node, by containerd's CRI, and without it by processes with an agent's rights."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.objects import web
from tests.kernel.test_node_pods import AGENTS_RIGHTS
from tests.kubernetes import Kubernetes, kubernetes

ROOT = Path(__file__).parents[2]
BY_PROCESSES = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from collector.node.pods.choose import AutoPods
from overhop.own_pods import own_kernel
pods = AutoPods(own_kernel(), [], []).pods()
print(json.dumps([[pod.uid, pod.addresses[0], pod.interface] for pod in pods if pod.pid]))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Kubernetes]:
    with kubernetes("--nodes", "1") as made:
        made.apply(web("web", 3)[0])
        made.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        yield made


def wanted(cluster: Kubernetes) -> dict[str, tuple[str, str]]:
    """Name and address by uid, as the API has them."""
    return {
        each["metadata"]["uid"]: (each["metadata"]["name"], each["status"]["podIP"])
        for each in cluster.get("pods")["items"]
    }


def test_inventory_by_cri_agrees_with_the_api(cluster: Kubernetes) -> None:
    command = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "overhop", "inventory", "--json")
    found = json.loads(cluster.exec("n1", *command))
    vports = {each["uid"]: (each["pod"], each["addresses"][0]) for each in found["vports"] if each["uid"]}
    assert vports == wanted(cluster)
    assert len(vports) == 3
    assert found["pods_source"].startswith("CRI at /run/containerd/containerd.sock (containerd ")
    assert found["pods_problem"] == ""


def test_pods_by_processes_agree_with_the_api(cluster: Kubernetes) -> None:
    found = json.loads(cluster.exec("n1", *AGENTS_RIGHTS, sys.executable, "-c", BY_PROCESSES))
    expected = {uid: address for uid, (_, address) in wanted(cluster).items()}
    assert {uid: address for uid, address, _ in found} == expected
    assert len({interface for *_, interface in found}) == 3
