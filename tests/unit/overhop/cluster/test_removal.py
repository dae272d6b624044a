# SPDX-License-Identifier: Apache-2.0
import copy

from overhop.cluster.install import apply, objects_of
from overhop.cluster.manifests import Wish
from overhop.cluster.removal import cleaner_of, uninstall
from tests.unit.overhop.cluster.memory_api import MemoryApi, Object, node, pod

AGENTS = "/apis/apps/v1/namespaces/overhop/daemonsets/overhop-agent"
CLEANERS = "/apis/apps/v1/namespaces/overhop/daemonsets/overhop-clean"
NAMESPACE = "/api/v1/namespaces/overhop"


def _installed(*reachable: str) -> MemoryApi:
    """Two nodes; on those that are `reachable` pods come and go."""
    api = MemoryApi(node("n1"), node("n2"))
    apply(api, objects_of(api, Wish("i"), b"t"), lambda _: None)
    api.pods = [pod(f"a-{each}", "agent", each) for each in ("n1", "n2")]
    api.log.clear()

    def react(method: str, path: str) -> None:
        if (method, path) == ("DELETE", AGENTS):
            api.pods = [each for each in api.pods if each["spec"]["nodeName"] not in reachable]
        elif (method, path) == ("PATCH", CLEANERS):
            api.pods += [pod(f"c-{each}", "clean", each, ready=each in reachable) for each in ("n1", "n2")]
        elif (method, path) == ("DELETE", NAMESPACE):
            for each in [each for each in api.kept if each.startswith(f"{NAMESPACE}/")]:
                del api.kept[each]

    api.reacts = react
    return api


def _agents(api: MemoryApi) -> Object:
    return copy.deepcopy(api.kept[AGENTS])


def test_every_node_is_cleaned_before_anything_else_goes() -> None:
    api, said = _installed("n1", "n2"), list[str]()
    assert uninstall(api, "overhop", 0, said.append) == []
    assert said[:2] == ["agents: gone", "nodes: 2 of 2 cleaned"]
    assert api.log[:3] == [("DELETE", AGENTS), ("PATCH", CLEANERS), ("DELETE", CLEANERS)]
    assert api.log[-1] == ("DELETE", NAMESPACE)
    assert api.kept == {}


def test_node_that_is_not_reached_is_named_and_the_rest_goes_anyway() -> None:
    api, said = _installed("n1"), list[str]()
    assert uninstall(api, "overhop", 0, said.append) == ["n2"]
    assert said[:2] == ["agents: still ending on n2", "nodes: 1 of 2 cleaned"]
    assert api.kept == {}


def test_one_that_was_interrupted_is_taken_up_again() -> None:
    api = _installed("n1", "n2")
    api.kept[CLEANERS] = cleaner_of(api.kept.pop(AGENTS))
    api.pods = []
    assert uninstall(api, "overhop", 0, lambda _: None) == []
    assert ("PATCH", CLEANERS) in api.log


def test_where_nothing_is_nothing_happens() -> None:
    api, said = MemoryApi(node("n1")), list[str]()
    assert uninstall(api, "overhop", 0, said.append) == []
    assert said == ["there are no agents: nothing is cleaned", "namespace overhop: gone"]


def test_cleaner_runs_as_the_agents_do_and_only_cleans() -> None:
    agents = _agents(_installed("n1"))
    cleaner = cleaner_of(agents)
    before, after = (each["spec"]["template"]["spec"] for each in (agents, cleaner))
    assert cleaner["metadata"]["name"] == "overhop-clean"
    assert after["containers"][0]["command"][2].startswith("/usr/local/bin/overhop clean &&")
    assert "args" not in after["containers"][0]
    for same in ("hostNetwork", "hostPID", "tolerations", "nodeSelector", "volumes"):
        assert after[same] == before[same], same
    assert after["containers"][0]["securityContext"] == before["containers"][0]["securityContext"]
    assert cleaner["spec"]["selector"]["matchLabels"] != agents["spec"]["selector"]["matchLabels"]
