# SPDX-License-Identifier: Apache-2.0
import select
from collections.abc import Callable

import pytest

from agent.network import links
from agent.network.links import Change, LinkWatch
from overhop.lab.netns import Netns

pytestmark = pytest.mark.usefixtures("no_leaks")


def seen(watch: LinkWatch, timeout_s: float = 5.0) -> list[tuple[str, str]]:
    """(change, name) of the events that come next."""
    assert select.select([watch], [], [], timeout_s)[0], "no event"
    return [(event.change.value, event.link.name) for event in watch.events()]


def test_links_know_kind_master_and_peer(netns: Netns, new_netns: Callable[[], Netns]) -> None:
    pod = new_netns()
    netns.ip(
        [
            "link add br0 type bridge",
            f"link add veth7 type veth peer eth0 netns {pod.name}",
            "link set veth7 master br0 up",
            "tuntap add t0 mode tun",
        ]
    )
    found = {link.name: link for link in links.links()}
    assert set(found) == {"lo", "br0", "veth7", "t0"}
    veth = found["veth7"]
    assert (veth.kind, veth.master, veth.is_up) == ("veth", found["br0"].ifindex, True)
    assert veth.peer_ifindex > 0
    assert veth.link_netnsid is not None
    assert (found["br0"].kind, found["br0"].link_netnsid) == ("bridge", None)
    assert [found[name].is_ethernet for name in ("lo", "br0", "veth7", "t0")] == [True, True, True, False]
    assert links.link_by_name("nope") is None
    assert links.link_by_index(4711) is None
    assert links.link_by_index(veth.ifindex) == veth


def test_watch_tells_of_added_changed_and_removed_links(netns: Netns) -> None:
    with LinkWatch() as watch:
        netns.ip(["link add br0 type bridge"])
        assert seen(watch) == [("added", "br0")]
        netns.ip(["link set br0 mtu 1400"])
        assert seen(watch) == [("changed", "br0")]
        netns.ip(["link del br0"])
        assert seen(watch) == [("removed", "br0")]
        assert watch.events() == []


def test_watch_tells_as_soon_as_the_link_is_there(netns: Netns) -> None:
    with LinkWatch() as watch:
        netns.ip(["link add br0 type bridge"])
        assert seen(watch, timeout_s=0) == [("added", "br0")]


def test_watch_knows_the_peer_of_both_ends_of_a_veth(netns: Netns) -> None:
    with LinkWatch() as watch:
        netns.ip(["link add a0 type veth peer a1"])
        assert sorted(seen(watch)) == [("added", "a0"), ("added", "a1")]
        peers = {link.name: link.peer_ifindex for link in watch.known.values() if link.kind == "veth"}
        by_name = {link.name: link.ifindex for link in watch.known.values()}
        assert peers == {"a0": by_name["a1"], "a1": by_name["a0"]}


def test_watch_does_not_take_leaving_a_bridge_for_removal(netns: Netns) -> None:
    netns.ip(["link add br0 type bridge", "link add a0 type veth peer a1", "link set a0 master br0"])
    with LinkWatch() as watch:
        netns.ip(["link set a0 nomaster"])
        assert ("removed", "a0") not in seen(watch)
        assert "a0" in {link.name for link in watch.known.values()}


def test_watch_after_an_overrun_is_complete_again(netns: Netns) -> None:
    netns.ip(["link add old0 type bridge"])
    with LinkWatch(queue_bytes=1) as watch:
        netns.ip(["link del old0", *(f"link add x{n} type veth peer y{n}" for n in range(20))])
        events = watch.events()
        assert watch.overruns == 1
        assert {event.link.name for event in events if event.change is Change.REMOVED} == {"old0"}
        assert len([event for event in events if event.change is Change.ADDED]) == 40
        assert sorted(watch.known.values(), key=lambda link: link.ifindex) == sorted(
            links.links(), key=lambda link: link.ifindex
        )
        netns.ip(["link del x0"])
        assert sorted(change for change in seen(watch) if change[0] == "removed") == [
            ("removed", "x0"),
            ("removed", "y0"),
        ]


def test_watch_sees_a_link_that_moves_to_another_namespace_as_removed(
    netns: Netns, new_netns: Callable[[], Netns]
) -> None:
    other = new_netns()
    netns.ip(["link add a0 type veth peer a1"])
    with LinkWatch() as watch:
        netns.ip([f"link set a0 netns {other.name}"])
        assert ("removed", "a0") in seen(watch)


def test_watch_counts_addresses_that_come_and_go(netns: Netns) -> None:
    netns.ip(["link add br0 type bridge"])
    with LinkWatch() as watch:
        netns.ip(["addr add 10.9.0.1/24 dev br0"])
        assert (seen(watch), watch.address_changes) == ([], 1)
        netns.ip(["addr add fd00:9::1/64 dev br0"])
        assert (seen(watch), watch.address_changes) == ([], 2)
        netns.ip(["addr del 10.9.0.1/24 dev br0"])
        assert (seen(watch), watch.address_changes) == ([], 3)


def test_watch_after_an_overrun_counts_addresses_as_changed(netns: Netns) -> None:
    with LinkWatch(queue_bytes=1) as watch:
        netns.ip([f"link add x{n} type veth peer y{n}" for n in range(20)])
        watch.events()
        assert (watch.overruns, watch.address_changes) == (1, 1)
