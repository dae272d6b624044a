# SPDX-License-Identifier: Apache-2.0
from overhop.cluster.state import NodeState, controllers, lines, status, wait_until_ready
from tests.unit.overhop.cluster.memory_api import MemoryApi, node, pod

AGENTS = "/apis/apps/v1/namespaces/overhop/daemonsets/overhop-agent"
CONTROLLERS = "/apis/apps/v1/namespaces/overhop/deployments/overhop-controller"


def _cluster() -> MemoryApi:
    api = MemoryApi(node("n1"), node("n2"))
    api.pods = [pod("a1", "agent", "n1"), pod("a2", "agent", "n2"), pod("c1", "controller", "n1")]
    api.kept[AGENTS] = {
        "metadata": {"generation": 3},
        "spec": {},
        "status": {"observedGeneration": 3, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2},
    }
    api.kept[CONTROLLERS] = {
        "metadata": {"generation": 1},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 1, "updatedReplicas": 2},
    }
    return api


def test_every_node_has_a_line_those_without_agent_too() -> None:
    api = MemoryApi(node("n2"), node("n1"), node("w", labels={"kubernetes.io/os": "windows"}))
    api.pods = [pod("a1", "agent", "n1", image="i:7")]
    assert status(api, "overhop", {"n1": True}) == [
        NodeState("n1", "a1", is_ready=True, is_reached=True, restarts=2, image="i:7", why=""),
        NodeState("n2", "", is_ready=False, is_reached=False, restarts=0, image="", why="there is no agent"),
    ]


def test_reached_is_not_known_where_nobody_could_be_asked() -> None:
    api = _cluster()
    assert [each[3] for each in lines(status(api, "overhop"))] == ["?", "?"]


def test_why_an_agent_is_not_ready_is_what_kubernetes_says_in_one_line() -> None:
    api = MemoryApi(node("n1"))
    one = pod("a1", "agent", "n1", ready=False)
    one["status"]["containerStatuses"][0]["state"] = {
        "waiting": {"reason": "ImagePullBackOff", "message": "no such image\n  i:1"}
    }
    api.pods = [one]
    assert status(api, "overhop")[0].why == "ImagePullBackOff no such image i:1"


def test_agent_that_is_ending_does_not_count() -> None:
    api = MemoryApi(node("n1"))
    one = pod("a1", "agent", "n1")
    one["metadata"]["deletionTimestamp"] = "now"
    api.pods = [one]
    assert status(api, "overhop")[0].pod == ""


def test_controller_that_is_ready_leads() -> None:
    api = MemoryApi()
    api.pods = [pod("c1", "controller", "n1", ready=False), pod("c2", "controller", "n2")]
    assert controllers(api, "overhop") == [("c1", False), ("c2", True)]


def test_all_ready_is_nothing_lacking() -> None:
    assert wait_until_ready(_cluster(), "overhop", 0) == []


def test_what_lacks_is_named() -> None:
    api = _cluster()
    api.pods = [pod("a1", "agent", "n1")]
    assert wait_until_ready(api, "overhop", 0) == ["agent of n2", "controller"]


def test_pods_of_before_are_not_what_was_installed() -> None:
    api = _cluster()
    api.kept[AGENTS]["status"] |= {"updatedNumberScheduled": 1}
    assert wait_until_ready(api, "overhop", 0) == ["overhop-agent: 1 of 2 replaced"]


def test_change_that_nobody_has_looked_at_yet_is_not_done() -> None:
    api = _cluster()
    api.kept[CONTROLLERS]["metadata"]["generation"] = 2
    assert wait_until_ready(api, "overhop", 0) == ["overhop-controller: 0 of 2 replaced"]
