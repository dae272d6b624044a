# SPDX-License-Identifier: Apache-2.0
"""The network interfaces of this network namespace, and what happens to them (man 7 rtnetlink)."""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Final, Self

from agent.network import rtnetlink

ARPHRD_ETHER: Final = 1
ARPHRD_LOOPBACK: Final = 772
_IFF_UP: Final = 1
_IFF_RUNNING: Final = 1 << 6

_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18
_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_RTMGRP_LINK: Final = 1
_RTMGRP_IPV4_IFADDR: Final = 1 << 4
_RTMGRP_IPV6_IFADDR: Final = 1 << 8
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINK: Final = 5
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_EXT_MASK: Final = 29
_IFLA_LINK_NETNSID: Final = 37
_SKIP_STATS: Final = 1 << 3

_TUNNEL_LINK: Final = {"vxlan": 3} | dict.fromkeys(
    ("ipip", "sit", "ip6tnl", "gre", "gretap", "ip6gre", "ip6gretap"), 1
)
"""The underlay, by kind: IFLA_VXLAN_LINK, IFLA_IPTUN_LINK, IFLA_GRE_LINK (linux/if_link.h, if_tunnel.h)."""
_TUNNEL_LOCALS: Final = (
    {"vxlan": (4, 17)}
    | dict.fromkeys(("ipip", "sit", "ip6tnl"), (2,))
    | dict.fromkeys(("gre", "gretap", "ip6gre", "ip6gretap"), (6,))
)
"""IFLA_VXLAN_LOCAL and LOCAL6, IFLA_IPTUN_LOCAL, IFLA_GRE_LOCAL."""

_IFINFO: Final = struct.Struct("=BxHiII")
_QUEUE_BYTES: Final = 4 << 20
_SO_RCVBUFFORCE: Final = 33


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface as this network namespace sees it."""

    ifindex: int
    name: str
    kind: str = ""
    """veth, bridge, vxlan, ...; empty: a physical device or lo."""
    master: int = 0
    """Index of the bridge or bond that it belongs to; 0: none."""
    peer_ifindex: int = 0
    """IFLA_LINK: a veth's peer, a VLAN's parent; 0: none."""
    link_netnsid: int | None = None
    """Id of the network namespace of `peer_ifindex`; None: this one."""
    arphrd: int = ARPHRD_ETHER
    mtu: int = 0
    flags: int = 0
    underlay_ifindex: int = 0
    """Of a tunnel: the interface that its packets are bound to; 0: none."""
    tunnel_local: IPv4Address | IPv6Address | None = None
    """Of a tunnel: the address that its packets come from."""

    @property
    def is_ethernet(self) -> bool:
        """Whether packets begin with an Ethernet header here."""
        return self.arphrd in (ARPHRD_ETHER, ARPHRD_LOOPBACK)

    @property
    def is_up(self) -> bool:
        """Whether it is administratively up."""
        return bool(self.flags & _IFF_UP)

    @property
    def is_running(self) -> bool:
        """Whether it carries packets: up, and the kernel has dealt with its carrier."""
        return bool(self.flags & _IFF_RUNNING)


class Change(StrEnum):
    """What happened to a link."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """One change; `link` is the new state, for REMOVED the last known one."""

    change: Change
    link: Link


def links() -> list[Link]:
    """All interfaces of this network namespace. Raises OSError."""
    return [_link(message.body) for message in rtnetlink.dump(_RTM_GETLINK, _request(0), "list interfaces")]


def link_by_name(name: str) -> Link | None:
    """The interface of that name. Raises OSError."""
    return next((link for link in links() if link.name == name), None)


def link_by_index(ifindex: int) -> Link | None:
    """The interface of that index. Raises OSError."""
    try:
        message = rtnetlink.get(_RTM_GETLINK, _request(ifindex), f"look up interface {ifindex}")
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return _link(message.body)


class LinkWatch:
    """The interfaces of this network namespace, kept up to date.

    Wait until `fileno()` is readable, then call `events()`. Lost messages (ENOBUFS) lead to a full listing,
    counted in `overruns`, so the events always add up to `known`.
    """

    def __init__(self, *, queue_bytes: int = _QUEUE_BYTES) -> None:
        self.overruns = 0
        self.address_changes = 0
        """Addresses that came or went, or may have; as of the last `events()`."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        try:
            _set_queue(self._socket, queue_bytes)
            self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
            self._known = {link.ifindex: link for link in links()}
        except BaseException:
            self._socket.close()
            raise

    @property
    def known(self) -> Mapping[int, Link]:
        """Every interface by index, as of the last `events()`."""
        return self._known

    def fileno(self) -> int:
        """Descriptor that is readable when something happened."""
        return self._socket.fileno()

    def events(self) -> list[LinkEvent]:
        """What changed since the last call, in order; never blocks."""
        found: list[LinkEvent] = []
        while True:
            try:
                data = self._socket.recv(rtnetlink.RECEIVE_BYTES)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return found + self._relist()
            self.address_changes += count_addresses(data)
            for is_gone, link in parse_links(data):
                found += self._apply(is_gone, link if is_gone else _with_peer(link))

    def close(self) -> None:
        """Stop watching."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _apply(self, is_gone: bool, link: Link) -> list[LinkEvent]:
        before = self._known.get(link.ifindex)
        if is_gone:
            self._known.pop(link.ifindex, None)
            return [LinkEvent(Change.REMOVED, before)] if before else []
        if before == link:
            return []
        self._known[link.ifindex] = link
        return [LinkEvent(Change.CHANGED if before else Change.ADDED, link)]

    def _relist(self) -> list[LinkEvent]:
        """Throw away what is queued (older than the listing, with holes), then compare a listing."""
        self.overruns += 1
        self.address_changes += 1
        self._drain()
        now = {link.ifindex: link for link in links()}
        found: list[LinkEvent] = []
        for gone in [link for index, link in self._known.items() if index not in now]:
            found += self._apply(True, gone)
        for link in now.values():
            found += self._apply(False, link)
        return found

    def _drain(self) -> None:
        while True:
            try:
                self._socket.recv(rtnetlink.RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise


def _set_queue(channel: socket.socket, queue_bytes: int) -> None:
    """Beyond net.core.rmem_max with CAP_NET_ADMIN, else up to it: an overrun costs a listing only."""
    try:
        channel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, queue_bytes)
    except PermissionError:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, queue_bytes)


def _with_peer(link: Link) -> Link:
    """The first half of a veth pair is announced before its peer is known, and not again: ask."""
    if link.kind != "veth" or link.peer_ifindex:
        return link
    return link_by_index(link.ifindex) or link


def parse_links(data: bytes) -> Iterator[tuple[bool, Link]]:
    """(is gone, link) of each RTM_NEWLINK and RTM_DELLINK, but not a bridge's messages about its ports."""
    for message in rtnetlink.messages(data):
        if message.type in (_RTM_NEWLINK, _RTM_DELLINK) and message.body[0] == socket.AF_UNSPEC:
            yield message.type == _RTM_DELLINK, _link(message.body)


