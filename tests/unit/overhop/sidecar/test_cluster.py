# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from overhop.cluster.manifests import InstallationError
from overhop.sidecar.cluster import Done, apply, remove
from overhop.sidecar.istio import envoy_filter
from overhop.sidecar.wish import Given, parse_wish
from tests.unit.overhop.cluster.memory_api import MemoryApi

GROUP = "/apis/networking.istio.io/v1alpha3"
PATH = f"{GROUP}/namespaces/istio-system/envoyfilters/overhop-relocation"
NAME = "envoyfilter/overhop-relocation in istio-system"


def wanted() -> dict[str, Any]:
    return envoy_filter(parse_wish(Given("istio")))


def with_istio() -> MemoryApi:
    api = MemoryApi()
    api.kept[GROUP] = {"resources": [{"name": "envoyfilters"}, {"name": "sidecars"}]}
    api.kept["/api/v1/namespaces/istio-system"] = {"metadata": {"name": "istio-system"}}
    return api


def test_apply_creates_changes_and_remove_takes_away() -> None:
    api = with_istio()
    assert apply(api, wanted(), dry_run=False) == Done(NAME, "created")
    assert api.kept[PATH] == wanted()
    assert apply(api, wanted(), dry_run=False) == Done(NAME, "applied")
    assert remove(api, wanted(), dry_run=False) == Done(NAME, "removed")
    assert PATH not in api.kept
    assert remove(api, wanted(), dry_run=False) == Done(NAME, "there is none", is_done=False)


def test_apply_without_istio_says_so() -> None:
    api = MemoryApi()
    problem = r"^this cluster has no envoyfilters of networking.istio.io/v1alpha3: install Istio first"
    with pytest.raises(InstallationError, match=problem):
        apply(api, wanted(), dry_run=False)
    with pytest.raises(InstallationError, match=problem):
        remove(api, wanted(), dry_run=False)
    assert api.log == []


def test_apply_without_the_namespace_says_so() -> None:
    api = with_istio()
    del api.kept["/api/v1/namespaces/istio-system"]
    with pytest.raises(InstallationError, match=r"^namespace istio-system: there is none"):
        apply(api, wanted(), dry_run=False)


def test_apply_and_remove_leave_what_is_anothers() -> None:
    api = with_istio()
    api.kept[PATH] = {"metadata": {"name": "overhop-relocation", "labels": {"app": "x"}}}
    for act in (apply, remove):
        with pytest.raises(InstallationError, match=rf"^{NAME} is there and not overhop's"):
            act(api, wanted(), dry_run=False)
    assert api.log == []
