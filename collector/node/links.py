# SPDX-License-Identifier: Apache-2.0
"""The interfaces of this network namespace, as `ip` and `ethtool` tell them.

Not from /sys/class/net: that shows the namespace it was mounted in, which need not be ours.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OVERLAY_KINDS = frozenset(
    {"vxlan", "geneve", "ipip", "sit", "ip6tnl", "gre", "gretap", "ip6gre", "ip6gretap"}
)
_TIMEOUT_S = 10
_OFFLOADS = {
    "generic-receive-offload": "gro",
    "tcp-segmentation-offload": "tso",
    "generic-segmentation-offload": "gso",
}


@dataclass(frozen=True, slots=True)
class Link:
    """One interface."""

    ifindex: int
    name: str
    kind: str
    """`veth`, `vxlan`, ...; empty for a device with a driver of its own."""
    up: bool
    mtu_bytes: int
    has_ethernet: bool
    peer_elsewhere: bool
    """Its other end is in another network namespace: what a pod's veth looks like from the node."""
    lower_ifindex: int
    """The device below it in this namespace (VLAN, VXLAN, macvlan), or 0."""
    master: str
    virtual_functions: int
    overlay_port: int
    """UDP destination port of a VXLAN or Geneve device, or 0."""
    overlay_id: int = 0
    """VNI of a VXLAN or Geneve device, or 0."""


@dataclass(frozen=True, slots=True)
class Network:
    """Interfaces and what the NIC is."""

    links: tuple[Link, ...]
    nics: tuple[str, ...]
    """None: it is not known which one is it."""
    nic_reason: str
    """Why these."""
    offloads: dict[str, bool]
    """gro, tso, gso of the first NIC; empty if ethtool could not tell."""
    ipsec_states: int | None
    """Security associations, or None if they could not be read."""


def read_network(nics: Sequence[str] = (), reason: str = "") -> Network:
    """Ask `ip` and `ethtool`; offloads are of the first NIC.

    Raises OSError if `ip` is missing or fails.
    """
    links = parse_links(_ip_json("-d", "link", "show"))
    return Network(
        links=links,
        nics=tuple(nics),
        nic_reason=reason,
        offloads=parse_offloads(_output(["ethtool", "-k", nics[0]])) if nics else {},
        ipsec_states=parse_ipsec_states(_output(["ip", "xfrm", "state", "count"])),
    )


def read_addresses() -> dict[int, tuple[str, ...]]:
    """Addresses with the length of their network, by ifindex. Raises OSError if `ip` is missing or fails."""
    return parse_addresses(_ip_json("addr", "show"))


def parse_addresses(listing: object) -> dict[int, tuple[str, ...]]:
    """Addresses of `ip -j addr show`; interfaces without one are left out."""
    found = {}
    for row in _rows(listing):
        rows = _rows(row.get("addr_info", []))
        texts = tuple(f"{each['local']}/{each.get('prefixlen')}" for each in rows if "local" in each)
        if texts and "ifindex" in row:
            found[_number(row["ifindex"])] = texts
    return found


def parse_links(listing: object) -> tuple[Link, ...]:
    """Links of `ip -j -d link show`."""
    rows = [row for row in _rows(listing) if "ifindex" in row]
    by_name = {row["ifname"]: row["ifindex"] for row in rows}
    return tuple(_link(row, by_name) for row in rows)


def parse_offloads(text: str | None) -> dict[str, bool]:
    """gro, tso and gso of `ethtool -k`."""
    pairs = re.findall(r"^([a-z-]+): (on|off)", text or "", re.MULTILINE)
    return {_OFFLOADS[name]: state == "on" for name, state in pairs if name in _OFFLOADS}


def parse_ipsec_states(text: str | None) -> int | None:
    """Number of `ip xfrm state count`."""
    found = re.search(r"SAD count (\d+)", text or "")
    return int(found[1]) if found else None


def _link(row: dict[str, object], by_name: dict[object, object]) -> Link:
    info = _table(row.get("linkinfo"))
    data = _table(info.get("info_data"))
    kind = str(info.get("info_kind", ""))
    lower = by_name.get(data.get("link")) or (0 if "link_netnsid" in row else by_name.get(row.get("link")))
    flags = row.get("flags")
    return Link(
        ifindex=_number(row["ifindex"]),
        name=str(row["ifname"]),
        kind=kind,
        up=isinstance(flags, list) and "UP" in flags,
        mtu_bytes=_number(row.get("mtu", 0)),
        has_ethernet=row.get("link_type") in ("ether", "loopback"),
        peer_elsewhere="link_netnsid" in row,
        lower_ifindex=_number(lower or 0),
        master=str(row.get("master", "")),
        virtual_functions=len(list(_rows(row.get("vfinfo_list", [])))),
        overlay_port=_number(data.get("port", 0)) if kind in OVERLAY_KINDS else 0,
        overlay_id=_number(data.get("id", 0)) if kind in OVERLAY_KINDS else 0,
    )


def _rows(listing: object) -> Iterable[dict[str, object]]:
    return [row for row in listing if isinstance(row, dict)] if isinstance(listing, list) else []


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return int(value) if isinstance(value, (int, str)) else 0


def _ip_json(*arguments: str) -> object:
    command = ["ip", "-j", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise OSError("ip: not found: install it (apt-get install iproute2)") from error
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {' '.join(done.stderr.split())}")
    parsed: object = json.loads(done.stdout or "[]")
    return parsed


def _output(command: Sequence[str]) -> str | None:
    """What a command prints; None if it is missing or fails (the fact is then unknown, and shown so)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
