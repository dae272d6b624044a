# SPDX-License-Identifier: Apache-2.0
import threading
from dataclasses import replace

import pytest

from collector.cluster.addresses import AddressBook
from collector.cluster.decode import FoundOwner, FoundPod, Owner
from collector.cluster.pods import PodSink
from collector.snapshot import Pod

S = 1_000_000_000
RS = Owner("ReplicaSet", "shop-5f", "rs1")
SHOP = FoundOwner("rs1", Owner("Deployment", "shop", "d1"))


class Clock:
    """What time it is."""

    def __init__(self) -> None:
        self.ns = 1000 * S

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book() -> AddressBook:
    return AddressBook()


@pytest.fixture
def pods(book: AddressBook, clock: Clock) -> PodSink:
    return PodSink(threading.RLock(), book, lambda: None, clock)


def _pod(uid: str = "u1", name: str = "shop-5f-a", owner: Owner = RS, address: str = "10.0.0.1") -> FoundPod:
    workload, kind = (owner.name, owner.kind) if owner.kind else (name, "Pod")
    pod = Pod(uid, "web", name, "n1", (address,), workload=workload, workload_kind=kind, phase="Running")
    return FoundPod(pod, owner, 900 * S, 0)


def _put(pods: PodSink, found: FoundPod) -> None:
    pods.put((found.pod.namespace, found.pod.name), found)


def test_workload_is_the_deployment_whichever_comes_first(pods: PodSink) -> None:
    _put(pods, _pod("u1", "a"))
    assert pods.kept["u1"].workload == "shop-5f"
    pods.owned_by(SHOP)
    _put(pods, _pod("u2", "b", address="10.0.0.2"))
    assert {each.workload for each in pods.kept.values()} == {"shop"}


def test_workload_stays_when_the_replica_set_is_gone(pods: PodSink) -> None:
    pods.owned_by(SHOP)
    _put(pods, _pod())
    pods.disowned("rs1")
    _put(pods, _pod())
    assert pods.kept["u1"].workload == "shop"


def test_pod_without_owner_is_its_own_workload(pods: PodSink) -> None:
    _put(pods, _pod(name="alone", owner=Owner()))
    assert (pods.kept["u1"].workload_kind, pods.kept["u1"].workload) == ("Pod", "alone")


def test_same_name_with_another_uid_ends_the_first(pods: PodSink, book: AddressBook, clock: Clock) -> None:
    _put(pods, _pod("u1", "db-0"))
    clock.ns = 2000 * S
    _put(pods, replace(_pod("u2", "db-0", address="10.0.0.2"), started_ns=2000 * S))
    assert list(pods.kept) == ["u2"]
    assert book.whose("10.0.0.1", 2100 * S, 2100 * S).said == "unknown"
    known = pods.known("u1")
    assert known is not None
    assert known.name == "db-0"


def test_pod_that_is_over_has_no_address_any_more(pods: PodSink, book: AddressBook) -> None:
    found = _pod()
    _put(pods, found)
    over = replace(found, pod=replace(found.pod, phase="Succeeded"), ended_ns=950 * S)
    _put(pods, over)
    assert book.whose("10.0.0.1", 940 * S, 940 * S).said == "owner"
    assert book.whose("10.0.0.1", 960 * S, 960 * S).said == "unknown"


def test_pod_on_the_host_network_has_no_address_of_its_own(pods: PodSink, book: AddressBook) -> None:
    found = _pod()
    _put(pods, replace(found, pod=replace(found.pod, is_on_host_network=True)))
    assert book.whose("10.0.0.1", 950 * S, 950 * S).said == "unknown"


def test_vanished_in_a_new_list_had_its_address_until_the_gap(
    pods: PodSink, book: AddressBook, clock: Clock
) -> None:
    _put(pods, _pod())
    clock.ns = 1500 * S
    pods.replace({}, 1400 * S)
    assert book.whose("10.0.0.1", 1399 * S, 1399 * S).said == "owner"
    assert book.whose("10.0.0.1", 1401 * S, 1401 * S).said == "unknown"


def test_pods_of_a_node_come_and_go(pods: PodSink) -> None:
    _put(pods, _pod())
    assert [each.uid for each in pods.of_node("n1")] == ["u1"]
    pods.drop(("web", "shop-5f-a"))
    assert pods.of_node("n1") == []


def test_ten_minutes_after_the_end_nothing_is_left(pods: PodSink, clock: Clock) -> None:
    for at in range(100):
        _put(pods, _pod(f"u{at}", f"p{at}", Owner("ReplicaSet", "r", f"rs{at}"), f"10.0.0.{at}"))
        pods.drop(("web", f"p{at}"))
    clock.ns += 601 * S
    pods.tidy()
    assert pods.known("u5") is None
    left = [pods._gone, pods._uids, pods._by_node, pods._owner_uid, pods._owned, pods.kept]
    assert not any(left)
