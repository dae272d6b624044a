# SPDX-License-Identifier: Apache-2.0
"""Attach programs to interfaces: TCX links where the kernel has them (6.6), else clsact filters.

TCX: first in line, gone with the descriptor. clsact: direct action, prio 1, handle 0x6f68, protocol all. A
filter of somebody else is never touched: if prio 1 is taken by another kind of filter, the next free prio is
used, and `shadowed_by` says who comes first. Of several filters of one prio the last added runs first.
"""

import errno
import os
from abc import ABC, abstractmethod
from typing import Final, Literal

from agent import capabilities
from agent.hooks import tc
from agent.hooks.qdiscs import Records
from agent.network.links import Link
from bpf import syscall
from bpf.record import Point

Mode = Literal["tcx", "clsact"]

HANDLE: Final = 0x6F68
NAME_PREFIX: Final = "overhop:"
_PRIO: Final = 1
_PROTOCOL_ALL: Final = 3
_INGRESS_POINTS: Final = (Point.NIC_IN, Point.VPORT_IN)
_LOOPBACK_IFINDEX: Final = 1
_GONE: Final = (errno.ENODEV, errno.ENXIO, errno.ENOLINK)


class AttachError(Exception):
    """Attaching failed: what, where, why, what to do."""


class InterfaceGone(AttachError):  # noqa: N818 (says what is the case)
    """The interface went away meanwhile."""


class NoEthernetHeader(AttachError):  # noqa: N818 (says what is the case)
    """The interface carries packets without an Ethernet header, which the programs cannot parse."""


class Attachment(ABC):
    """One program at one hook of one interface."""

    mode: Mode

    def __init__(self, link: Link, point: Point) -> None:
        self.link = link
        self.point = point

    @abstractmethod
    def replace(self, prog_fd: int) -> None:
        """Exchange the program in place: no packet passes without one. Raises AttachError."""

    @abstractmethod
    def detach(self) -> None:
        """Take the program away; nothing happens if it is gone already. Raises AttachError."""

    @abstractmethod
    def is_attached(self) -> bool:
        """Whether the program is still at its hook: interfaces go, and others delete qdiscs."""

    @abstractmethod
    def shadowed_by(self) -> str | None:
        """Name of what runs before us and may keep packets from us; None: we are first (or not attached)."""


def attach(
    link: Link, point: Point, prog_fd: int, mode: Literal["auto", "tcx", "clsact"] = "auto"
) -> Attachment:
    """Attach a program at a tracing point of an interface of this network namespace.

    Raises AttachError (InterfaceGone, NoEthernetHeader).
    """
    if not link.is_ethernet:
        raise NoEthernetHeader(
            f"{_what(link, point)}: its packets have no Ethernet header (hardware type {link.arphrd}): "
            "trace the device below it"
        )
    try:
        if mode == "tcx" or (mode == "auto" and has_tcx()):
            return _TcxAttachment(link, point, prog_fd)
        return _ClsactAttachment(link, point, prog_fd, Records())
    except OSError as error:
        raise _error(link, point, error) from error


def has_tcx() -> bool:
    """Whether the kernel has TCX. Raises BpfError for lack of rights."""
    try:
        syscall.prog_query(_LOOPBACK_IFINDEX, syscall.TCX_INGRESS)
    except syscall.BpfError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


