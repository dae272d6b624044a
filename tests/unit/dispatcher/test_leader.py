# SPDX-License-Identifier: Apache-2.0
"""Two that want to lead, an API server that fails, and clocks that nobody may trust."""

import copy
from typing import Any

import pytest

from dispatcher.leader import Election


class ApiRefusalError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"status {status}")


class Leases:
    """An API server with one lease, resource versions checked as the real one does."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.fails = 0
        self._version = 0

    def send(self, method: str, path: str, body: object = None, *, timeout_s: float = 0) -> dict[str, Any]:
        assert path.startswith("/apis/coordination.k8s.io/v1/namespaces/overhop/leases")
        assert timeout_s > 0
        if self.fails:
            raise ApiRefusalError(self.fails)
        if method == "GET":
            if self.lease is None:
                raise ApiRefusalError(404)
            return copy.deepcopy(self.lease)
        assert isinstance(body, dict)
        version = body["metadata"].get("resourceVersion")
        if (method == "POST") != (self.lease is None) or (method == "PUT" and version != str(self._version)):
            raise ApiRefusalError(409)
        self._version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self._version)
        return self.lease


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def election(leases: Leases, name: str, clock: Clock) -> tuple[Election, list[bool]]:
    heard: list[bool] = []
    return Election(leases, "overhop", name, heard.append, now_s=clock), heard


def test_first_leads_and_second_waits(leases: Leases, clock: Clock) -> None:
    (a, heard_a), (b, heard_b) = election(leases, "a", clock), election(leases, "b", clock)
    a.step()
    b.step()
    assert (a.is_leader, b.is_leader, b.holder) == (True, False, "a")
    assert (heard_a, heard_b) == ([True], [])


def test_second_takes_over_once_the_record_did_not_change_for_so_long(leases: Leases, clock: Clock) -> None:
    (a, _), (b, heard_b) = election(leases, "a", clock), election(leases, "b", clock)
    a.step()
    b.step()
    clock.s += 9
    b.step()
    assert heard_b == []
    clock.s += 2
    b.step()
    assert heard_b == [True]
    assert [a.is_leader, b.is_leader] == [False, True], "a could not renew for more than seven seconds"
    a.step()
    assert [a.is_leader, b.is_leader] == [False, True]
    assert leases.lease is not None
    assert leases.lease["spec"]["leaseTransitions"] == 2


def test_leader_that_renews_stays(leases: Leases, clock: Clock) -> None:
    (a, heard_a), (b, _) = election(leases, "a", clock), election(leases, "b", clock)
    for _ in range(20):
        a.step()
        b.step()
        clock.s += 2
    assert (a.is_leader, b.is_leader, heard_a) == (True, False, [True])


def test_leader_that_cannot_renew_leads_no_more_before_another_may(leases: Leases, clock: Clock) -> None:
    (a, heard), _ = election(leases, "a", clock), None
    a.step()
    leases.fails = 500
    clock.s += 6
    a.step()
    assert (a.is_leader, a.problem) == (True, "lease overhop-controller: status 500")
    clock.s += 2
    assert (a.is_leader, heard) == (False, [True])
    a.step()
    assert heard == [True, False]
    leases.fails = 0
    a.step()
    assert (a.is_leader, a.problem) == (True, "")


def test_of_two_that_take_it_at_once_one_has_it(leases: Leases, clock: Clock) -> None:
    (a, _), (b, _) = election(leases, "a", clock), election(leases, "b", clock)
    a.step()
    stale = copy.deepcopy(leases.lease)
    clock.s += 60
    b.step()
    clock.s += 60
    b.step()
    assert b.is_leader
    assert stale is not None
    with pytest.raises(ApiRefusalError):
        leases.send("PUT", "/apis/coordination.k8s.io/v1/namespaces/overhop/leases/x", stale, timeout_s=1)


def test_leader_that_ends_lets_go_so_that_another_need_not_wait(leases: Leases, clock: Clock) -> None:
    (a, heard), (b, _) = election(leases, "a", clock), election(leases, "b", clock)
    a.start()
    while not a.is_leader:
        pass
    b.step()
    a.stop()
    assert heard == [True, False]
    b.step()
    assert b.is_leader


@pytest.mark.parametrize("spec", [None, {}, {"holderIdentity": None, "leaseDurationSeconds": None}])
def test_lease_that_nobody_holds_is_taken(leases: Leases, clock: Clock, spec: Any) -> None:  # noqa: ANN401
    leases.lease = {"metadata": {"name": "overhop-controller", "resourceVersion": "0"}, "spec": spec}
    a, _ = election(leases, "a", clock)
    a.step()
    assert a.is_leader
