# SPDX-License-Identifier: Apache-2.0
"""What `overhop cluster install` applies; tests/cluster has the same on a real API server."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from overhop.cluster.certificate import make_certificate
from overhop.cluster.manifests import BASE, TRIAL, Wish, listed, path_of, secret, wished, without_data


def _one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def _pod(each: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = each["spec"]["template"]["spec"]
    return found


def test_wish_changes_image_store_policies_and_who_may_come_in() -> None:
    wish = Wish(
        "registry.example/overhop:1",
        store="influxdb2://db:8086/team",
        node_cidrs=["10.0.0.1/32"],
        policies="policies: []\n",
    )
    objects = wished(wish)
    for kind, name in (("DaemonSet", "overhop-agent"), ("Deployment", "overhop-controller")):
        assert _pod(_one(objects, kind, name))["containers"][0]["image"] == "registry.example/overhop:1"
    config = yaml.safe_load(_one(objects, "ConfigMap", "overhop-agent")["data"]["overhop.yaml"])
    assert config["store"]["url"] == "influxdb2://db:8086/team"
    assert config["store"]["spool"] == "/var/lib/overhop/spool"
    assert _one(objects, "ConfigMap", "overhop-policies")["data"]["policies.yaml"] == "policies: []\n"
    ingress = _one(objects, "NetworkPolicy", "overhop-controller")["spec"]["ingress"]
    assert ingress[0]["from"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]


def test_another_namespace_is_everywhere() -> None:
    objects = wished(Wish("i", "tracing"))
    assert _one(objects, "Namespace", "tracing")
    spaces = {each["metadata"].get("namespace") for each in objects}
    assert spaces == {"tracing", None}
    subjects = [one for each in objects for one in each.get("subjects", ())]
    assert {one["namespace"] for one in subjects} == {"tracing"}
    assert "overhop" not in {each["metadata"].get("namespace") for each in objects}


def test_agents_have_three_capabilities_no_role_and_a_read_only_root() -> None:
    objects = listed(BASE)
    spec = _pod(_one(objects, "DaemonSet", "overhop-agent"))
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["BPF", "PERFMON", "NET_ADMIN"]},
    }
    assert spec["automountServiceAccountToken"] is False
    accounts = [one["name"] for each in objects for one in each.get("subjects", ())]
    assert set(accounts) == {"overhop-controller"}


def test_without_cri_agents_do_not_get_the_sockets_directory() -> None:
    spec = _pod(_one(wished(Wish("i", cri="none")), "DaemonSet", "overhop-agent"))
    assert "containerd" not in str(spec["volumes"]) + str(spec["containers"][0]["volumeMounts"])
    assert "--cri=none" in spec["containers"][0]["args"]


@pytest.mark.parametrize(
    ("socket", "place"),
    [
        ("/run/k3s/containerd/containerd.sock", {"path": "/run/k3s/containerd"}),
        ("/run/cri-dockerd.sock", {"path": "/run/cri-dockerd.sock", "type": "Socket"}),
    ],
)
def test_socket_at_another_place_is_mounted_where_it_is(socket: str, place: dict[str, str]) -> None:
    spec = _pod(_one(wished(Wish("i", cri=socket)), "DaemonSet", "overhop-agent"))
    [container] = spec["containers"]
    assert container["args"][-1] == f"--cri={socket}"
    assert spec["volumes"][-1] == {"name": "cri", "hostPath": place}
    assert container["volumeMounts"][-1] == {"name": "cri", "mountPath": place["path"]}
    assert "/run/containerd" not in str(spec)


def test_influxdb_for_trials_keeps_its_own_image() -> None:
    objects = wished(Wish("mine:1", has_influxdb=True))
    assert _pod(_one(objects, "Deployment", "influxdb"))["containers"][0]["image"] == "influxdb:2.7"
    assert _pod(_one(objects, "Job", "overhop-store-init"))["containers"][0]["image"] == "mine:1"
    assert len(listed(TRIAL)) == len(listed(BASE)) + 3


def test_paths_are_those_of_the_api() -> None:
    paths = {path_of(each) for each in wished(Wish("i"))}
    assert {
        "/api/v1/namespaces/overhop",
        "/api/v1/namespaces/overhop/serviceaccounts/overhop-agent",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/overhop-controller",
        "/apis/apps/v1/namespaces/overhop/daemonsets/overhop-agent",
        "/apis/networking.k8s.io/v1/namespaces/overhop/networkpolicies/overhop-controller",
        "/apis/policy/v1/namespaces/overhop/poddisruptionbudgets/overhop-controller",
    } <= paths


def test_what_is_secret_is_not_shown() -> None:
    [shown] = without_data([secret("s", "n", {"token": b"very-secret"})])
    assert shown["data"] == {"token": ""}


def test_certificate_is_good_for_its_names(tmp_path: Path) -> None:
    certificate, key = make_certificate(("overhop-controller", "overhop-controller.overhop.svc"))
    (tmp_path / "crt").write_bytes(certificate)
    (tmp_path / "key").write_bytes(key)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tmp_path / "crt", tmp_path / "key")
    trusted = ssl.create_default_context(cafile=str(tmp_path / "crt")).get_ca_certs()
    [(_, names)] = [(each["serialNumber"], each["subjectAltName"]) for each in trusted]
    assert names == (("DNS", "overhop-controller"), ("DNS", "overhop-controller.overhop.svc"))