class _TcxAttachment(Attachment):
    mode = "tcx"

    def __init__(self, link: Link, point: Point, prog_fd: int) -> None:
        super().__init__(link, point)
        self._type = syscall.TCX_INGRESS if _is_ingress(point) else syscall.TCX_EGRESS
        self._fd = syscall.link_create(prog_fd, link.ifindex, self._type)
        self._id = syscall.link_info(self._fd).id

    def replace(self, prog_fd: int) -> None:
        try:
            syscall.link_update(self._fd, prog_fd)
        except OSError as error:
            raise _error(self.link, self.point, error) from error

    def detach(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def is_attached(self) -> bool:
        return self._fd >= 0 and syscall.link_info(self._fd).ifindex == self.link.ifindex

    def shadowed_by(self) -> str | None:
        if not self.is_attached():
            return None
        return _first_tcx(self.link.ifindex, self._type, self._id)


class _ClsactAttachment(Attachment):
    mode = "clsact"

    def __init__(self, link: Link, point: Point, prog_fd: int, records: Records) -> None:
        from agent.hooks import netlink

        super().__init__(link, point)
        self._records = records
        self._parent = tc.INGRESS if _is_ingress(point) else tc.EGRESS
        records.prepare()
        if netlink.add_clsact(link.ifindex):
            records.add(link.ifindex, link.name)
        try:
            self._filter = self._place()
            netlink.add_filter(self._filter, prog_fd)
        except BaseException:
            remove_own_qdisc(link.ifindex, link.name, records)
            raise

    def _place(self) -> tc.Filter:
        if self._parent == tc.EGRESS and tc.clsact_qdiscs().get(self.link.ifindex) == "ingress":
            raise AttachError(
                f"{_what(self.link, self.point)}: the interface has an ingress qdisc of somebody else, "
                "which has no egress side: replace it by clsact (tc qdisc)"
            )
        prio = free_prio(tc.filters(self.link.ifindex, self._parent))
        name = NAME_PREFIX + self.point.label
        return tc.Filter(self.link.ifindex, self._parent, prio, HANDLE, name=name)

    def replace(self, prog_fd: int) -> None:
        from agent.hooks import netlink

        try:
            netlink.replace_filter(self._filter, prog_fd)
        except OSError as error:
            raise _error(self.link, self.point, error) from error

    def detach(self) -> None:
        try:
            self._delete_filter()
            remove_own_qdisc(self.link.ifindex, self.link.name, self._records)
        except OSError as error:
            raise _error(self.link, self.point, error) from error

    def _delete_filter(self) -> None:
        from agent.hooks import netlink

        if not self.is_attached():
            return
        try:
            netlink.del_filter(self._filter)
        except OSError:
            if self.is_attached():
                raise

    def is_attached(self) -> bool:
        return self._filter in tc.filters(self.link.ifindex, self._parent)

    def shadowed_by(self) -> str | None:
        if not self.is_attached():
            return None
        if has_tcx():
            hook = syscall.TCX_INGRESS if self._parent == tc.INGRESS else syscall.TCX_EGRESS
            first = _first_tcx(self.link.ifindex, hook, 0)
            if first:
                return first
        present = tc.filters(self.link.ifindex, self._parent)
        return None if not present or present[0] == self._filter else present[0].label


def is_ours(found: tc.Filter) -> bool:
    """Whether a filter is one of an overhop agent."""
    return found.kind == "bpf" and found.handle == HANDLE and found.name.startswith(NAME_PREFIX)


def free_prio(present: list[tc.Filter]) -> int:
    """The least prio that is free or holds bpf filters for every protocol, which ours can join."""
    taken = {
        found.prio
        for found in present
        if found.chain == 0 and (found.kind, found.protocol) != ("bpf", _PROTOCOL_ALL)
    }
    return next(prio for prio in range(_PRIO, 1 << 16) if prio not in taken)


def remove_own_qdisc(ifindex: int, name: str, records: Records) -> bool:
    """Delete a clsact that we created, if nothing is in it, and its record; whether it was deleted.

    With a filter of somebody else in it, it is theirs from now on. Raises OSError.
    """
    from agent.hooks import netlink

    if not records.has(ifindex, name):
        return False
    present = [found for parent in (tc.INGRESS, tc.EGRESS) for found in tc.filters(ifindex, parent)]
    if any(is_ours(found) for found in present):
        return False
    is_empty = not present and tc.clsact_qdiscs().get(ifindex) == "clsact"
    if is_empty:
        netlink.del_clsact(ifindex)
    records.remove(ifindex)
    return is_empty


def _first_tcx(ifindex: int, attach_type: int, own_link_id: int) -> str | None:
    """Name of the first TCX program if it is not ours; None if the interface is gone."""
    try:
        hooked = syscall.prog_query(ifindex, attach_type)
    except syscall.BpfError as error:
        if error.errno not in _GONE:
            raise
        return None
    if not hooked or (own_link_id and hooked[0].link_id == own_link_id):
        return None
    return f"TCX program {_program_name(hooked[0].prog_id)}"


def _program_name(prog_id: int) -> str:
    """Name and id; the id alone without CAP_SYS_ADMIN, which the kernel asks for, or if it is gone."""
    try:
        fd = syscall.prog_fd_by_id(prog_id)
    except syscall.BpfError as error:
        if error.errno not in (errno.EPERM, errno.ENOENT):
            raise
        return f"id {prog_id}"
    try:
        return f"{syscall.prog_info(fd).name} (id {prog_id})"
    finally:
        os.close(fd)


def _is_ingress(point: Point) -> bool:
    return point in _INGRESS_POINTS


def _what(link: Link, point: Point) -> str:
    return f"attach {link.name} {'ingress' if _is_ingress(point) else 'egress'} ({point.label})"


def _error(link: Link, point: Point, error: OSError) -> AttachError:
    number = error.errno or 0
    what = f"{_what(link, point)}: {errno.errorcode.get(number, str(number))}"
    if number in _GONE:
        return InterfaceGone(f"{what}: the interface is gone")
    if number == errno.EPERM:
        return AttachError(f"{what}: {capabilities.advice()}")
    if number == errno.EEXIST:
        return AttachError(
            f"{what}: it is attached there already: `overhop clean` removes what a killed agent left"
        )
    return AttachError(f"{what}: {error}")
