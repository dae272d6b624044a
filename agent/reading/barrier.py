# SPDX-License-Identifier: Apache-2.0
"""Memory barriers: what a reader of a BPF ring buffer needs on this machine, and the end of programs."""

import ctypes
import os
import platform
from collections.abc import Callable

Barrier = Callable[[], None]

_QUERY = 0
_GLOBAL = 1
_GLOBAL_EXPEDITED = 2
_SYSCALL_NUMBER = {"aarch64": 283, "arm64": 283, "x86_64": 324, "amd64": 324}
"""__NR_membarrier (include/uapi/asm-generic/unistd.h, arch/x86/entry/syscalls/syscall_64.tbl)."""


def barrier_for(machine: str = "") -> Barrier:
    """The barrier of `machine` (`uname -m`; default: this one).

    x86-64 never reorders loads with loads or stores with earlier loads (Intel SDM vol. 3A §9.2), so it needs
    none. Raises RuntimeError on a machine whose order of memory accesses we do not know.
    """
    name = machine or platform.machine()
    if name in ("x86_64", "amd64"):
        return no_barrier
    if name in ("aarch64", "arm64"):
        return membarrier(name)
    raise RuntimeError(
        f"read ring on {name}: memory order of this machine not known; x86-64 and arm64 are supported"
    )


def no_barrier() -> None:
    """Nothing to do: the machine keeps the order that the reader relies on."""


def await_grace_period() -> None:
    """Return once every BPF program that runs now has ended: membarrier(2) GLOBAL is synchronize_rcu().

    Takes some 10 ms. Raises OSError, or RuntimeError on a machine whose number of the call we do not know.
    """
    machine = platform.machine()
    if machine not in _SYSCALL_NUMBER:
        raise RuntimeError(f"membarrier(2) on {machine}: its number is not known here")
    call = ctypes.CDLL(None, use_errno=True).syscall
    if int(call(_SYSCALL_NUMBER[machine], _GLOBAL, 0, 0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"membarrier(2), wait for running programs: {os.strerror(number)}")


def membarrier(machine: str) -> Barrier:
    """membarrier(2) as a full barrier of the calling thread. Raises RuntimeError if the kernel has none.

    GLOBAL_EXPEDITED, not PRIVATE_EXPEDITED: the latter returns without any barrier in a process of one thread
    (kernel/sched/membarrier.c: `mm_users == 1`), and our peer is the kernel, not another thread of ours.
    Without registered processes it sends no interrupts. On one online CPU it does, and needs, nothing.
    """
    call = ctypes.CDLL(None, use_errno=True).syscall

    def command(number: int) -> int:
        return int(call(_SYSCALL_NUMBER[machine], number, 0, 0))

    known = command(_QUERY)
    if known < 0 or not known & _GLOBAL_EXPEDITED:
        reason = os.strerror(ctypes.get_errno()) if known < 0 else "GLOBAL_EXPEDITED is missing"
        raise RuntimeError(f"membarrier(2): {reason}: the ring needs it, and Linux 4.16 or later")

    def full_barrier() -> None:
        if command(_GLOBAL_EXPEDITED) != 0:
            raise OSError(ctypes.get_errno(), "membarrier(2) failed, the ring cannot be read safely")

    return full_barrier
