# SPDX-License-Identifier: Apache-2.0
"""`overhop sidecar apply` and `remove` on a real API server, without EnvoyFilters and with them."""

import json
from typing import Any

import pytest

from overhop import cli
from tests.kubernetes import Kubernetes, until

GROUP = "networking.istio.io"
NAME = "envoyfilter/overhop-relocation"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"envoyfilters.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {
            "kind": "EnvoyFilter",
            "listKind": "EnvoyFilterList",
            "plural": "envoyfilters",
            "singular": "envoyfilter",
        },
        "versions": [
            {
                "name": "v1alpha3",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                        },
                    }
                },
            }
        ],
    },
}
"""As Istio's, its schema left out."""


def run(cluster: Kubernetes, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["sidecar", *arguments, "--kubeconfig", str(cluster.kubeconfig)])
    said = capsys.readouterr()
    return code, said.out, said.err


def present(cluster: Kubernetes) -> list[Any]:
    found: list[Any] = cluster.get("envoyfilters", "-n", "istio-system")["items"]
    return found


def test_envoy_filter_is_applied_and_removed_and_another_ones_left_alone(
    api_server: Kubernetes, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("apply", "remove"):
        code, out, err = run(api_server, capsys, command)
        assert (code, out) == (2, "")
        assert err == (
            "overhop: this cluster has no envoyfilters of networking.istio.io/v1alpha3: install Istio first,"
            " or render for an Envoy\n"
        )
    api_server.apply(DEFINITION)
    api_server.kubectl("wait", "--for=condition=established", "crd", f"envoyfilters.{GROUP}")
    served = ("get", "--raw", f"/apis/{GROUP}/v1alpha3")
    until("it is served", lambda: "envoyfilters" in api_server.kubectl(*served, allowed=(0, 1)))
    code, _, err = run(api_server, capsys, "apply")
    assert (code, err) == (
        2,
        "overhop: namespace istio-system: there is none: name Istio's root by --namespace\n",
    )
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})

    assert run(api_server, capsys, "apply", "--dry-run") == (
        0,
        f"{NAME} in istio-system: created (dry run)\n",
        "",
    )
    assert present(api_server) == []
    assert run(api_server, capsys, "apply") == (0, f"{NAME} in istio-system: created\n", "")
    (made,) = present(api_server)
    assert made["metadata"]["labels"] == {
        "app.kubernetes.io/component": "sidecar",
        "app.kubernetes.io/name": "overhop",
    }
    assert run(api_server, capsys, "apply", "--headers", "b3") == (
        0,
        f"{NAME} in istio-system: applied\n",
        "",
    )
    (changed,) = present(api_server)
    assert '{"b3"}' in json.dumps(changed).replace("\\", "")
    code, out, _ = run(api_server, capsys, "remove", "--dry-run", "--json")
    assert (code, json.loads(out)) == (
        0,
        {"object": f"{NAME} in istio-system", "done": "removed", "dry_run": True},
    )
    assert len(present(api_server)) == 1
    assert run(api_server, capsys, "remove") == (0, f"{NAME} in istio-system: removed\n", "")
    assert run(api_server, capsys, "remove") == (1, f"{NAME} in istio-system: there is none\n", "")

    meta = {"name": "overhop-relocation", "namespace": "istio-system"}
    foreign = {"apiVersion": f"{GROUP}/v1alpha3", "kind": "EnvoyFilter", "metadata": meta, "spec": {}}
    api_server.apply(foreign)
    for command in ("apply", "remove"):
        code, out, err = run(api_server, capsys, command)
        assert (code, out) == (2, "")
        assert err == f"overhop: {NAME} in istio-system is there and not overhop's: rename or remove it\n"
    assert present(api_server)[0]["spec"] == {}
