# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from agent.hooks import attach, netlink, tc
from agent.hooks.attach import Attachment, InterfaceGone, NoEthernetHeader
from agent.hooks.qdiscs import Records
from agent.network.links import link_by_name, links
from bpf import syscall
from bpf.record import Point
from overhop.lab.netns import Netns
from tests.kernel.counting import Counting
from tests.kernel.wire import Wire

pytestmark = pytest.mark.usefixtures("no_leaks")

MODES = ("tcx", "clsact")
both_modes = pytest.mark.parametrize("mode", MODES)


@contextmanager
def attached(wire: Wire, point: Point, programs: Counting, mode: str) -> Iterator[Attachment]:
    """An attachment that ends with the block."""
    assert mode in ("tcx", "clsact")
    made = attach.attach(wire.link, point, programs.program(point), "tcx" if mode == "tcx" else "clsact")
    try:
        yield made
    finally:
        made.detach()


@contextmanager
def foreign_clsact(wire: Wire, programs: Counting, protocol: int = 3) -> Iterator[tc.Filter]:
    """Another tool's filter on the ingress side, as Cilium's: prio 1, handle 1."""
    where = tc.Filter(
        wire.link.ifindex, tc.INGRESS, prio=1, handle=1, protocol=protocol, name="cil_from_netdev"
    )
    netlink.add_clsact(wire.link.ifindex)
    netlink.add_filter(where, programs.program(Point.NIC_IN))
    yield where
    assert where in tc.filters(wire.link.ifindex, tc.INGRESS)


@contextmanager
def foreign_tcx(wire: Wire, programs: Counting, *, before: bool) -> Iterator[None]:
    """Another tool's TCX link on the ingress side."""
    fd = syscall.link_create(
        programs.program(Point.NIC_IN), wire.link.ifindex, syscall.TCX_INGRESS, before=before
    )
    try:
        yield
    finally:
        os.close(fd)


@both_modes
@pytest.mark.parametrize("point", list(Point))
def test_attach_every_point_sees_each_packet_of_its_direction_once(
    wire: Wire, counting: Counting, point: Point, mode: str
) -> None:
    with attached(wire, point, counting, mode) as made:
        assert wire.exchange(5) == 5
        assert made.mode == mode
        assert made.is_attached()
        assert made.shadowed_by() is None
    assert counting.count(point) == 5


@both_modes
def test_detach_stops_the_program_and_leaves_nothing(wire: Wire, counting: Counting, mode: str) -> None:
    with attached(wire, Point.NIC_IN, counting, mode) as first:
        with attached(wire, Point.NIC_OUT, counting, mode) as second:
            wire.exchange(1)
        assert not second.is_attached()
        assert first.is_attached()
        wire.exchange(1)
    assert wire.exchange(3) == 3
    assert (counting.count(Point.NIC_IN), counting.count(Point.NIC_OUT)) == (2, 1)
    assert syscall.prog_query(wire.link.ifindex, syscall.TCX_INGRESS) == []
    assert tc.clsact_qdiscs() == {}
    assert Records().all() == []


@both_modes
def test_detach_twice_is_fine(wire: Wire, counting: Counting, mode: str) -> None:
    with attached(wire, Point.VPORT_OUT, counting, mode) as made:
        made.detach()
        assert not made.is_attached()


@both_modes
def test_replace_moves_the_packets_to_the_new_program(
    wire: Wire, counting: Counting, foreign: Counting, mode: str
) -> None:
    with attached(wire, Point.VPORT_IN, counting, mode) as made:
        wire.exchange(2)
        made.replace(foreign.program(Point.VPORT_IN))
        wire.exchange(3)
        assert made.is_attached()
    assert (counting.count(Point.VPORT_IN), foreign.count(Point.VPORT_IN)) == (2, 3)


def test_attach_auto_on_this_kernel_takes_tcx(wire: Wire, counting: Counting) -> None:
    made = attach.attach(wire.link, Point.NIC_IN, counting.program(Point.NIC_IN))
    made.detach()
    assert made.mode == ("tcx" if attach.has_tcx() else "clsact")


