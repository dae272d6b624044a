# SPDX-License-Identifier: Apache-2.0
"""Pods by /proc: where no runtime tells them, a process in each network namespace that the node leads to.

Nothing of it needs more than an agent has. Measured on 6.18 with CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON only:
/proc/PID/ns/net is refused (it wants CAP_SYS_PTRACE), /proc/PID/net and /proc/PID/cgroup are not, nor is
RTM_GETNSID, by which namespaces are told apart here. The processes of the node must be visible (hostPID).

A cgroup names the pod's uid and no more: names come from the controller (agent/control/by_address.py).
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from collector.node.pods.local import End, LocalPod

SETTLED_S: Final = 10.0
"""A process is looked at again for that long: it may enter its namespace, and get addresses, late."""
FIRST_SETTLED_S: Final = 1.0
"""The same for those of the first look: nearly all of them are old."""
FULL_SCAN_S: Final = 10.0
"""How often all processes are looked at while nobody is found behind an interface."""
_UID = re.compile(
    r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?=[./]|$)", re.MULTILINE
)
"""`kubepods/burstable/podUID/...` by the cgroupfs driver, `kubepods-burstable-podU_I_D.slice` by systemd's;
32 digits without dashes: a static pod, whose uid in the API is another."""
_CONTAINER = re.compile(r"(?<![0-9a-f])([0-9a-f]{64})(?![0-9a-f])")
_FILE_BYTES: Final = 1 << 20
_HOST_LOCAL: Final = "/32 host LOCAL"
_GLOBAL_SCOPE: Final = "00"


@dataclass(frozen=True, slots=True)
class _Process:
    """`inode` of its directory in /proc: another one where the same number is another process."""

    pid: int
    inode: int


@dataclass(slots=True)
class _Seen:
    """`nsid` of its network namespace, None: this one, or none that the node leads to."""

    nsid: int | None
    since_s: float


class ProcessPods:
    """Looks for processes behind the node's interfaces; what it found it only looks at again."""

    def __init__(
        self,
        links: Callable[[], Sequence[End]],
        nsid_of: Callable[[int], int | None],
        proc: str = "/proc",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = "processes"
        self.problem = ""
        self.asked = 0
        """Processes whose namespace was asked for."""
        self._links, self._nsid_of, self._proc, self._clock = links, nsid_of, proc, clock
        self._seen: dict[_Process, _Seen] = {}
        self._known: dict[int, tuple[_Process, LocalPod]] = {}
        """By number of the namespace."""
        self._next_full_scan_s = 0.0

    def pods(self) -> Sequence[LocalPod]:
        """One a namespace that interfaces of the node lead to, as far as a process is in it."""
        try:
            wanted = {link.link_netnsid for link in self._links() if link.link_netnsid is not None}
            present = set(_processes(self._proc))
        except OSError as error:
            self.problem = f"{self.name}: {error.strerror or error}"
            return tuple(pod for _, pod in self._known.values())
        self.problem = ""
        self._forget(wanted, present)
        if missing := self._missing(wanted):
            self._scan(present)
            self._learn(missing)
        return tuple(pod for _, pod in self._known.values())

    def close(self) -> None:
        """Nothing to let go of."""

    def _forget(self, wanted: set[int], present: set[_Process]) -> None:
        self._seen = {process: seen for process, seen in self._seen.items() if process in present}
        for nsid, (process, _) in list(self._known.items()):
            if nsid not in wanted or process not in present:
                del self._known[nsid]

    def _missing(self, wanted: set[int]) -> set[int]:
        """Namespaces of which nobody is known, or somebody whose addresses may not be all yet."""
        limit_s = self._clock() - SETTLED_S
        young = {nsid for nsid, (process, _) in self._known.items() if self._seen[process].since_s > limit_s}
        return wanted - self._known.keys() | young

    def _scan(self, present: Iterable[_Process]) -> None:
        """Ask for the namespace of processes that are new or young, and now and then of all that had none."""
        now_s = self._clock()
        since_s = now_s if self._seen else now_s - SETTLED_S + FIRST_SETTLED_S
        is_full = now_s >= self._next_full_scan_s
        if is_full:
            self._next_full_scan_s = now_s + FULL_SCAN_S
        for process in present:
            seen = self._seen.get(process)
            is_young = seen is None or now_s - seen.since_s < SETTLED_S
            if not is_young and not (is_full and seen is not None and seen.nsid is None):
                continue
            self.asked += 1
            nsid = self._nsid_of(process.pid)
            self._seen[process] = _Seen(nsid, since_s if seen is None else seen.since_s)

    def _learn(self, missing: set[int]) -> None:
        """Of each namespace the first process, or the first whose cgroup says of which pod it is."""
        inside: dict[int, list[_Process]] = {}
        for process, seen in self._seen.items():
            if seen.nsid is not None and seen.nsid in missing:
                inside.setdefault(seen.nsid, []).append(process)
        for nsid, processes in inside.items():
            process, pod = self._told(sorted(processes, key=lambda each: each.pid))
            if pod.addresses:
                self._known[nsid] = process, pod

    def _told(self, processes: Sequence[_Process]) -> tuple[_Process, LocalPod]:
        """`processes` of one namespace, at least one."""
        named = ((each, owner(_text(f"{self._proc}/{each.pid}/cgroup"))) for each in processes)
        found, pod = next(
            ((each, pod) for each, pod in named if pod.uid), (processes[0], LocalPod("", "", ""))
        )
        return found, replace(pod, pid=found.pid, addresses=addresses_of(found.pid, self._proc))


def addresses_of(pid: int, proc: str = "/proc") -> tuple[str, ...]:
    """Addresses in the network namespace of a process, but loopback and link-local ones; none: it is gone."""
    return (
        *ipv4_addresses(_text(f"{proc}/{pid}/net/fib_trie")),
        *ipv6_addresses(_text(f"{proc}/{pid}/net/if_inet6")),
    )


def ipv4_addresses(fib_trie: str) -> tuple[str, ...]:
    """Of /proc/PID/net/fib_trie: local addresses are routes to one host, once in each of two tables. Pure."""
    found: dict[str, None] = {}
    address = ""
    for line in fib_trie.splitlines():
        text = line.strip()
        if text.startswith("|-- "):
            address = text.removeprefix("|-- ")
        elif text == _HOST_LOCAL and address and not _is_inner(IPv4Address, address):
            found[address] = None
    return tuple(found)


def ipv6_addresses(if_inet6: str) -> tuple[str, ...]:
    """Of /proc/PID/net/if_inet6: address, index, length, scope, flags, name. Pure."""
    found: dict[str, None] = {}
    for line in if_inet6.splitlines():
        words = line.split()
        if len(words) == 6 and words[3] == _GLOBAL_SCOPE:
            with suppress(ValueError):
                found[str(IPv6Address(int(words[0], 16)))] = None
    return tuple(found)


def owner(cgroup: str) -> LocalPod:
    """Uid of the pod and id of the container, as /proc/PID/cgroup has them; empty where it has none. Pure."""
    uids = _UID.findall(cgroup)
    containers = _CONTAINER.findall(cgroup)
    uid = uids[-1].replace("_", "-") if uids else ""
    return LocalPod(uid=uid, namespace="", name="", sandbox=containers[-1] if containers else "")


def is_static(uid: str) -> bool:
    """A uid of a static pod, which the kubelet made from its manifest: the API has another one for it."""
    return "-" not in uid


def _is_inner(kind: type[IPv4Address], text: str) -> bool:
    try:
        address = kind(text)
    except ValueError:
        return True
    return address.is_loopback or address.is_link_local


def _processes(proc: str) -> Iterator[_Process]:
    """Raises OSError."""
    with os.scandir(proc) as entries:
        for entry in entries:
            if entry.name.isdigit():
                yield _Process(int(entry.name), entry.inode())


def _text(path: str) -> str:
    """Of a file of a process; empty where the process is gone, or where that file is not to be read."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(_FILE_BYTES).decode("ascii", "replace")
    return ""
