# SPDX-License-Identifier: Apache-2.0
"""What a test has left in the kernel, and waiting for what nothing announces."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bpf import syscall


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 5.0) -> None:
    """Poll a condition that nothing announces; fails the test, naming it, after timeout_s."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {timeout_s} s: {what}")
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Kernel:
    """What exists at one moment."""

    descriptors: frozenset[tuple[int, str]]
    programs: frozenset[int]
    links: frozenset[int]

    @classmethod
    def now(cls) -> "Kernel":
        return cls(_own_descriptors(), frozenset(syscall.prog_ids()), frozenset(syscall.link_ids()))

    def leaks(self) -> list[str]:
        """What is there now, was not then, and belongs to no other process."""
        now = Kernel.now()
        programs, links = now.programs - self.programs, now.links - self.links
        held = _held_ids() if programs or links else {"prog_id": set(), "link_id": set()}
        return [
            *(f"fd {fd}: {target}" for fd, target in now.descriptors - self.descriptors),
            *(f"prog {number}" for number in programs - held["prog_id"]),
            *(f"link {number}" for number in links - held["link_id"]),
        ]

    def await_clean(self, timeout_s: float) -> None:
        """Fail the test, naming what it left, if that is still there after timeout_s."""
        deadline_s = time.monotonic() + timeout_s
        while left := self.leaks():
            if time.monotonic() > deadline_s:
                pytest.fail(f"left behind: {', '.join(left)}")
            time.sleep(0.05)


def _own_descriptors() -> frozenset[tuple[int, str]]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add((int(entry.name), os.readlink(entry)))
        except FileNotFoundError:
            continue  # the listing's own descriptor
    return frozenset(found)


def _held_ids() -> dict[str, set[int]]:
    """Ids of programs and links that another process holds by descriptor."""
    held: dict[str, set[int]] = {"prog_id": set(), "link_id": set()}
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            for entry in (process / "fdinfo").iterdir():
                _add_ids(entry.read_text(), held)
        except OSError:
            continue  # ended meanwhile
    return held


def _add_ids(fdinfo: str, held: dict[str, set[int]]) -> None:
    for line in fdinfo.splitlines():
        key, _, value = line.partition(":")
        if key in held:
            held[key].add(int(value))
