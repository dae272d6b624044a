# SPDX-License-Identifier: Apache-2.0
"""The programs of this node: loaded, attached where they are wanted, exchanged in place, taken away."""

import logging
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

import numpy as np

from agent.hooks.attach import AttachError, Attachment, InterfaceGone, attach
from agent.hooks.points import NIC_POINTS, Hook, Wanted
from agent.loading.cache import ProgramCache
from agent.loading.loader import Loaded, load
from agent.network.links import Link, link_by_index
from agent.plan.model import VportPlan
from agent.reading.barrier import await_grace_period
from agent.reading.counters import CounterReader
from agent.reading.ring import Records, RingReader
from agent.reading.slots import count_waiting
from bpf import syscall
from bpf.counters import NAMES
from bpf.record import RECORD
from bpf.spec import ProgramSpec

Mode = Literal["auto", "tcx", "clsact"]

_log = logging.getLogger(__name__)
_SEEN_BYTES = 16
_ANY_ADDRESS = bytes(16)


class Datapath:
    """One set of programs and maps, and where they are attached.

    `programs` gives those of `spec` and is asked when all else is there; it may raise LoaderError.
    `clock_tai_ns` is the offset of CLOCK_TAI to real time in ns.
    """

    def __init__(
        self,
        spec: ProgramSpec,
        programs: Callable[[], Loaded],
        mode: Mode = "auto",
        clock_tai_ns: int = 0,
    ) -> None:
        self.spec = spec
        self.swapped = 0
        """Stamps that waited in slots of programs that were exchanged."""
        self._mode: Mode = mode
        self._clock_tai_ns = clock_tai_ns
        self._attachments: dict[Hook, Attachment] = {}
        self._vports: dict[int, VportPlan] = {}
        self._failed: dict[Hook, AttachError] = {}
        self._before: dict[str, int] = dict.fromkeys(NAMES, 0)
        self._loaded = self._with_parameters(programs())
        self._ring = RingReader(self._loaded.maps["oh_ring"], spec.ring_bytes)

    @property
    def vports(self) -> Mapping[int, VportPlan]:
        """Traced vports by ifindex."""
        return self._vports

    @property
    def hooks(self) -> Mapping[Hook, Attachment]:
        """Where programs are attached."""
        return self._attachments

    @property
    def failed(self) -> Mapping[Hook, AttachError]:
        """Why programs are not attached where they are wanted; InterfaceGone: nothing to worry about."""
        return self._failed

    @property
    def verified_insns(self) -> Mapping[str, int]:
        """Instructions that the verifier walked, by program."""
        return self._loaded.verified_insns

    def read(self) -> Records:
        """Records since the last read."""
        return self._ring.read()

    def counters(self) -> dict[str, int]:
        """Totals since the agent's start by the names of bpf.counters."""
        now = CounterReader(self._loaded.maps["oh_counters"]).read()
        return {name: value + self._before[name] for name, value in now.items()}

    def waiting(self) -> int:
        """Stamps that wait for their pair."""
        return count_waiting(self._loaded.maps["oh_slots"], self.spec.sets)

    def unreadable(self, ifindex: int) -> tuple[int, int]:
        """TLS records and HTTP/2 prefaces at this vport since it is traced by this program."""
        size = _SEEN_BYTES * syscall.possible_cpus()
        value = syscall.map_lookup(self._loaded.maps["oh_seen"], _u32(ifindex), size)
        if value is None:
            return 0, 0
        tls, http2 = np.frombuffer(value, "<u8").reshape(-1, 2).sum(axis=0)
        return int(tls), int(http2)

    @property
    def lag(self) -> float:
        """Share of the ring that waits to be read, 0 to 1."""
        return self._ring.lag

    def step(self, wanted: Wanted, go_on: Callable[[], bool] = lambda: True) -> bool:
        """Attach and detach towards `wanted`; True if there is nothing left to do.

        Each program takes 8 ms (TCX, a grace period of RCU) and sometimes much longer; `go_on` is asked after
        each. New interfaces come first: those that are gone can wait. What cannot be attached is in `failed`
        and is tried again after retry(). A vport that is not running yet can wait too: while a program is
        attached the kernel does not deal with carriers, and a pod whose first ARP request is lost for that
        waits a second (measured: 3 of 25 pods).
        """
        self._enter_vports(wanted)
        self._failed = {hook: why for hook, why in self._failed.items() if hook in wanted.hooks}
        for hook in self._due(wanted):
            self._attach(hook, wanted.hooks[hook])
            if not go_on():
                return False
        for hook in [hook for hook in self._attachments if hook not in wanted.hooks]:
            self._detach(hook)
            if not go_on():
                return False
        return True

    def retry(self) -> None:
        """Let the next step() try again what failed, and what somebody else took away."""
        self._failed.clear()
        for hook in [hook for hook, one in self._attachments.items() if not one.is_attached()]:
            if link_by_index(hook.ifindex) is not None:
                lost = self._attachments[hook]
                _log.warning("program was taken away", extra=_where(lost.link, hook))
            self._detach(hook)

    def shadows(self) -> dict[Hook, str]:
        """Who runs before us, by hook."""
        found = {hook: one.shadowed_by() for hook, one in self._attachments.items()}
        return {hook: name for hook, name in found.items() if name is not None}

    def load(self, spec: ProgramSpec, stop: Callable[[], bool]) -> Loaded:
        """Programs for swap(); takes seconds, and may run in another thread.

        Raises LoaderError; LoadStopped soon after `stop()` turned true.
        """
        return self._with_parameters(load(spec, cache=ProgramCache.of_this_machine(), stop=stop))

    def swap(self, spec: ProgramSpec, loaded: Loaded) -> Records:
        """Exchange the programs in place for `loaded` (load() of `spec`); returns the rest of the old ring.

        Stamps that wait in the old slots are counted as `swapped`. What cannot be exchanged is taken away,
        and comes back with the next step().
        """
        old, old_ring, old_spec = self._loaded, self._ring, self.spec
        self._ring = RingReader(loaded.maps["oh_ring"], spec.ring_bytes)
        self._loaded, self.spec = loaded, spec
        for ifindex, vport in self._vports.items():
            self._enter_vport(ifindex, vport)
        for hook in list(self._attachments):
            self._replace(hook)
        await_grace_period()
        rest = _drained(old_ring)
        counters = CounterReader(old.maps["oh_counters"]).read()
        self._before = {name: self._before[name] + counters[name] for name in NAMES}
        self.swapped += count_waiting(old.maps["oh_slots"], old_spec.sets)
        old_ring.close()
        old.close()
        return rest

    def detach_all(self, after_each: Callable[[], object] = lambda: None) -> None:
        """Take every program away and wait until none runs; the maps stay readable until close()."""
        if not self._attachments:
            return
        for hook in list(self._attachments):
            self._detach(hook)
            after_each()
        await_grace_period()

    def close(self) -> None:
        """Take every program away and free the maps."""
        self.detach_all()
        self._ring.close()
        self._loaded.close()

    def _with_parameters(self, loaded: Loaded) -> Loaded:
        syscall.map_update(loaded.maps["oh_params"], _u32(0), self._clock_tai_ns.to_bytes(8, "little"))
        return loaded

    def _attach(self, hook: Hook, link: Link) -> None:
        program = self._loaded.programs[hook.point.program]
        try:
            self._attachments[hook] = attach(link, hook.point, program, self._mode)
        except AttachError as error:
            self._failed[hook] = error

    def _detach(self, hook: Hook) -> None:
        attachment = self._attachments.pop(hook)
        try:
            attachment.detach()
        except AttachError as error:
            _log.error("cannot detach", extra=_where(attachment.link, hook) | {"reason": str(error)})

    def _due(self, wanted: Wanted) -> list[Hook]:
        return [
            hook
            for hook, link in wanted.hooks.items()
            if hook not in self._attachments
            and hook not in self._failed
            and (link.is_running or hook.point in NIC_POINTS)
        ]

    def _replace(self, hook: Hook) -> None:
        attachment = self._attachments[hook]
        try:
            attachment.replace(self._loaded.programs[hook.point.program])
        except InterfaceGone:
            self._detach(hook)
        except AttachError as error:
            _log.error("cannot exchange", extra=_where(attachment.link, hook) | {"reason": str(error)})
            self._detach(hook)

    def _enter_vports(self, wanted: Wanted) -> None:
        for ifindex in [known for known in self._vports if known not in wanted.vports]:
            self._forget_vport(ifindex)
        for ifindex, vport in wanted.vports.items():
            if self._vports.get(ifindex) != vport:
                self._enter_vport(ifindex, vport)

    def _enter_vport(self, ifindex: int, vport: VportPlan) -> None:
        """New entries first, so that a change of the plan leaves no moment without any."""
        maps = self._loaded.maps
        before = self._vports.get(ifindex)
        self._vports[ifindex] = vport
        keys = _owner_keys(ifindex, vport)
        for key in reversed(keys):
            syscall.map_update(maps["oh_owners"], key, bytes(4))
        for key in () if before is None else _owner_keys(ifindex, before):
            if key not in keys:
                syscall.map_delete(maps["oh_owners"], key)
        value = vport.filter_value()
        if self.spec.filter and value is not None:
            syscall.map_update(maps["oh_filter"], _u32(ifindex), value)
        else:
            syscall.map_delete(maps["oh_filter"], _u32(ifindex))
        size = _SEEN_BYTES * syscall.possible_cpus()
        if syscall.map_lookup(maps["oh_seen"], _u32(ifindex), size) is None:
            syscall.map_update(maps["oh_seen"], _u32(ifindex), bytes(size))

    def _forget_vport(self, ifindex: int) -> None:
        maps = self._loaded.maps
        for key in _owner_keys(ifindex, self._vports.pop(ifindex)):
            syscall.map_delete(maps["oh_owners"], key)
        syscall.map_delete(maps["oh_filter"], _u32(ifindex))
        syscall.map_delete(maps["oh_seen"], _u32(ifindex))


def _owner_keys(ifindex: int, vport: VportPlan) -> list[bytes]:
    """Keys of oh_owners: each address, and :: for "the addresses of this vport are known"."""
    if not vport.addresses:
        return []
    return [_u32(ifindex) + address for address in (_ANY_ADDRESS, *map(_mapped, vport.addresses))]


def _mapped(address: IPv4Address | IPv6Address) -> bytes:
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def _drained(ring: RingReader) -> Records:
    batches = [np.empty(0, RECORD)]
    while len(batch := ring.read()):
        batches.append(batch)
    return np.concatenate(batches)


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _where(link: Link, hook: Hook) -> dict[str, object]:
    return {"ifname": link.name, "ifindex": hook.ifindex, "point": hook.point.label}
