# SPDX-License-Identifier: Apache-2.0
"""The manifests on a real API server."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from overhop.cluster.manifests import BASE, KUSTOMIZE, TRIAL, Wish, listed, wished
from tests.kubernetes import Kubernetes

CONTROLLER = "system:serviceaccount:overhop:overhop-controller"
AGENT = "system:serviceaccount:overhop:overhop-agent"


@pytest.mark.parametrize("directory", [BASE, TRIAL])
def test_kustomize_gives_the_objects_that_install_applies(api_server: Kubernetes, directory: Path) -> None:
    rendered = [each for each in yaml.safe_load_all(api_server.kubectl("kustomize", str(directory))) if each]

    def key(each: dict) -> tuple[str, str]:  # type: ignore[type-arg]  # an object
        return each["kind"], each["metadata"]["name"]

    ours = listed(directory)
    for each in ours:
        if each["kind"] not in ("Namespace", "ClusterRole", "ClusterRoleBinding"):
            each["metadata"]["namespace"] = "overhop"
    assert sorted(rendered, key=key) == sorted(ours, key=key)


def test_component_without_the_socket_is_what_install_does(api_server: Kubernetes, tmp_path: Path) -> None:
    # kustomize takes no absolute paths.
    base, component = (os.path.relpath(each, tmp_path) for each in (BASE, KUSTOMIZE / "no-cri"))
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{component}]\n")
    rendered = yaml.safe_load_all(api_server.kubectl("kustomize", str(tmp_path)))
    [agents] = [each for each in rendered if each and each["kind"] == "DaemonSet"]
    [ours] = [each for each in wished(Wish("overhop/overhop:dev", cri="none")) if each["kind"] == "DaemonSet"]
    del ours["spec"]["template"]["metadata"]["annotations"]
    assert agents == ours


@pytest.mark.parametrize("directory", [BASE, TRIAL])
def test_api_server_takes_them(api_server: Kubernetes, directory: Path) -> None:
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "overhop"}})
    said = api_server.kubectl(
        "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-k", str(directory)
    )
    assert len(said.splitlines()) == len(listed(directory))


OF_EVERYBODY = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
"""What Kubernetes gives whoever is logged in: to ask what they may."""
RIGHTS = {
    ("endpointslices.discovery.k8s.io", "", "list watch"),
    ("jobs.batch", "", "list watch"),
    ("leases.coordination.k8s.io", "", "create"),
    ("leases.coordination.k8s.io", "overhop-controller", "get update"),
    ("namespaces", "", "list watch"),
    ("namespaces", "kube-system", "get"),
    ("nodes", "", "list watch"),
    ("pods", "", "list watch"),
    ("replicasets.apps", "", "list watch"),
    ("services", "", "list watch"),
    ("tokenreviews.authentication.k8s.io", "", "create"),
}
"""Of the controller in its namespace: resource, name, verbs."""


@pytest.fixture
def rights(api_server: Kubernetes) -> Iterator[Kubernetes]:
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "overhop"}})
    manifest = ("-f", str(BASE / "rbac.yaml"), "-n", "overhop")
    api_server.kubectl("apply", "--server-side", "--force-conflicts", *manifest)
    yield api_server
    api_server.kubectl("delete", *manifest)


def _rights(cluster: Kubernetes, who: str, namespace: str) -> set[tuple[str, str, str]]:
    """As the API server lists them, without what everybody has and without paths that are no resources."""
    found = set()
    for line in cluster.kubectl("auth", "can-i", "--list", "--as", who, "-n", namespace).splitlines()[1:]:
        if line.lstrip().startswith("["):
            continue  # no resource, only paths
        cells = re.fullmatch(r"(\S+)\s+\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]", line.strip())
        assert cells, line
        resource, _, name, verbs = cells.groups()
        if resource.partition(".")[0] not in OF_EVERYBODY:
            found.add((resource, name, " ".join(sorted(verbs.split()))))
    return found


def test_controller_has_these_rights_and_no_others(rights: Kubernetes) -> None:
    assert _rights(rights, CONTROLLER, "overhop") == RIGHTS
    assert _rights(rights, CONTROLLER, "default") == {each for each in RIGHTS if "leases" not in each[0]}


def test_agents_have_no_rights(rights: Kubernetes) -> None:
    assert _rights(rights, AGENT, "overhop") == _rights(rights, AGENT, "default") == set()