@both_modes
def test_foreign_filter_at_prio_1_works_before_during_and_after(
    wire: Wire, counting: Counting, foreign: Counting, mode: str
) -> None:
    with foreign_clsact(wire, foreign):
        wire.exchange(1)
        with attached(wire, Point.NIC_IN, counting, mode) as made:
            wire.exchange(2)
            assert made.shadowed_by() is None
        wire.exchange(4)
        assert foreign.count(Point.NIC_IN) == 7
        assert counting.count(Point.NIC_IN) == 2
        assert tc.clsact_qdiscs() == {wire.link.ifindex: "clsact"}


def test_foreign_filter_added_later_at_prio_1_is_named_as_shadow(
    wire: Wire, counting: Counting, foreign: Counting
) -> None:
    with attached(wire, Point.NIC_IN, counting, "clsact") as made, foreign_clsact(wire, foreign):
        wire.exchange(3)
        assert made.shadowed_by() == "bpf filter cil_from_netdev (pref 1, handle 0x1)"
    assert (foreign.count(Point.NIC_IN), counting.count(Point.NIC_IN)) == (3, 0)
    assert Records().all() == []
    assert tc.clsact_qdiscs() == {wire.link.ifindex: "clsact"}


def test_foreign_filter_of_one_protocol_at_prio_1_is_left_alone(
    wire: Wire, counting: Counting, foreign: Counting
) -> None:
    with (
        foreign_clsact(wire, foreign, protocol=0x0800) as other,
        attached(wire, Point.NIC_IN, counting, "clsact") as made,
    ):
        wire.exchange(2)
        assert [(f.prio, f.handle) for f in tc.filters(wire.link.ifindex, tc.INGRESS)] == [
            (1, 1),
            (2, 0x6F68),
        ]
        assert made.shadowed_by() == other.label
    assert foreign.count(Point.NIC_IN) == 2


def test_qdisc_with_a_foreign_filter_that_we_created_stays_after_detach(
    wire: Wire, counting: Counting, foreign: Counting
) -> None:
    with attached(wire, Point.NIC_OUT, counting, "clsact"), foreign_clsact(wire, foreign):
        assert Records().has(wire.link.ifindex, "v0")
    wire.exchange(2)
    assert foreign.count(Point.NIC_IN) == 2
    assert Records().all() == []
    assert tc.clsact_qdiscs() == {wire.link.ifindex: "clsact"}


def test_empty_clsact_of_somebody_else_stays_after_detach(wire: Wire, counting: Counting) -> None:
    netlink.add_clsact(wire.link.ifindex)
    with attached(wire, Point.NIC_OUT, counting, "clsact"):
        assert Records().all() == []
    assert tc.clsact_qdiscs() == {wire.link.ifindex: "clsact"}


def test_foreign_ingress_qdisc_takes_ingress_and_refuses_egress_by_name(
    wire: Wire, netns: Netns, counting: Counting
) -> None:
    netns.run(("tc", "qdisc", "add", "dev", "v0", "ingress"))
    with attached(wire, Point.NIC_IN, counting, "clsact"):
        wire.exchange(2)
    with pytest.raises(attach.AttachError, match=r"attach v0 egress \(nic-out\): .* no egress side"):
        attach.attach(wire.link, Point.NIC_OUT, counting.program(Point.NIC_OUT), "clsact")
    assert counting.count(Point.NIC_IN) == 2
    assert tc.clsact_qdiscs() == {wire.link.ifindex: "ingress"}


def test_foreign_tcx_program_works_before_during_and_after(
    wire: Wire, counting: Counting, foreign: Counting
) -> None:
    with foreign_tcx(wire, foreign, before=False):
        wire.exchange(1)
        with attached(wire, Point.NIC_IN, counting, "tcx") as made:
            wire.exchange(2)
            assert made.shadowed_by() is None
        wire.exchange(4)
    assert (foreign.count(Point.NIC_IN), counting.count(Point.NIC_IN)) == (7, 2)


