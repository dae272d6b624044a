# SPDX-License-Identifier: Apache-2.0
from agent.hooks.attach import free_prio, is_ours
from agent.hooks.tc import EGRESS, INGRESS, Filter

CILIUM = Filter(2, INGRESS, prio=1, handle=1, name="cil_from_netdev")
OURS = Filter(2, INGRESS, prio=1, handle=0x6F68, name="overhop:nic-in")


def test_free_prio_of_an_empty_hook_is_1() -> None:
    assert free_prio([]) == 1


def test_free_prio_joins_bpf_filters_for_every_protocol() -> None:
    assert free_prio([CILIUM, OURS]) == 1


def test_free_prio_passes_by_other_kinds_and_protocols() -> None:
    one_protocol = Filter(2, INGRESS, prio=1, handle=1, protocol=0x0800)
    other_kind = Filter(2, INGRESS, prio=2, handle=1, kind="matchall")
    assert free_prio([one_protocol, other_kind]) == 3


def test_free_prio_does_not_look_at_other_chains() -> None:
    assert free_prio([Filter(2, INGRESS, prio=1, handle=1, kind="flower", chain=7)]) == 1


def test_is_ours_needs_kind_handle_and_name() -> None:
    assert is_ours(OURS)
    assert is_ours(Filter(9, EGRESS, prio=2, handle=0x6F68, name="overhop:vport-out"))
    assert not is_ours(CILIUM)
    assert not is_ours(Filter(2, INGRESS, prio=1, handle=0x6F68, name="cil_from_netdev"))
    assert not is_ours(Filter(2, INGRESS, prio=1, handle=1, name="overhop:nic-in"))
    assert not is_ours(Filter(2, INGRESS, prio=1, handle=0x6F68, kind="flower", name="overhop:nic-in"))


def test_filter_label_is_what_tc_shows() -> None:
    assert CILIUM.label == "bpf filter cil_from_netdev (pref 1, handle 0x1)"
    assert Filter(2, INGRESS, 5, 0x20, kind="matchall").label == "matchall filter (pref 5, handle 0x20)"
