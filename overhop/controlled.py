# SPDX-License-Identifier: Apache-2.0
"""What an agent of a cluster gets from the rest: who knows its pods, and what its node is."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from overhop.config import Config

if TYPE_CHECKING:
    from agent.control.by_address import Nameless, PodsByAddress
    from agent.control.control import Control
    from agent.control.pods import OwnPod
    from agent.plan.names import Address
    from collector.node.pods.local import LocalPod


FIRST_DOCTOR_S: Final = 20.0
"""The agent should be tracing by then."""
DOCTOR_S: Final = 600.0
_DOCTOR_TIMEOUT_S: Final = 30
_RULES_TIMEOUT_S: Final = 60


def control_of(config: Config) -> "Callable[[], Control] | None":
    """How to be an agent of a cluster; None: the configuration names no controller."""
    url = config.agent.controller
    if url is None:
        return None

    def control() -> "Control":
        from agent.control.by_address import PodsByAddress
        from agent.control.client import ControllerAddress
        from agent.control.control import Control, ControlConfig

        own = config.agent
        keep = None if own.state is None else own.state / f"plan-{config.node}.json"
        address = ControllerAddress(
            url, own.controller_token_file, own.controller_ca_file, own.controller_name
        )
        look = PodLook(own.cri, PodsByAddress(address))
        node = Inventory(own.nic, own.cri)
        return Control(ControlConfig(address, config.node, look, node, own.nic, keep, nat_rules))

    return control


class PodLook:
    """Asks whoever knows this node's pods, for agent.control.pods; whom nobody names the controller does."""

    def __init__(self, cri: str, other: "PodsByAddress") -> None:
        from overhop.own_pods import open_own

        self._other = other
        self._source = open_own(cri)

    def __call__(self) -> "tuple[Sequence[OwnPod], str]":
        """All pods with an interface, and why that may not be all."""
        from agent.network.links import links
        from agent.network.nsid import nsid_of
        from collector.node.pods.choose import NoPods
        from collector.node.pods.local import shared_addresses, with_interfaces

        if isinstance(self._source, NoPods):
            return self._other()
        pods = [pod for pod in self._source.pods() if not pod.is_on_host_network]
        problem = self._source.problem
        shared = shared_addresses(pod for pod in pods if pod.name)
        if shared and not problem:
            address, names = next(iter(shared.items()))
            problem = f"address {address} is of {' and '.join(names)}"
        try:
            present = links()
        except OSError as error:
            return (), f"interfaces: {error}"
        placed = with_interfaces(pods, present, nsid_of)
        named, unasked = self._other.named(_nameless(placed))
        return (*(_own(pod) for pod in placed if pod.name), *named), problem or unasked


def _own(pod: "LocalPod") -> "OwnPod":
    """Of a pod of Kubernetes the controller knows the workload."""
    from agent.control.pods import OwnPod

    workload = "" if pod.namespace else pod.workload or pod.name
    addresses = _addresses(pod.addresses)
    return OwnPod(pod.uid, pod.namespace, pod.name, pod.interface, addresses, pod.labels, workload)


def _nameless(pods: "Iterable[LocalPod]") -> "Iterator[Nameless]":
    """Those that the kernel told of: the controller knows whose their uid or address is."""
    from agent.control.by_address import Nameless
    from collector.node.pods.processes import is_static

    for pod in pods:
        addresses = _addresses(pod.addresses)
        if pod.interface and addresses and not pod.name:
            yield Nameless(pod.interface, addresses, "" if is_static(pod.uid) else pod.uid)


class Inventory:
    """What the controller is told of this node (dispatcher.app.InventoryMessage), as JSON."""

    def __init__(self, nic: str | None, cri: str) -> None:
        self._nic, self._cri = nic, cri
        self._findings: list[object] = []
        self._next_look_s = time.monotonic() + FIRST_DOCTOR_S

    def __call__(self) -> bytes:
        """Of this moment; what `overhop doctor` says of the last ten minutes."""
        if time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + DOCTOR_S
            self._findings = doctor_findings(self._cri)
        return json.dumps(network_facts(self._nic) | {"findings": self._findings}, sort_keys=True).encode()


def doctor_findings(cri: str) -> list[object]:
    """What `overhop doctor --json` finds, in a process of its own: it takes a second and memory."""
    command = [sys.executable, "-P", "-m", "overhop", "doctor", "--json", "--cri", cri]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_DOCTOR_TIMEOUT_S, check=False)
        found = json.loads(done.stdout)["findings"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return [{"subject": "doctor", "verdict": "warn", "fact": "it does not answer on this node"}]
    return list(found) if isinstance(found, list) else []


def nat_rules() -> bytes | None:
    """NAT rules of this node as JSON (dispatcher.drift_book.NatMessage), by a process of its own."""
    command = [sys.executable, "-P", "-m", "overhop.nat_message"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_RULES_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def network_facts(nic: str | None) -> dict[str, object]:
    """NIC, overlays and addresses of this node."""
    from agent.network.addresses import own_addresses
    from agent.plan.contract import CONTRACT
    from collector.node.links import OVERLAY_KINDS, read_network
    from overhop.nics import read_nics

    found: dict[str, object] = {"contract": CONTRACT}
    try:
        nics, problem = read_nics(nic)
        network = read_network(nics.names)
        own = own_addresses()
    except OSError as error:
        return found | {"nic_problem": str(error)}
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
    found["addresses"] = sorted(str(each) for each in own if not (each.is_loopback or each.is_link_local))
    found |= {"nic": list(nics.names), "nic_problem": problem, "overlays": overlays}
    return found


def _addresses(texts: Sequence[str]) -> "tuple[Address, ...]":
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(ip_address(text))
    return tuple(found)