@both_modes
def test_foreign_tcx_program_in_front_is_named_as_shadow(
    wire: Wire, counting: Counting, foreign: Counting, mode: str
) -> None:
    number = syscall.prog_info(foreign.program(Point.NIC_IN)).id
    with attached(wire, Point.NIC_IN, counting, mode) as made, foreign_tcx(wire, foreign, before=True):
        wire.exchange(2)
        assert made.shadowed_by() == f"TCX program oh_nic_in (id {number})"
    assert (foreign.count(Point.NIC_IN), counting.count(Point.NIC_IN)) == (2, 0)


@both_modes
def test_interface_gone_in_the_middle_is_said_and_detach_still_works(
    wire: Wire, netns: Netns, counting: Counting, mode: str
) -> None:
    with attached(wire, Point.NIC_IN, counting, mode) as made:
        netns.ip(["link del v0"])
        assert not made.is_attached()
        assert made.shadowed_by() is None
        with pytest.raises(InterfaceGone, match=r"v0 ingress \(nic-in\): .*: the interface is gone"):
            made.replace(counting.program(Point.NIC_IN))
    assert Records().all() == []


def test_qdisc_deleted_by_somebody_else_is_noticed_and_detach_still_works(
    wire: Wire, netns: Netns, counting: Counting
) -> None:
    with attached(wire, Point.NIC_IN, counting, "clsact") as made:
        netns.run(("tc", "qdisc", "del", "dev", "v0", "clsact"))
        assert not made.is_attached()
    assert Records().all() == []


@both_modes
def test_attach_to_an_interface_that_does_not_exist_is_refused_by_name(
    wire: Wire, counting: Counting, mode: str
) -> None:
    link = replace(wire.link, ifindex=12345, name="gone0")
    with pytest.raises(InterfaceGone, match=r"attach gone0 egress .*: ENODEV: the interface is gone"):
        attach.attach(
            link, Point.VPORT_OUT, counting.program(Point.VPORT_OUT), "tcx" if mode == "tcx" else "clsact"
        )
    assert Records().all() == []


def test_attach_without_ethernet_header_is_refused_by_name(netns: Netns, counting: Counting) -> None:
    netns.ip(["tuntap add t0 mode tun"])
    link = link_by_name("t0")
    assert link is not None
    with pytest.raises(NoEthernetHeader, match=r"attach t0 ingress \(nic-in\): .* no Ethernet header"):
        attach.attach(link, Point.NIC_IN, counting.program(Point.NIC_IN))


def test_attach_where_a_filter_of_ours_is_says_how_to_remove_it(wire: Wire, counting: Counting) -> None:
    with (
        attached(wire, Point.NIC_IN, counting, "clsact") as made,
        pytest.raises(attach.AttachError, match="EEXIST: it is attached there already: `overhop clean`"),
    ):
        attach.attach(wire.link, Point.NIC_IN, counting.program(Point.NIC_IN), "clsact")
    assert not made.is_attached()


@both_modes
def test_many_interfaces_that_come_and_go_leave_nothing(netns: Netns, counting: Counting, mode: str) -> None:
    netns.ip([f"link add p{n} type veth peer q{n}" for n in range(20)])
    made = [
        attach.attach(link, point, counting.program(point), "tcx" if mode == "tcx" else "clsact")
        for link in links()
        for point in (Point.VPORT_IN, Point.VPORT_OUT)
        if link.name.startswith("p")
    ]
    assert len(made) == 40
    netns.ip([f"link del p{n}" for n in range(0, 20, 2)])
    assert sum(one.is_attached() for one in made) == 20
    for one in made:
        one.detach()
    assert tc.clsact_qdiscs() == {}
    assert Records().all() == []


def test_new_netns_gives_namespaces_that_do_not_see_each_other(new_netns: Callable[[], Netns]) -> None:
    first, second = new_netns(), new_netns()
    first.ip(["link add br7 type bridge"])
    with second.entered():
        assert link_by_name("br7") is None
