# SPDX-License-Identifier: Apache-2.0
"""Controllers on a real API server: tokens that it gave out, its lease, plans and names over HTTP."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from collector.cluster.api import connect
from dispatcher.controller import Controller, ControllerConfig
from dispatcher.metrics import ControllerMetrics, serve_metrics
from dispatcher.policy import parse_policies
from tests.cluster import objects
from tests.kubernetes import Kubernetes, until

PEOPLE = "a-token-of-people"


@contextmanager
def controller(api_server: Kubernetes, identity: str = "one", **settings: Any) -> Iterator[Controller]:  # noqa: ANN401
    """One that runs, in a thread; whether it leads is another question."""
    api = connect(str(api_server.kubeconfig))
    config = ControllerConfig("127.0.0.1", 0, identity=identity, people=lambda: PEOPLE, **settings)
    one = Controller(api, config)
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        until("it listens", lambda: one.port)
        yield one
    finally:
        one.ask_end()
        thread.join(timeout=20)
        api.close()
        assert not thread.is_alive()


def ask(
    one: Controller, method: str, path: str, token: str = "", body: object = None, **headers: str
) -> tuple[int, Any]:
    """Status and JSON (None: there is none)."""
    request = urllib.request.Request(f"http://127.0.0.1:{one.port}{path}", method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    if body is not None:
        request.data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            data = answer.read()
            return answer.status, json.loads(data) if data.startswith(b"{") else None
    except urllib.error.HTTPError as error:
        data = error.read()
        return error.code, json.loads(data) if data else None


@pytest.fixture(scope="module")
def agents(api_server: Kubernetes) -> dict[str, str]:
    """Pods of agents on two nodes and tokens as the kubelet would get them; and some that are not."""
    api_server.apply(
        objects.namespace("overhop"),
        objects.node("a1", "10.1.0.1", "10.244.1.0/24"),
        objects.node("a2", "10.1.0.2", "10.244.2.0/24"),
        *(objects.service_account(name, "overhop") for name in ("overhop-agent", "other")),
        objects.agent("agent-1", "a1"),
        objects.agent("agent-2", "a2"),
        objects.agent("stranger", "a1", account="other"),
    )
    for name in ("agent-1", "agent-2", "stranger"):
        objects.set_status(api_server, "pod", name, "overhop", phase="Running")

    def token(account: str, *options: str, audience: str = "overhop-controller") -> str:
        return api_server.kubectl(
            "-n", "overhop", "create", "token", account, f"--audience={audience}", "--duration=600s", *options
        ).strip()

    def of(pod: str, account: str = "overhop-agent", **options: str) -> str:
        return token(account, "--bound-object-kind=Pod", f"--bound-object-name={pod}", **options)

    return {
        "a1": of("agent-1"),
        "a2": of("agent-2"),
        "unbound": token("overhop-agent"),
        "stranger": of("stranger", "other"),
        "audience": of("agent-1", audience="https://kubernetes.default.svc"),
    }


def test_tokens_open_exactly_their_own_node(api_server: Kubernetes, agents: dict[str, str]) -> None:
    with controller(api_server) as one:
        until("it leads", lambda: one.is_ready)
        status = {
            name: ask(one, "GET", "/v1/nodes/a1/plan", agents.get(name, name))[0]
            for name in ("a1", "a2", "unbound", "stranger", "audience", "nonsense")
        }
        assert status == {
            "a1": 409, "a2": 403, "unbound": 403, "stranger": 403, "audience": 401, "nonsense": 401,
        }  # fmt: skip
        assert ask(one, "PUT", "/v1/nodes/a2/inventory", agents["a1"], {})[0] == 403
        assert ask(one, "PUT", "/v1/nodes/a1/inventory", agents["a1"], {"contract": 2})[0] == 204
        assert ask(one, "GET", "/v1/nodes/a1/plan")[0] == 401
        assert ask(one, "GET", "/v1/cluster", agents["a1"])[0] == 401
        assert ask(one, "GET", "/v1/cluster", PEOPLE)[0] == 200


def test_token_of_a_pod_that_is_deleted_opens_nothing_any_more(
    api_server: Kubernetes, agents: dict[str, str]
) -> None:
    assert agents
    api_server.apply(objects.agent("short", "a1"))
    objects.set_status(api_server, "pod", "short", "overhop", phase="Running")
    token = api_server.kubectl(
        "-n", "overhop", "create", "token", "overhop-agent", "--audience=overhop-controller",
        "--bound-object-kind=Pod", "--bound-object-name=short",
    ).strip()  # fmt: skip
    with controller(api_server) as one:
        until("it leads", lambda: one.is_ready)
        until("it is known", lambda: ask(one, "GET", "/v1/nodes/a1/plan", token)[0] == 409)
        api_server.kubectl("-n", "overhop", "delete", "pod", "short", "--force", "--grace-period=0")
        until("it is refused", lambda: ask(one, "GET", "/v1/nodes/a1/plan", token)[0] == 403)


def test_plan_waits_for_the_inventory_and_changes_with_it(
    api_server: Kubernetes, agents: dict[str, str]
) -> None:
    with controller(api_server) as one:
        until("it leads", lambda: one.is_ready)
        inventory = {
            "nic": ["ens3"],
            "contract": 2,
            "overlays": [{"name": "v", "kind": "vxlan", "port": 8472}],
        }
        assert ask(one, "GET", "/v1/nodes/a1/plan", agents["a1"])[0] == 409
        assert ask(one, "PUT", "/v1/nodes/a1/inventory", agents["a1"], inventory)[0] == 204
        plan = until("a plan", lambda: ask(one, "GET", "/v1/nodes/a1/plan", agents["a1"])[1].get("nic"))
        assert plan == ["ens3"]
        etag = f'"{one.control.planned.plans["a1"].digest}"'
        began_s = time.monotonic()
        waited = ask(one, "GET", "/v1/nodes/a1/plan?wait_s=1", agents["a1"], If_None_Match=etag)
        assert waited == (304, None)
        assert time.monotonic() - began_s > 0.9

        def change() -> None:
            time.sleep(0.3)
            ask(one, "PUT", "/v1/nodes/a1/inventory", agents["a1"], inventory | {"nic": ["bond0"]})

        changing = threading.Thread(target=change)
        changing.start()
        status, found = ask(one, "GET", "/v1/nodes/a1/plan?wait_s=9", agents["a1"], If_None_Match=etag)
        changing.join()
        assert (status, found["nic"]) == (200, ["bond0"])


def test_agent_one_contract_behind_is_told_so_and_one_ahead_gets_the_plan(
    api_server: Kubernetes, agents: dict[str, str]
) -> None:
    with controller(api_server) as one:
        until("it leads", lambda: one.is_ready)
        ask(one, "PUT", "/v1/nodes/a1/inventory", agents["a1"], {"contract": 1})
        ask(one, "PUT", "/v1/nodes/a2/inventory", agents["a2"], {"contract": 3, "what_is_new": [1, 2]})
        until("it is planned", lambda: ask(one, "GET", "/v1/nodes/a1/plan", agents["a1"])[0] == 404)
        until("the other too", lambda: ask(one, "GET", "/v1/nodes/a2/plan", agents["a2"])[0] == 200)


def test_second_controller_is_not_ready_until_the_first_ends_then_it_asks_for_inventories(
    api_server: Kubernetes, agents: dict[str, str]
) -> None:
    with controller(api_server, "second") as second:
        with controller(api_server, "first") as first:
            until("one leads", lambda: first.is_ready or second.is_ready)
            leader, other = (first, second) if first.is_ready else (second, first)
            ask(leader, "PUT", "/v1/nodes/a1/inventory", agents["a1"], {"contract": 2})
            until("a plan", lambda: ask(leader, "GET", "/v1/nodes/a1/plan", agents["a1"])[0] == 200)
            assert ask(other, "GET", "/v1/nodes/a1/plan", agents["a1"])[0] == 503
            assert (ask(other, "GET", "/healthz")[0], other.is_ready) == (200, False)
            if leader is second:
                return  # the first to come ends last: the other order is as good
        until("the second leads", lambda: second.is_ready, 10)
        assert ask(second, "GET", "/v1/nodes/a1/plan", agents["a1"])[0] == 409


def test_names_are_of_pods_nodes_services_and_those_outside(
    api_server: Kubernetes, agents: dict[str, str]
) -> None:
    objects.set_status(api_server, "node", "a1", addresses=[{"type": "InternalIP", "address": "10.1.0.1"}])
    api_server.apply(objects.pod("named", "a2", app="x"))
    objects.runs_at(api_server, "named", "10.244.2.9")
    now_ns = time.time_ns()
    address = api_server.get("service", "kubernetes")["spec"]["clusterIP"]
    with controller(api_server) as one:
        until("it leads", lambda: one.is_ready and one.cluster.is_synced)
        asked = [
            {"address": each, "from_ns": now_ns - 10**9, "until_ns": now_ns}
            for each in ("10.244.2.9", "10.1.0.1", address, "192.0.2.1", "10.244.2.77", "no address")
        ]
        until("the pod", lambda: one.state.whose("10.244.2.9", now_ns, now_ns)[1])
        found = ask(one, "POST", "/v1/names", agents["a1"], {"asked": asked})[1]["names"]
        kinds = [each["kind"] for each in found]
        assert kinds[:3] == ["pod", "node", "service"]
        assert kinds[3] in ("external", "unknown")  # other tests' nodes may have no network of pods
        assert kinds[4:] == ["unknown", "unknown"]
        assert (found[0]["namespace"], found[0]["name"], found[0]["node"]) == ("default", "named", "a2")
        assert "labels" not in found[0], "it is not of the node that asks"
        own = ask(one, "POST", "/v1/names", agents["a2"], {"asked": asked[:1]})[1]["names"][0]
        assert own["labels"] == {"app": "x"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"asked": [{}]}', b'{"asked": [{"address": 5}]}', b"[" * 100_000,
        b'{"asked": [{"address": "10.0.0.1", "from_ns": -1}]}', b'{"asked": [{"address": "x", "uid": "y"}]}',
        json.dumps({"asked": [{"address": "10.0.0.1"}] * 5_001}).encode(),
    ],
)  # fmt: skip
def test_wrong_question_is_refused_in_words(
    api_server: Kubernetes, agents: dict[str, str], body: bytes
) -> None:
    with controller(api_server) as one:
        until("it leads", lambda: one.is_ready)
        status, found = ask(one, "POST", "/v1/names", agents["a1"], body)
        assert status == 422
        assert found["detail"]


def test_limits_too_large_and_too_often(api_server: Kubernetes, agents: dict[str, str]) -> None:
    with controller(api_server) as one:
        until("it leads", lambda: one.is_ready)
        assert ask(one, "PUT", "/v1/nodes/a1/inventory", agents["a1"], b"x" * (3 << 20))[0] == 413
        status = [ask(one, "GET", "/v1/nodes/a1/plan", agents["a1"])[0] for _ in range(100)]
        assert 429 in status
        assert ask(one, "GET", "/v1/nodes/a2/plan", agents["a2"])[0] == 409, "another agent is not hit"


def test_policy_decides_what_the_plan_selects(api_server: Kubernetes, agents: dict[str, str]) -> None:
    policies = parse_policies("policies: [{name: shop, namespaces: [default], sample_shift: 2}]", "policies")
    with controller(api_server, policies=policies) as one:
        until("it leads", lambda: one.is_ready)
        ask(one, "PUT", "/v1/nodes/a1/inventory", agents["a1"], {"contract": 2})
        found = until(
            "a plan", lambda: ask(one, "GET", "/v1/nodes/a1/plan", agents["a1"])[1].get("selectors")
        )
        assert found == [{"policy": "shop", "namespaces": ["default"], "sample_shift": 2}]


def test_metrics_say_who_leads_and_what_was_refused(api_server: Kubernetes, agents: dict[str, str]) -> None:
    with controller(api_server) as one:
        until("it leads", lambda: one.is_ready)
        ask(one, "GET", "/v1/nodes/a1/plan", "nonsense")
        ask(one, "PUT", "/v1/nodes/a1/inventory", agents["a1"], {"contract": 2})
        end = serve_metrics("127.0.0.1", 0, one.facts, lambda: one.election.is_leader)
        try:
            families = {
                (each.name, *each.labels.values()): each.value
                for family in ControllerMetrics(one.facts, lambda: one.election.is_leader).collect()
                for each in family.samples
            }
        finally:
            end()
    assert families["overhop_controller_leads",] == 1
    assert families["overhop_controller_agents",] == 1
    assert families["overhop_controller_refused_total", "401"] == 1
    assert families["overhop_controller_watch_failed_total", "pods"] == 0
