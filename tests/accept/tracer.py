# SPDX-License-Identifier: Apache-2.0
"""Traces one node of a lab from inside this process: the agent's parts, without the agent around them."""

import os
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Self

import numpy as np

from agent.counters import CounterReader
from agent.loader import load
from agent.ring import Records, RingReader
from agent.slots import count_waiting
from bpf import syscall
from bpf.counters import imbalances
from bpf.record import RECORD, Point
from bpf.spec import ProgramSpec
from overhop.lab import Node

POLL_S = 0.01
SETTLE_TIMEOUT_S = 10.0
_SIDES = (syscall.TCX_INGRESS, syscall.TCX_EGRESS)
_NIC_POINTS = (Point.NIC_IN, Point.NIC_OUT)
_VPORT_POINTS = (Point.VPORT_IN, Point.VPORT_OUT)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one node has seen of one load, once traffic has stopped."""

    records: Records
    counters: dict[str, int]
    """All of bpf.counters.NAMES, and `waiting` (the change, so it may be negative)."""
    settled: bool
    """The identities hold and every record has been read."""


class Tracer:
    """Programs at the NIC and at the vports of all pods that the node has on entry."""

    def __init__(self, node: Node, spec: ProgramSpec | None = None) -> None:
        self.node = node
        self._spec = spec or ProgramSpec()
        self._batches: list[Records] = []
        self._counted: dict[str, int] = {}
        self._stop = threading.Event()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with self._open as stack:
            self._loaded = stack.enter_context(load(self._spec))
            self._ring = stack.enter_context(RingReader(self._loaded.maps["oh_ring"], self._spec.ring_bytes))
            with self.node.netns.entered():
                self._attach(stack, "eth0", _NIC_POINTS)
                for pod in self.node.pods:
                    self._attach(stack, pod.vport, _VPORT_POINTS)
                    self._own(socket.if_nametoindex(pod.vport), (pod.address, pod.address6))
            reader = threading.Thread(target=self._read)
            reader.start()
            stack.callback(reader.join)
            stack.callback(self._stop.set)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def ifindex(self, ifname: str) -> int:
        """Index of an interface of the node."""
        with self.node.netns.entered():
            return socket.if_nametoindex(ifname)

    def mark(self) -> None:
        """Forget what was seen so far: the next settle() counts from here."""
        self._wait_until_settled()
        self._counted = self._count()
        self._batches.clear()

    def settle(self) -> Snapshot:
        """What was seen since mark(), once all counters add up and the ring is empty (or after 10 s)."""
        settled = self._wait_until_settled()
        now = self._count()
        counters = {name: value - self._counted.get(name, 0) for name, value in now.items()}
        return Snapshot(np.concatenate([np.empty(0, RECORD), *self._batches]), counters, settled)

    def _wait_until_settled(self) -> bool:
        deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
        before: dict[str, int] = {}
        while True:
            seen = self._count()
            read = sum(map(len, self._batches)) + self._counted.get("records", 0)
            if seen == before and read == seen["records"] and not any(imbalances(seen).values()):
                return True
            if time.monotonic() > deadline_s:
                return False
            before = seen
            self._stop.wait(POLL_S)

    def _count(self) -> dict[str, int]:
        counters = CounterReader(self._loaded.maps["oh_counters"]).read()
        return counters | {"waiting": count_waiting(self._loaded.maps["oh_slots"], self._spec.sets)}

    def _attach(self, stack: ExitStack, ifname: str, points: tuple[Point, Point]) -> None:
        ifindex = socket.if_nametoindex(ifname)
        for point, side in zip(points, _SIDES, strict=True):
            link = syscall.link_create(self._loaded.programs[point.program], ifindex, side)
            stack.callback(os.close, link)

    def _own(self, ifindex: int, addresses: tuple[IPv4Address | IPv6Address | None, ...]) -> None:
        """Entries of the owner map: the pod's addresses, and :: for "this vport's addresses are known"."""
        owned = [bytes(16), *(_mapped(address) for address in addresses if address is not None)]
        for value in owned:
            syscall.map_update(
                self._loaded.maps["oh_owners"], ifindex.to_bytes(4, "little") + value, bytes(4)
            )

    def _read(self) -> None:
        while not self._stop.wait(POLL_S):
            while len(batch := self._ring.read()):
                self._batches.append(batch)


def _mapped(address: IPv4Address | IPv6Address) -> bytes:
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
