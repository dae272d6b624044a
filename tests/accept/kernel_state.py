# SPDX-License-Identifier: Apache-2.0
"""What an agent has in the kernel: by the descriptors it holds, and by the hooks of a node."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.hooks import tc
from agent.network.links import links
from bpf import syscall
from bpf.syscall import BpfError
from overhop.lab import Node
from tests.accept.verdict import until

_SIDES = ("ingress", "egress")
_EXISTING: dict[str, Callable[[], list[int]]] = {
    "prog_id": syscall.prog_ids,
    "map_id": syscall.map_ids,
    "link_id": syscall.link_ids,
}


@dataclass(frozen=True, slots=True)
class Held:
    """Ids of kernel objects that a process holds by descriptor."""

    programs: frozenset[int]
    maps: frozenset[int]
    links: frozenset[int]

    @classmethod
    def by(cls, pid: int) -> "Held":
        """Those of a running process."""
        found: dict[str, set[int]] = {kind: set() for kind in _EXISTING}
        for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
            try:
                text = entry.read_text()
            except FileNotFoundError:
                continue  # closed meanwhile
            for kind, number in (line.split(":", 1) for line in text.splitlines() if ":" in line):
                if kind in found:
                    found[kind].add(int(number))
        return cls(*(frozenset(found[kind]) for kind in _EXISTING))

    def left(self) -> list[str]:
        """Those that still exist."""
        mine = zip(_EXISTING.items(), (self.programs, self.maps, self.links), strict=True)
        return [f"{kind} {number}" for (kind, look), ids in mine for number in sorted(ids & set(look()))]

    def await_gone(self, timeout_s: float = 10.0) -> list[str]:
        """What is left after a while: the kernel frees with a delay."""
        return until(self.left, lambda found: not found, timeout_s)

    def entries(self, name: str) -> int:
        """Number of entries of the held maps of that name."""
        count = 0
        for number in self.maps:
            with _closed_after(syscall.map_fd_by_id(number)) as fd:
                info = syscall.map_info(fd)
                if info.name == name:
                    count += sum(1 for _ in syscall.map_keys(fd, info.key_bytes))
        return count


def hooks(node: Node, but: frozenset[int] = frozenset()) -> Counter[str]:
    """`INTERFACE/PROGRAM` of everything at TCX and clsact hooks of a node, but the programs in `but`."""
    found: Counter[str] = Counter()
    with node.netns.entered():
        for link in links():
            for side in (syscall.TCX_INGRESS, syscall.TCX_EGRESS):
                for hooked in syscall.prog_query(link.ifindex, side):
                    if hooked.prog_id not in but:
                        found[f"{link.name}/{_program_name(hooked.prog_id)}"] += 1
            for parent in (tc.INGRESS, tc.EGRESS):
                for one in tc.filters(link.ifindex, parent):
                    if one.name.startswith("overhop:"):
                        program = "oh_" + one.name.removeprefix("overhop:").replace("-", "_")
                        found[f"{link.name}/{program}"] += 1
    return found


def one_set(nic: str, vports: list[str]) -> Counter[str]:
    """What hooks() shows of one agent."""
    pairs = [(nic, "nic"), *((vport, "vport") for vport in vports)]
    return Counter(f"{name}/oh_{kind}_{way}" for name, kind in pairs for way in ("in", "out"))


def tc_text(node: Node) -> str:
    """What `tc` shows of a node: qdiscs, and the filters of every interface."""
    with node.netns.entered():
        names = sorted(link.name for link in links())
    shown = [node.run("tc", "qdisc", "show")]
    for name in names:
        shown += [f"{name} {side}: {node.run('tc', 'filter', 'show', 'dev', name, side)}" for side in _SIDES]
    return "\n".join(shown)


def _program_name(prog_id: int) -> str:
    try:
        with _closed_after(syscall.prog_fd_by_id(prog_id)) as fd:
            return syscall.prog_info(fd).name
    except BpfError as error:
        return f"id {prog_id}: {error.strerror}"


@contextmanager
def _closed_after(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
