# SPDX-License-Identifier: Apache-2.0
"""collector.cluster against a real API server."""

import time
from collections.abc import Iterator

import pytest

from collector.cluster.api import Api, connect
from collector.cluster.cluster import Cluster
from collector.cluster.state import ClusterState
from collector.snapshot import Pod
from tests.cluster import objects
from tests.kubernetes import Kubernetes, until


@pytest.fixture
def api(api_server: Kubernetes) -> Iterator[Api]:
    api = connect(str(api_server.kubeconfig))
    yield api
    api.close()


@pytest.fixture
def state(api: Api) -> Iterator[ClusterState]:
    """Of the cluster, followed."""
    state = ClusterState()
    with Cluster(api, state) as cluster:
        assert cluster.wait(10)
        cluster.identify()
        yield state


def test_cluster_name_is_the_begin_of_the_uid_of_kube_system(
    api_server: Kubernetes, state: ClusterState
) -> None:
    uid = api_server.get("namespace", "kube-system")["metadata"]["uid"]
    assert state.cluster == uid[:8]


def test_pod_that_comes_and_goes_is_followed_with_its_address(
    api_server: Kubernetes, state: ClusterState
) -> None:
    api_server.apply(objects.node("follow-1", "10.0.0.1"), objects.pod("comes", "follow-1", app="web"))
    objects.runs_at(api_server, "comes", "10.9.0.1")
    uid = api_server.get("pod", "comes")["metadata"]["uid"]
    until("it is running", lambda: _owner(state, "10.9.0.1", 0))

    pod = state.snapshot().pods[uid]
    assert (pod.name, pod.node, pod.addresses, pod.labels) == (
        "comes", "follow-1", ("10.9.0.1",), {"app": "web"},
    )  # fmt: skip

    api_server.kubectl("delete", "pod", "comes", "--force", "--grace-period=0")
    until("it is gone", lambda: uid not in state.snapshot().pods)
    known = _owner(state, "10.9.0.1", 1_000_000_000)
    assert known is not None
    assert known.name == "comes"


def test_pod_of_a_deployment_has_the_deployment_as_workload(
    api_server: Kubernetes, state: ClusterState
) -> None:
    template = {
        "metadata": {"labels": {"app": "shop"}},
        "spec": {"containers": [{"name": "c", "image": "none"}], "nodeName": "follow-2"},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "shop"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"}, "spec": spec}
    api_server.apply(objects.node("follow-2", "10.0.0.2"), deployment)

    pods = until("two pods", lambda: _pods(state, "follow-2", 2))
    assert {(each.workload_kind, each.workload) for each in pods} == {("Deployment", "shop")}


def test_pod_of_a_cron_job_has_the_cron_job_as_workload(api_server: Kubernetes, state: ClusterState) -> None:
    template = {
        "spec": {
            "restartPolicy": "Never",
            "nodeName": "follow-3",
            "containers": [{"name": "c", "image": "none"}],
        }
    }
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 31 12 *", "jobTemplate": {"spec": {"template": template}}},
    }
    api_server.apply(objects.node("follow-3", "10.0.0.3"), cron)
    api_server.kubectl("create", "job", "now", "--from=cronjob/nightly")

    pods = until("its pod", lambda: _pods(state, "follow-3", 1))
    assert [(each.workload_kind, each.workload) for each in pods] == [("CronJob", "nightly")]


def test_service_is_found_by_its_address_and_its_slices_by_its_name(
    api_server: Kubernetes, state: ClusterState
) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    spec = {"selector": {"app": "svc"}, "ports": ports}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "svc", "namespace": "default"},
        "spec": spec,
    }
    api_server.apply(
        objects.node("follow-4", "10.0.0.4"), objects.pod("behind", "follow-4", app="svc"), service
    )
    objects.set_status(
        api_server, "pod", "behind", phase="Running", podIP="10.9.4.1", podIPs=[{"ip": "10.9.4.1"}],
        conditions=[{"type": "Ready", "status": "True"}],
    )  # fmt: skip
    address = api_server.get("service", "svc")["spec"]["clusterIP"]

    def endpoints() -> list[tuple[str, ...]]:
        slices = [each for each in state.snapshot().slices.values() if each.service == "svc"]
        return [found.addresses for each in slices for found in each.endpoints if each.ports[0].port == 8080]

    assert until("an endpoint", endpoints) == [("10.9.4.1",)]
    found = state.service_at(address)
    assert found is not None
    assert (found.namespace, found.name) == ("default", "svc")


def test_watch_that_is_cut_goes_on_without_loss(api_server: Kubernetes, api: Api) -> None:
    state = ClusterState()
    with Cluster(api, state) as cluster:
        assert cluster.wait(10)
        namespaces = next(each for each in cluster.reflectors if each.kind.name == "namespaces")
        until("watching", lambda: namespaces.counts.watched == 1)
        namespaces.cut()
        api_server.apply(objects.namespace("while-cut", team="a"))
        until("it is known", lambda: "while-cut" in state.snapshot().namespaces)
        assert namespaces.counts.listed == 1
        assert namespaces.counts.watched >= 2


def _owner(state: ClusterState, address: str, ago_ns: int) -> Pod | None:
    at_ns = time.time_ns() - ago_ns
    return state.whose(address, at_ns, at_ns)[1]


def _pods(state: ClusterState, node: str, count: int) -> list:  # type: ignore[type-arg]
    found = state.pods.of_node(node)
    return found if len(found) == count and all(each.workload_kind != "ReplicaSet" for each in found) else []
