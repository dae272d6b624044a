# SPDX-License-Identifier: Apache-2.0
"""An upgrade keeps what an earlier installation was told: store, policies, the runtime's socket."""

from dataclasses import replace
from typing import Final

from collector.cluster.api import Api
from overhop.cluster.manifests import (
    AGENT,
    AGENT_FILE,
    CRI_ARGUMENT,
    POLICIES,
    POLICIES_FILE,
    Object,
    Wish,
    config_map,
    path_of,
    workload_path,
)
from overhop.cluster.present import find

USUAL_CRI: Final = "auto"
"""As `Wish.cri` before kept(): where the base has it, whatever an earlier installation was told."""


def kept(api: Api, wish: Wish) -> Wish:
    """The wish, and what it leaves open as it is in the cluster, if overhop is there. Raises ApiError."""
    cri = wish.cri
    if cri is None:
        cri = _cri_of(find(api, workload_path("DaemonSet", wish.namespace, AGENT)))
    policies = wish.policies
    if policies is None:
        policies = _text(api, wish.namespace, POLICIES, POLICIES_FILE)
    config = _text(api, wish.namespace, AGENT, AGENT_FILE)
    cri = None if cri == USUAL_CRI else cri
    return replace(wish, agent_config=config, policies=policies, cri=cri)


def _text(api: Api, namespace: str, name: str, file: str) -> str | None:
    found = find(api, path_of(config_map(name, namespace, {})))
    text = None if found is None else (found.get("data") or {}).get(file)
    return text if isinstance(text, str) else None


def _cri_of(agents: Object | None) -> str | None:
    if agents is None:
        return None
    [container] = agents["spec"]["template"]["spec"]["containers"]
    arguments: list[str] = container.get("args") or []
    given = [each for each in arguments if each.startswith(CRI_ARGUMENT)]
    return given[-1].removeprefix(CRI_ARGUMENT) if given else None
