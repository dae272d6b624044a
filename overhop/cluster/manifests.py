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
POLICIES: Final = "overhop-policies"
AGENT_FILE: Final = "overhop.yaml"
POLICIES_FILE: Final = "policies.yaml"
STORE_TOKEN: Final = "/etc/overhop/store/token"
NO_CRI: Final = "none"
CRI_ARGUMENT: Final = "--cri="
TLS_SECRET: Final = "overhop-controller-tls"
PEOPLE_SECRET: Final = "overhop-people"
STORE_SECRET: Final = "overhop-store"
CA_CONFIG: Final = "overhop-ca"
LABELS: Final = {"app.kubernetes.io/name": "overhop"}
CLUSTER_WIDE: Final = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding"})
CONFIG_ANNOTATION: Final = "overhop/config"
"""Of pods: a digest of what they read once, at their start. Where it changes they are replaced."""
_READ_AT_START: Final = {AGENT: AGENT, CONTROLLER: POLICIES}
_RUN: Final = ("/run", "/var/run")
_PLURALS: Final = {"NetworkPolicy": "networkpolicies"}


class InstallationError(Exception):
    """The cluster is not as it has to be for this; one line says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user wants of an installation."""

    image: str
    namespace: str = DEFAULT_NAMESPACE
    store: str | None = None
    """URL of the store; None: as the configuration says."""
    has_token: bool | None = None
    """Whether the store has a token; None: as the configuration says."""
    agent_config: str | None = None
    """Text of the agents' configuration; None: as in the base."""
    node_cidrs: Sequence[str] = ()
    """Where agents come from."""
    policies: str | None = None
    """Text of the policies."""
    cri: str | None = None
    """Path of the runtime's socket on the nodes; none: agents do not get it; None: as in the base."""
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
    if (kind, name) == ("DaemonSet", AGENT) and wish.cri is not None:
        _set_cri(each, wish.cri)
    if (kind, name) == ("ConfigMap", AGENT):
        text = wish.agent_config if wish.agent_config is not None else each["data"][AGENT_FILE]
        each["data"][AGENT_FILE] = _with_store(text, wish.store, wish.has_token)
    if (kind, name) == ("ConfigMap", POLICIES) and wish.policies is not None:
        each["data"][POLICIES_FILE] = wish.policies
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


def workload_path(kind: str, namespace: str, name: str) -> str:
    """Where the API has a Deployment or DaemonSet of that name."""
    return path_of(
        {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}
    )


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


def _with_store(text: str, url: str | None, has_token: bool | None) -> str:
    """The configuration with another store; None: as it is. Raises InstallationError: nobody can read it."""
    try:
        config = yaml.safe_load(text) or {}
        store = config.setdefault("store", {})
        wanted = {key: each for key, each in store.items() if key != "token_file" or has_token is not False}
        if url is not None:
            wanted["url"] = url
        if has_token:
            wanted.setdefault("token_file", STORE_TOKEN)
    except (yaml.YAMLError, AttributeError, TypeError):
        raise InstallationError(f"configmap/{AGENT}: {AGENT_FILE} is no configuration: correct it") from None
    if wanted == store:
        return text
    return yaml.safe_dump(config | {"store": wanted}, sort_keys=False)


def _set_cri(agents: Object, cri: str) -> None:
    """The directory of the socket is mounted: a runtime that starts anew is found. All of /run would hide
    other mounts."""
    spec = agents["spec"]["template"]["spec"]
    [container] = spec["containers"]
    container["args"].append(f"{CRI_ARGUMENT}{cri}")
    container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] != "containerd"]
    spec["volumes"] = [each for each in spec["volumes"] if each["name"] != "containerd"]
    if cri == NO_CRI:
        return
    parent = str(PurePosixPath(cri).parent)
    place = {"path": cri, "type": "Socket"} if parent in _RUN else {"path": parent}
    container["volumeMounts"].append({"name": "cri", "mountPath": place["path"]})
    spec["volumes"].append({"name": "cri", "hostPath": place})
