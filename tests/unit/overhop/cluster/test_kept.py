# SPDX-License-Identifier: Apache-2.0
"""An upgrade that says nothing but the image."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from overhop.cluster.kept import USUAL_CRI, kept
from overhop.cluster.manifests import InstallationError, Wish, path_of, wished
from tests.unit.overhop.cluster.memory_api import MemoryApi

AGENT = "/api/v1/namespaces/overhop/configmaps/overhop-agent"
POLICIES = "/api/v1/namespaces/overhop/configmaps/overhop-policies"


def _installed(wish: Wish) -> MemoryApi:
    api = MemoryApi()
    api.kept |= {path_of(each): each for each in wished(wish)}
    return api


def _agents(wish: Wish) -> dict[str, Any]:
    [found] = [each for each in wished(wish) if each["kind"] == "DaemonSet"]
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def _config(wish: Wish) -> dict[str, Any]:
    data = next(
        each["data"]
        for each in wished(wish)
        if each["metadata"]["name"] == "overhop-agent" and "data" in each
    )
    config: dict[str, Any] = yaml.safe_load(data["overhop.yaml"])
    return config


def test_first_installation_is_as_the_base() -> None:
    assert kept(MemoryApi(), Wish("i")) == Wish("i")


def test_store_and_policies_stay() -> None:
    api = _installed(Wish("i:1", store="influxdb2://db:8086/team", policies="policies: [] # mine\n"))
    wish = kept(api, Wish("i:2"))
    assert wish.policies == "policies: [] # mine\n"
    assert _config(wish)["store"]["url"] == "influxdb2://db:8086/team"


def test_configuration_that_was_edited_stays_but_for_what_is_said() -> None:
    api = _installed(Wish("i:1"))
    api.kept[AGENT]["data"]["overhop.yaml"] = "store: {url: influxdb2://a:1/o, spool_bytes: 2GiB}\n"
    config = _config(kept(api, Wish("i:2", store="influxdb2://b:2/o")))
    assert config == {"store": {"url": "influxdb2://b:2/o", "spool_bytes": "2GiB"}}


def test_agents_without_the_socket_do_not_get_it_by_an_upgrade() -> None:
    api = _installed(Wish("i:1", cri="none"))
    spec = _agents(kept(api, Wish("i:2")))
    assert spec["containers"][0]["args"][-1] == "--cri=none"
    assert "containerd" not in str(spec["volumes"])


def test_socket_at_another_place_stays_until_the_usual_one_is_wanted() -> None:
    api = _installed(Wish("i:1", cri="/run/k3s/containerd/containerd.sock"))
    assert kept(api, Wish("i:2")).cri == "/run/k3s/containerd/containerd.sock"
    assert "--cri" not in str(_agents(kept(api, Wish("i:2", cri=USUAL_CRI))))


@pytest.mark.parametrize("text", ["store: [", "- a\n", "store: 7\n"])
def test_configuration_that_nobody_can_read_is_said(text: str) -> None:
    with pytest.raises(InstallationError, match="configmap/overhop-agent"):
        wished(Wish("i", store="influxdb2://b:2/o", agent_config=text))


def test_policies_that_are_gone_are_the_bases() -> None:
    api = _installed(Wish("i:1"))
    api.kept[POLICIES] = {"data": None}
    assert kept(api, Wish("i:2")).policies is None


@pytest.mark.parametrize(
    ("has_token", "file"),
    [(True, "/etc/overhop/store/token"), (False, None), (None, "/etc/overhop/store/token")],
)
def test_token_file_is_named_where_there_is_a_token(has_token: bool | None, file: str | None) -> None:
    config = _config(Wish("i", store="victoriametrics://v:8428/", has_token=has_token))
    assert config["store"].get("token_file") == file


def test_token_that_comes_later_is_named_too() -> None:
    api = _installed(Wish("i", store="victoriametrics://v:8428/", has_token=False))
    wish = replace(kept(api, Wish("i")), has_token=True)
    assert _config(wish)["store"]["token_file"] == "/etc/overhop/store/token"
