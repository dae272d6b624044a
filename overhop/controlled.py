# SPDX-License-Identifier: Apache-2.0
"""What an agent of a cluster gets from the rest: who knows its pods, and what its node is."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

from overhop.config import Config

if TYPE_CHECKING:
    from agent.control.control import Control
    from agent.control.pods import OwnPod
    from agent.plan.names import Address


def control_of(config: Config) -> "Callable[[], Control] | None":
    """How to be an agent of a cluster; None: the configuration names no controller."""
    url = config.agent.controller
    if url is None:
        return None

    def control() -> "Control":
        from agent.control.client import ControllerAddress
        from agent.control.control import Control, ControlConfig

        own = config.agent
        keep = None if own.state is None else own.state / f"plan-{config.node}.json"
        address = ControllerAddress(
            url, own.controller_token_file, own.controller_ca_file, own.controller_name
        )
        look = PodLook(own.cri)
        return Control(ControlConfig(address, config.node, look, lambda: inventory(own.nic), own.nic, keep))

    return control


class PodLook:
    """Asks whoever knows this node's pods, for agent.control.pods."""

    def __init__(self, cri: str) -> None:
        from collector.node.pods.choose import open_source

        self._cri = cri
        self._open = open_source
        self._source = open_source(cri)

    def __call__(self) -> "tuple[Sequence[OwnPod], str]":
        """All pods with an interface, and why that may not be all."""
        from agent.control.pods import OwnPod
        from agent.network.links import links
        from agent.network.nsid import nsid_of
        from collector.node.pods.choose import NoPods
        from collector.node.pods.local import shared_addresses, with_interfaces

        if isinstance(self._source, NoPods):
            self._source = self._open(self._cri)  # the runtime may have started meanwhile
        pods = self._source.pods()
        problem = self._source.problem
        shared = shared_addresses(pods)
        if shared and not problem:
            address, names = next(iter(shared.items()))
            problem = f"address {address} is of {' and '.join(names)}"
        try:
            present = links()
        except OSError as error:
            return (), f"interfaces: {error}"
        found = [
            OwnPod(pod.uid, pod.namespace, pod.name, pod.interface, _addresses(pod.addresses), pod.labels)
            for pod in with_interfaces(pods, present, nsid_of)
            if not pod.is_on_host_network
        ]
        return found, problem


def inventory(nic: str | None) -> bytes:
    """What the controller is told of this node (dispatcher.app.InventoryMessage)."""
    from agent.network.addresses import own_addresses
    from agent.plan.contract import CONTRACT
    from collector.node.links import OVERLAY_KINDS, read_network

    found: dict[str, object] = {"contract": CONTRACT}
    try:
        network = read_network(nic or "")
        own = own_addresses()
    except OSError as error:
        return json.dumps(found | {"nic_problem": str(error)}).encode()
    name = nic or network.nic
    by_index = {link.ifindex: link.name for link in network.links}
    overlays = [
        {
            "name": link.name,
            "kind": link.kind,
            "number": link.overlay_id,
            "port": link.overlay_port,
            "mtu_bytes": link.mtu_bytes,
            "over": by_index.get(link.lower_ifindex, ""),
        }
        for link in network.links
        if link.kind in OVERLAY_KINDS and link.up
    ]
    problem = "" if name else "there is no default route and no overlay: name the NIC with --nic"
    found["addresses"] = sorted(str(each) for each in own if not (each.is_loopback or each.is_link_local))
    found |= {"nic": [name] if name else [], "nic_problem": problem, "overlays": overlays}
    return json.dumps(found, sort_keys=True).encode()


def _addresses(texts: Sequence[str]) -> "tuple[Address, ...]":
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(ip_address(text))
    return tuple(found)