def count_addresses(data: bytes) -> int:
    """How many RTM_NEWADDR and RTM_DELADDR there are."""
    kinds = [message.type for message in rtnetlink.messages(data)]
    return kinds.count(_RTM_NEWADDR) + kinds.count(_RTM_DELADDR)


def _request(ifindex: int) -> bytes:
    mask = rtnetlink.attribute(_IFLA_EXT_MASK, struct.pack("=I", _SKIP_STATS))
    return _IFINFO.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + mask


def _link(body: bytes) -> Link:
    _, arphrd, ifindex, flags, _ = _IFINFO.unpack_from(body)
    found = rtnetlink.attributes(body[_IFINFO.size :])
    info = rtnetlink.attributes(found.get(_IFLA_LINKINFO, b""))
    nsid = found.get(_IFLA_LINK_NETNSID)
    kind = rtnetlink.text(info.get(_IFLA_INFO_KIND))
    data = rtnetlink.attributes(info.get(_IFLA_INFO_DATA, b"")) if kind in _TUNNEL_LINK else {}
    return Link(
        ifindex=ifindex,
        name=rtnetlink.text(found.get(_IFLA_IFNAME)),
        kind=kind,
        master=rtnetlink.u32(found.get(_IFLA_MASTER)),
        peer_ifindex=rtnetlink.u32(found.get(_IFLA_LINK)),
        link_netnsid=struct.unpack("=i", nsid)[0] if nsid else None,
        arphrd=arphrd,
        mtu=rtnetlink.u32(found.get(_IFLA_MTU)),
        flags=flags,
        underlay_ifindex=rtnetlink.u32(data.get(_TUNNEL_LINK.get(kind, 0))),
        tunnel_local=_tunnel_local(data, _TUNNEL_LOCALS.get(kind, ())),
    )


def _tunnel_local(data: Mapping[int, bytes], places: Iterable[int]) -> IPv4Address | IPv6Address | None:
    for packed in (data[place] for place in places if place in data):
        if any(packed):
            return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
    return None
