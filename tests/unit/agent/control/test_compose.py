# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

from agent.control.compose import composed, waiting
from agent.control.pods import OwnPod
from agent.network.links import Link
from agent.plan.contract import NodePlan, PodSelector, Requirement

LINKS = [
    Link(2, "eth0", kind="veth", link_netnsid=0),
    Link(7, "veth7", kind="veth", peer_ifindex=2, link_netnsid=1),
    Link(8, "veth8", kind="veth", peer_ifindex=2, link_netnsid=2),
    Link(9, "cni0", kind="bridge"),
]
WEB = OwnPod("u7", "shop", "web-1", "veth7", (ip_address("10.0.0.7"),), {"app": "web"})
EVERYTHING = (PodSelector(policy=""),)


def plan(*selectors: PodSelector) -> NodePlan:
    return NodePlan(cluster="c", node="n1", nic=("eth0",), selectors=selectors)


def test_pod_is_named_with_a_mark_until_its_workload_is_known() -> None:
    [web, nobodys] = composed(plan(*EVERYTHING), [WEB], {}, LINKS, None).vports
    assert (web.match, web.namespace, web.pod, web.workload) == ("veth7", "shop", "web-1", "?uu7")
    assert web.addresses == (ip_address("10.0.0.7"),)
    assert web.traced
    assert (nobodys.match, nobodys.pod, nobodys.workload, nobodys.traced) == ("veth8", "", "?iveth8", True)
    [web, _] = composed(plan(*EVERYTHING), [WEB], {"u7": "web"}, LINKS, None).vports
    assert web.workload == "web"


def test_pod_whose_workload_the_runtime_told_waits_for_nobody() -> None:
    plain = OwnPod("c1", "", "web-1", "veth7", workload="web")
    [web, _] = composed(plan(*EVERYTHING), [plain], {}, LINKS, None).vports
    assert (web.namespace, web.pod, web.workload, web.traced) == ("", "web-1", "web", True)


def test_interface_of_nobody_is_traced_only_if_the_first_selector_takes_every_pod() -> None:
    only_web = PodSelector(policy="web", labels=(Requirement(key="app", operator="In", values=("web",)),))
    [web, nobodys] = composed(plan(only_web, *EVERYTHING), [WEB], {}, LINKS, None).vports
    assert web.traced
    assert not nobodys.traced


def test_pod_that_no_selector_fits_keeps_its_name_and_is_not_traced() -> None:
    other = PodSelector(policy="other", namespaces=("other",))
    [web, nobodys] = composed(plan(other), [WEB], {"u7": "web"}, LINKS, None).vports
    assert (web.workload, web.traced, nobodys.traced) == ("web", False, False)


def test_parameters_are_those_of_the_selector_that_fits() -> None:
    chosen = PodSelector(policy="web", namespaces=("shop",), sample_shift=3, directions=frozenset({"in"}))
    [web, _] = composed(plan(chosen, *EVERYTHING), [WEB], {}, LINKS, None).vports
    assert (web.sample_shift, web.directions) == (3, frozenset({"in"}))


def test_nic_given_by_hand_counts_before_the_plans() -> None:
    assert composed(plan(*EVERYTHING), [], {}, LINKS, "veth8").nic == ("veth8",)
    assert composed(plan(*EVERYTHING), [], {}, LINKS, None).nic == ("eth0",)


def test_waiting_are_interfaces_of_pods_that_nobody_named() -> None:
    assert waiting(LINKS, [WEB], ("eth0",)) == {"veth8"}
    assert waiting(LINKS, [], ("eth0",)) == {"veth7", "veth8"}
