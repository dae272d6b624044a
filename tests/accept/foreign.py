# SPDX-License-Identifier: Apache-2.0
"""Programs of somebody else at a vport: do they see every packet, whatever the agent does?"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.hooks import netlink, tc
from agent.network.links import link_by_name
from bpf import syscall
from bpf.record import Point
from overhop.lab import LabError, Node, Pod
from tests.accept.traffic import datagrams
from tests.accept.verdict import Verdict
from tests.kernel.counting import Counting

PORT = 7700
EXCHANGES = 200
_UNSPEC_PRIO, _OK_PRIO, _HANDLE = 50, 60, 1
_SIDES = ((Point.VPORT_IN, "rx"), (Point.VPORT_OUT, "tx"))


@dataclass(frozen=True, slots=True)
class Foreign:
    """On both sides a TCX program behind all others, a clsact filter that goes on, one that returns OK."""

    node: Node
    pod: Pod
    counting: dict[str, Counting]

    @property
    def programs(self) -> frozenset[int]:
        """Their ids."""
        fds = [fd for one in self.counting.values() for fd in one.loaded.programs.values()]
        return frozenset(syscall.prog_info(fd).id for fd in fds)

    def check(self, verdict: Verdict, phase: str) -> None:
        """Send datagrams; each program must count exactly the packets that the interface counts."""
        before = self._counts()
        with datagrams(self.node, self.pod, PORT) as ends:
            verdict.equal(f"{phase}: datagrams there and back", ends.exchange(EXCHANGES), EXCHANGES)
        after = self._counts()
        for _, side in _SIDES:
            seen = {who: after[who, side] - before[who, side] for who in ("interface", *self.counting)}
            verdict.numbers[f"{phase} foreign {side}"] = seen["interface"]
            verdict.equal(f"{phase}: packets {side}", seen, dict.fromkeys(seen, seen["interface"]))
            verdict.equal(f"{phase}: {side} at least the datagrams", seen["interface"] >= EXCHANGES, True)

    def _counts(self) -> dict[tuple[str, str], int]:
        found = {
            (who, side): one.count(point) for who, one in self.counting.items() for point, side in _SIDES
        }
        with self.node.netns.entered():
            dump = Path("/proc/thread-self/net/dev").read_text()
        fields = next(line for line in dump.splitlines() if self.pod.vport in line).split(":")[1].split()
        return found | {("interface", "rx"): int(fields[1]), ("interface", "tx"): int(fields[9])}


@contextmanager
def foreign(node: Node, pod: Pod) -> Iterator[Foreign]:
    """The programs of somebody else, while the `with` lasts."""
    with ExitStack() as stack:
        counting = {
            "tcx": Counting(),
            "clsact going on": Counting(),
            "clsact OK": Counting("-DVERDICT=TC_ACT_OK"),
        }
        for one in counting.values():
            stack.enter_context(one.loaded)
        with node.netns.entered():
            link = link_by_name(pod.vport)
            if link is None:
                raise LabError(f"{pod.vport}: gone")
            netlink.add_clsact(link.ifindex)
            stack.callback(_in(node, lambda: netlink.del_clsact(link.ifindex)))
            for point, side in ((Point.VPORT_IN, tc.INGRESS), (Point.VPORT_OUT, tc.EGRESS)):
                _attach(stack, counting, point, link.ifindex, side)
        yield Foreign(node, pod, counting)


def _attach(stack: ExitStack, counting: dict[str, Counting], point: Point, ifindex: int, side: int) -> None:
    hook = syscall.TCX_INGRESS if side == tc.INGRESS else syscall.TCX_EGRESS
    fd = syscall.link_create(counting["tcx"].program(point), ifindex, hook, before=False)
    stack.callback(os.close, fd)
    for who, prio in (("clsact going on", _UNSPEC_PRIO), ("clsact OK", _OK_PRIO)):
        where = tc.Filter(ifindex, side, prio, _HANDLE, name="somebody")
        netlink.add_filter(where, counting[who].program(point))


def _in(node: Node, action: Callable[[], None]) -> Callable[[], None]:
    def inside() -> None:
        with node.netns.entered():
            action()

    return inside
