# SPDX-License-Identifier: Apache-2.0
"""Marks stand for names that only the controller knows, until it has been asked (docs/controller.md).

A mark is a text that no name of Kubernetes can be. Rows wait for its answer and are never stored with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address

_BEGIN = "?"
_ADDRESS, _UID, _SERVICE, _NODE_PORT, _INTERFACE = "?a", "?u", "?s", "?p", "?i"
REMOTE = "remote"
"""What stands for an end elsewhere where nobody waits for its name: in Prometheus."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is to be found: whose an `address` or an `interface` is, the workload of a `uid`, which `service`.

    `node_port`: the service of a port of every node.
    """

    kind: str
    text: str
    port: int = 0


def address_mark(address: bytes) -> str:
    """For whoever has this address (16 bytes)."""
    return _ADDRESS + address_text(address)


def uid_mark(uid: str) -> str:
    """For the workload of the pod with this uid."""
    return _UID + uid


def service_mark(address: bytes, port: int) -> str:
    """For the service of this address and port."""
    return f"{_SERVICE}{address_text(address)} {port}"


def node_port_mark(port: int) -> str:
    """For the service of this node port."""
    return f"{_NODE_PORT}{port}"


def interface_mark(ifname: str) -> str:
    """For the pod behind an interface of this node, of which the runtime has not told yet."""
    return _INTERFACE + ifname


def is_mark(text: str) -> bool:
    """Whether it is one."""
    return text.startswith(_BEGIN)


def marks_in(texts: Iterable[str]) -> set[str]:
    """Those that are marks."""
    return {text for text in texts if text.startswith(_BEGIN)}


def parse_mark(text: str) -> Mark:
    """What a mark asks for."""
    kind, rest = text[:2], text[2:]
    if kind == _SERVICE:
        address, _, port = rest.partition(" ")
        return Mark("service", address, int(port))
    if kind == _NODE_PORT:
        return Mark("node_port", "", int(rest))
    return Mark(_KINDS[kind], rest)


_KINDS = {_ADDRESS: "address", _UID: "uid", _INTERFACE: "interface"}


def shown(text: str) -> str:
    """For people, while it is not answered: an address or interface as it is, else `...`."""
    if not text.startswith(_BEGIN):
        return text
    mark = parse_mark(text)
    return mark.text if mark.kind in ("address", "interface") else "..."


def address_text(address: bytes) -> str:
    """As people write it."""
    whole = IPv6Address(address)
    return str(whole.ipv4_mapped or whole)
