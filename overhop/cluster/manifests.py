# SPDX-License-Identifier: Apache-2.0
"""The objects of deploy/kustomize/base, as a cluster is to have them. Pure but for reading the files."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

import deploy

Object = dict[str, Any]
KUSTOMIZE: Final = Path(next(iter(deploy.__path__))) / "kustomize"
BASE: Final = KUSTOMIZE / "base"
TRIAL: Final = KUSTOMIZE / "trial-influxdb"
INFLUXDB: Final = "influxdb"
DEFAULT_NAMESPACE: Final = "overhop"
CONTROLLER: Final = "overhop-controller"
AGENT: Final = "overhop-agent"
TLS_SECRET: Final = "overhop-controller-tls"
PEOPLE_SECRET: Final = "overhop-people"
STORE_SECRET: Final = "overhop-store"
CA_CONFIG: Final = "overhop-ca"
LABELS: Final = {"app.kubernetes.io/name": "overhop"}
CLUSTER_WIDE: Final = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding"})
CONFIG_ANNOTATION: Final = "overhop/config"
"""Of pods: a digest of what they read once, at their start. Where it changes they are replaced."""
_READ_AT_START: Final = {AGENT: "overhop-agent", CONTROLLER: "overhop-policies"}
_RUN: Final = ("/run", "/var/run")
_PLURALS: Final = {"NetworkPolicy": "networkpolicies"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user wants of an installation."""

    image: str
    namespace: str = DEFAULT_NAMESPACE
    store: str | None = None
    """URL of the store; None: as in the base."""
    node_cidrs: Sequence[str] = ()
    """Where agents come from."""
    policies: str | None = None
    """Text of the policies."""
    has_cri: bool = True
    """Whether agents get the runtime's socket."""
    cri_socket: str | None = None
    """Its path on the nodes; None: containerd's usual one."""
    has_influxdb: bool = False
    """Whether an InfluxDB for trials is installed too."""


def listed(directory: Path) -> list[Object]:
    """The objects of a kustomization, in the order in which it names its files."""
    listing = yaml.safe_load((directory / "kustomization.yaml").read_text())
    found: list[Object] = []
    for name in listing["resources"]:
        place = directory / name
        if place.is_dir():
            found += listed(place.resolve())
        else:
            found += [each for each in yaml.safe_load_all(place.read_text()) if each]
    return found


def wished(wish: Wish) -> list[Object]:
    """The objects of the base as they are wished; secrets are not among them."""
    objects = listed(TRIAL if wish.has_influxdb else BASE)
    made = [_as_wished(_in_namespace(each, wish.namespace), wish) for each in objects]
    configs = {each["metadata"]["name"]: each["data"] for each in made if each["kind"] == "ConfigMap"}
    for each in made:
        config = _READ_AT_START.get(each["metadata"]["name"])
        if config is not None and each["kind"] in ("Deployment", "DaemonSet"):
            annotations = {CONFIG_ANNOTATION: _digest(configs[config])}
            each["spec"]["template"]["metadata"]["annotations"] = annotations
    return made


def _as_wished(each: Object, wish: Wish) -> Object:
    kind, name = each["kind"], each["metadata"]["name"]
    if kind in ("Deployment", "DaemonSet", "Job") and name != INFLUXDB:
        for container in each["spec"]["template"]["spec"]["containers"]:
            container["image"] = wish.image
    if (kind, name) == ("DaemonSet", AGENT) and not wish.has_cri:
        _without_cri(each)
    elif (kind, name) == ("DaemonSet", AGENT) and wish.cri_socket is not None:
        _with_cri_at(each, wish.cri_socket)
    if (kind, name) == ("ConfigMap", AGENT) and wish.store is not None:
        config = yaml.safe_load(each["data"]["overhop.yaml"])
        config["store"]["url"] = wish.store
        each["data"]["overhop.yaml"] = yaml.safe_dump(config, sort_keys=False)
    if (kind, name) == ("ConfigMap", "overhop-policies") and wish.policies is not None:
        each["data"]["policies.yaml"] = wish.policies
    if kind == "NetworkPolicy" and wish.node_cidrs:
        each["spec"]["ingress"][0]["from"] = [{"ipBlock": {"cidr": cidr}} for cidr in wish.node_cidrs]
    return each


def secret(name: str, namespace: str, data: Mapping[str, bytes], kind: str = "Opaque") -> Object:
    """A Secret."""
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return _named("v1", "Secret", name, namespace) | {"type": kind, "data": encoded}


def config_map(name: str, namespace: str, data: Mapping[str, str]) -> Object:
    """A ConfigMap."""
    return _named("v1", "ConfigMap", name, namespace) | {"data": dict(data)}


def path_of(each: Mapping[str, Any]) -> str:
    """Where the API has the object."""
    version, kind, meta = each["apiVersion"], each["kind"], each["metadata"]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    place = "" if kind in CLUSTER_WIDE else f"/namespaces/{meta['namespace']}"
    return f"{root}{place}/{plural}/{meta['name']}"


def shown(each: Mapping[str, Any]) -> str:
    """The object, for people."""
    return f"{each['kind'].lower()}/{each['metadata']['name']}"


def without_data(objects: Iterable[Object]) -> list[Object]:
    """Secrets without what is secret."""
    return [
        each | {"data": dict.fromkeys(each["data"], "")} if each["kind"] == "Secret" else each
        for each in objects
    ]


def _named(version: str, kind: str, name: str, namespace: str) -> Object:
    meta = {"name": name, "namespace": namespace, "labels": dict(LABELS)}
    return {"apiVersion": version, "kind": kind, "metadata": meta}


def _in_namespace(each: Object, namespace: str) -> Object:
    """As kustomize does it, subjects of bindings too."""
    if each["kind"] == "Namespace":
        each["metadata"]["name"] = namespace
    elif each["kind"] not in CLUSTER_WIDE:
        each["metadata"]["namespace"] = namespace
    for subject in each.get("subjects", ()):
        subject["namespace"] = namespace
    return each


def _digest(data: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def _with_cri_at(agents: Object, socket: str) -> None:
    """Its directory is mounted: a runtime that starts anew is found. All of /run would hide other mounts."""
    _without_cri(agents)
    spec = agents["spec"]["template"]["spec"]
    [container] = spec["containers"]
    container["args"][-1] = f"--cri={socket}"
    parent = str(PurePosixPath(socket).parent)
    place = {"path": socket, "type": "Socket"} if parent in _RUN else {"path": parent}
    container["volumeMounts"].append({"name": "cri", "mountPath": place["path"]})
    spec["volumes"].append({"name": "cri", "hostPath": place})


def _without_cri(agents: Object) -> None:
    spec = agents["spec"]["template"]["spec"]
    [container] = spec["containers"]
    container["args"].append("--cri=none")
    container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] != "containerd"]
    spec["volumes"] = [each for each in spec["volumes"] if each["name"] != "containerd"]
