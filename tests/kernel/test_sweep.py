# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.hooks import netlink, tc
from agent.hooks.qdiscs import Records
from agent.hooks.sweep import sweep
from agent.lock import AgentLock, AlreadyRunning
from agent.sockets.unix_socket import default_path, listen
from bpf import syscall
from bpf.record import Point
from overhop.lab.netns import Netns
from tests.kernel.counting import Counting
from tests.kernel.leaks import wait_until
from tests.kernel.wire import Wire

pytestmark = pytest.mark.usefixtures("no_leaks")

AGENT = """
import sys
from agent.hooks.attach import attach
from agent.network.links import link_by_name
from bpf.record import Point
from tests.kernel.counting import Counting
programs = Counting()
made = [attach(link_by_name("v0"), point, programs.program(point), sys.argv[1])
        for point in (Point.NIC_IN, Point.NIC_OUT)]
print("attached", flush=True)
input()
"""
LISTENER = """
import sys
from agent.sockets.unix_socket import listen
kept = listen(sys.argv[1], 1)
print("listening", flush=True)
input()
"""


def leftovers(lock: AgentLock | None = None, records: Records | None = None) -> list[str]:
    """Sweep without sockets: those of agents that other tests killed are nobody's here."""
    return sweep(lock, records, "/no/such/directory")


@contextmanager
def killed_agent(netns: Netns, mode: str) -> Iterator[None]:
    """A process that attached two programs to v0 is running in the block and killed at its end."""
    with netns.popen(
        [sys.executable, "-c", AGENT, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"attached\n"
        yield
        process.kill()


def ours(wire: Wire) -> list[tuple[int, int]]:
    return [
        (found.prio, found.handle)
        for parent in (tc.INGRESS, tc.EGRESS)
        for found in tc.filters(wire.link.ifindex, parent)
        if found.name.startswith("overhop:")
    ]


def test_sweep_after_kill_removes_filters_qdisc_and_record(wire: Wire, netns: Netns) -> None:
    with killed_agent(netns, "clsact"):
        assert wire.exchange(2) == 2
    assert ours(wire) == [(1, 0x6F68), (1, 0x6F68)]
    assert wire.exchange(2) == 2
    assert leftovers() == [
        "v0: bpf filter overhop:nic-in (pref 1, handle 0x6f68)",
        "v0: bpf filter overhop:nic-out (pref 1, handle 0x6f68)",
        "v0: clsact qdisc",
    ]
    assert tc.clsact_qdiscs() == {}
    assert Records().all() == []


def test_sweep_again_finds_nothing(wire: Wire, netns: Netns) -> None:
    with killed_agent(netns, "clsact"):
        pass
    assert len(leftovers()) == 3
    assert leftovers() == []


def test_sweep_leaves_what_is_foreign(wire: Wire, netns: Netns, foreign: Counting) -> None:
    netlink.add_clsact(wire.link.ifindex)
    theirs = [
        tc.Filter(wire.link.ifindex, tc.INGRESS, prio=1, handle=1, name="cil_from_netdev"),
        tc.Filter(wire.link.ifindex, tc.EGRESS, prio=1, handle=0x6F68, name="somebody"),
        tc.Filter(wire.link.ifindex, tc.EGRESS, prio=7, handle=2, name="overhop:nic-in"),
    ]
    for where in theirs:
        netlink.add_filter(where, foreign.program(Point.NIC_IN))
    with AgentLock() as lock:
        assert leftovers(lock) == []
    assert tc.filters(wire.link.ifindex, tc.INGRESS) + tc.filters(wire.link.ifindex, tc.EGRESS) == theirs


def test_sweep_in_a_qdisc_shared_with_somebody_leaves_it_to_them(
    wire: Wire, netns: Netns, foreign: Counting
) -> None:
    where = tc.Filter(wire.link.ifindex, tc.INGRESS, prio=1, handle=1, name="cil_from_netdev")
    with killed_agent(netns, "clsact"):
        netlink.add_filter(where, foreign.program(Point.NIC_IN))
    assert len(leftovers()) == 2
    assert tc.filters(wire.link.ifindex, tc.INGRESS) == [where]
    assert wire.exchange(3) == 3
    assert foreign.count(Point.NIC_IN) == 3
    assert Records().all() == []


def test_kill_with_tcx_needs_no_sweep(wire: Wire, netns: Netns) -> None:
    with killed_agent(netns, "tcx"):
        assert len(syscall.prog_query(wire.link.ifindex, syscall.TCX_INGRESS)) == 1
    wait_until(
        lambda: syscall.prog_query(wire.link.ifindex, syscall.TCX_INGRESS) == [], "the TCX link is gone"
    )
    assert leftovers() == []


def test_sweep_of_an_interface_that_is_gone_forgets_its_record(wire: Wire, netns: Netns) -> None:
    with killed_agent(netns, "clsact"):
        pass
    netns.ip(["link del v0"])
    assert leftovers() == ["record of v0, which is gone"]
    assert Records().all() == []


def test_sweep_while_an_agent_runs_is_refused(netns: Netns) -> None:
    with AgentLock(), pytest.raises(AlreadyRunning):
        leftovers()


def test_sweep_drops_records_of_an_earlier_boot(netns: Netns, tmp_path: Path) -> None:
    (tmp_path / "5-2.json").write_text(
        '{"boot_id": "earlier", "netns_cookie": 5, "ifindex": 2, "name": "eth0"}'
    )
    with AgentLock() as lock:
        assert leftovers(lock, Records(tmp_path)) == ["record 5-2.json"]
    assert list(tmp_path.iterdir()) == []


def test_sweep_removes_sockets_of_a_killed_agent_and_none_that_lives(netns: Netns, tmp_path: Path) -> None:
    dead, alive = default_path("watch", tmp_path), tmp_path / "record-7.sock"
    with (
        closing(listen(str(alive), 1)),
        netns.popen(
            [sys.executable, "-c", LISTENER, str(dead)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        assert sweep(run_dir=tmp_path) == []
        process.kill()
        process.wait()
        assert sweep(run_dir=tmp_path) == [f"socket {dead.name}"]
        assert (dead.exists(), alive.is_socket()) == (False, True)
