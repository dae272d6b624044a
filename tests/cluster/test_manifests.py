# SPDX-License-Identifier: Apache-2.0
"""The manifests on a real API server."""

from pathlib import Path

import pytest
import yaml

from overhop.cluster.manifests import BASE, TRIAL, listed
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


@pytest.mark.parametrize("directory", [BASE, TRIAL])
def test_api_server_takes_them(api_server: Kubernetes, directory: Path) -> None:
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "overhop"}})
    said = api_server.kubectl(
        "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-k", str(directory)
    )
    assert len(said.splitlines()) == len(listed(directory))


def test_rights_are_these_and_no_others(api_server: Kubernetes) -> None:
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "overhop"}})
    api_server.kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", str(BASE / "rbac.yaml"), "-n", "overhop"
    )

    def may(who: str, verb: str, what: str, *more: str) -> bool:
        said = api_server.kubectl("auth", "can-i", verb, what, "--as", who, *more, allowed=(0, 1))
        return said.strip().startswith("yes")

    own = ("-n", "overhop")
    everywhere = ("pods", "nodes", "namespaces", "services", "endpointslices.discovery.k8s.io")
    for what in (*everywhere, "replicasets.apps", "jobs.batch"):
        assert may(CONTROLLER, "list", what, "-A"), what
        assert may(CONTROLLER, "watch", what, "-A"), what
        for verb in ("create", "delete", "patch", "update"):
            assert not may(CONTROLLER, verb, what, "-A"), (verb, what)
        assert not may(AGENT, "list", what, "-A"), what
    assert may(CONTROLLER, "create", "tokenreviews.authentication.k8s.io")
    assert may(CONTROLLER, "update", "leases.coordination.k8s.io/overhop-controller", *own)
    assert not may(CONTROLLER, "update", "leases.coordination.k8s.io/another", *own)
    closed: list[tuple[str, tuple[str, ...]]] = [(what, ()) for what in ("secrets", "configmaps")]
    closed += [("pods", ("--subresource=exec",)), ("pods", ("--subresource=log",))]
    closed += [("serviceaccounts", ("--subresource=token",))]
    for what, more in closed:
        for verb in ("get", "list", "create"):
            assert not may(CONTROLLER, verb, what, *own, *more), (verb, what, more)
            assert not may(AGENT, verb, what, *own, *more), (verb, what, more)
