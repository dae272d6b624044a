# SPDX-License-Identifier: Apache-2.0
import pytest

from overhop.cluster.manifests import InstallationError
from overhop.cluster.present import linux_nodes, require_ours, require_steady
from tests.unit.overhop.cluster.memory_api import MemoryApi, node

BINDING = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/overhop-controller"
OURS = {"app.kubernetes.io/name": "overhop"}


def _binding(namespace: str) -> dict[str, object]:
    return {"subjects": [{"kind": "ServiceAccount", "name": "overhop-controller", "namespace": namespace}]}


def test_namespace_that_is_not_there_or_ours_is_good() -> None:
    api = MemoryApi()
    require_ours(api, "overhop")
    api.kept["/api/v1/namespaces/overhop"] = {"metadata": {"labels": OURS}}
    api.kept[BINDING] = _binding("overhop")
    require_ours(api, "overhop")
    require_steady(api, "overhop")


@pytest.mark.parametrize("labels", [None, {"app.kubernetes.io/name": "prometheus"}])
def test_namespace_of_somebody_else_is_left_alone(labels: object) -> None:
    api = MemoryApi()
    api.kept["/api/v1/namespaces/monitoring"] = {"metadata": {"labels": labels}}
    with pytest.raises(InstallationError, match="namespace monitoring is there and not overhop's"):
        require_ours(api, "monitoring")


def test_second_installation_would_take_the_rights_of_the_first() -> None:
    api = MemoryApi()
    api.kept[BINDING] = _binding("tracing")
    with pytest.raises(InstallationError, match="overhop is in namespace tracing of this cluster"):
        require_ours(api, "overhop")


def test_namespace_that_is_ending_takes_nothing() -> None:
    api = MemoryApi()
    api.kept["/api/v1/namespaces/overhop"] = {"metadata": {"labels": OURS, "deletionTimestamp": "now"}}
    with pytest.raises(InstallationError, match="still ending"):
        require_steady(api, "overhop")


def test_agents_are_for_nodes_with_linux() -> None:
    windows = node("w1", labels={"kubernetes.io/os": "windows"})
    linux = node("n1", labels={"kubernetes.io/os": "linux"})
    assert [each["metadata"]["name"] for each in linux_nodes(MemoryApi(windows, linux, node("n2")))] == [
        "n1",
        "n2",
    ]
