# SPDX-License-Identifier: Apache-2.0
"""The pods of this node, by whoever tells them here (docs/pods.md)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.network.links import Link
    from collector.node.pods.choose import Kernel
    from collector.node.pods.local import LocalPod, PodSource


@dataclass(frozen=True, slots=True)
class OwnPods:
    """`source`: who told them, for people; `problem`: why that may not be all, empty otherwise."""

    source: str = ""
    problem: str = ""
    found: "tuple[LocalPod, ...]" = ()


def pod_name(pod: "LocalPod") -> str:
    """For people."""
    return f"{pod.namespace}/{pod.name}" if pod.namespace else pod.name


def open_own(cri: str) -> "PodSource":
    """By the value of `--cri`; it is to be closed."""
    from collector.node.pods.choose import open_source

    return open_source(cri, own_kernel())


def own_kernel() -> "Kernel":
    """Of this network namespace; what leads to other nodes leads to no pod."""
    from agent.network.behind import addresses_behind, leading_out, read_kernel
    from agent.network.links import links
    from agent.network.nsid import nsid_of
    from agent.network.routes import read_routes
    from collector.node.pods.choose import Kernel

    def to_pods() -> "list[Link]":
        outside = leading_out(read_routes())
        return [link for link in links() if link.ifindex not in outside]

    return Kernel(to_pods, nsid_of, lambda: addresses_behind(links(), read_kernel()))


def read_own(cri: str) -> OwnPods:
    """Ask once, and say behind which interface each of them is; of nobody for none.

    Raises OSError: interfaces cannot be listed.
    """
    from agent.network.links import links
    from agent.network.nsid import nsid_of
    from collector.node.pods.choose import NONE, described
    from collector.node.pods.local import with_interfaces

    if cri == NONE:
        return OwnPods()
    source = open_own(cri)
    try:
        pods = with_interfaces(source.pods(), links(), nsid_of)
        return OwnPods(described(source), source.problem, tuple(pods))
    finally:
        source.close()
