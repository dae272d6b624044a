# SPDX-License-Identifier: Apache-2.0
"""The EnvoyFilter in a cluster: applied, removed, and left alone where it is another's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from collector.cluster.api import Api
from overhop.cluster.install import MANAGER
from overhop.cluster.manifests import InstallationError
from overhop.cluster.present import find
from overhop.sidecar.filters import Data
from overhop.sidecar.istio import LABELS, VERSION

_APPLY: Final = "application/apply-patch+yaml"
_GROUP: Final = f"/apis/{VERSION}"
_PLURAL: Final = "envoyfilters"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of the object."""

    name: str
    what: str
    is_done: bool = True


def apply(api: Api, wanted: Data, *, dry_run: bool) -> Done:
    """Create or change it, by server-side apply. Raises InstallationError, ApiError."""
    path, name = _place(wanted)
    _require_istio(api)
    _require_namespace(api, wanted)
    present = find(api, path)
    _require_ours(present, name)
    query = {"fieldManager": MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
    api.send("PATCH", path, wanted, query=query, content=_APPLY)
    return Done(name, "created" if present is None else "applied")


def remove(api: Api, wanted: Data, *, dry_run: bool) -> Done:
    """Take it away. Raises InstallationError, ApiError."""
    path, name = _place(wanted)
    _require_istio(api)
    present = find(api, path)
    if present is None:
        return Done(name, "there is none", is_done=False)
    _require_ours(present, name)
    query = {"dryRun": "All"} if dry_run else {}
    api.send("DELETE", path, query=query)
    return Done(name, "removed")


def _place(wanted: Mapping[str, Any]) -> tuple[str, str]:
    """Its path, and what people call it."""
    meta = wanted["metadata"]
    path = f"{_GROUP}/namespaces/{meta['namespace']}/{_PLURAL}/{meta['name']}"
    return path, f"envoyfilter/{meta['name']} in {meta['namespace']}"


def _require_istio(api: Api) -> None:
    found = find(api, _GROUP)
    if found is None or all(each["name"] != _PLURAL for each in found.get("resources", ())):
        raise InstallationError(
            f"this cluster has no {_PLURAL} of {VERSION}: install Istio first, or render for an Envoy"
        )


def _require_namespace(api: Api, wanted: Mapping[str, Any]) -> None:
    namespace = wanted["metadata"]["namespace"]
    if find(api, f"/api/v1/namespaces/{namespace}") is None:
        raise InstallationError(f"namespace {namespace}: there is none: name Istio's root by --namespace")


def _require_ours(present: Mapping[str, Any] | None, name: str) -> None:
    """Recognised by its labels."""
    labels = {} if present is None else present["metadata"].get("labels") or {}
    if present is not None and any(labels.get(key) != value for key, value in LABELS.items()):
        raise InstallationError(f"{name} is there and not overhop's: rename or remove it")
