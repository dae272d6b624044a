# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it, and what is left of it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from overhop.lab.ownership import DIRECTORY as LABS

ROOT = Path(__file__).parents[2]


class Demo:
    """`overhop demo` in a session of its own, with a directory for its files."""

    started: ClassVar[list["Demo"]] = []

    def __init__(self, files: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.files = files
        self.process = subprocess.Popen(
            [sys.executable, "-m", "overhop", "demo", *arguments],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(files)} | dict(env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(self)

    def lab(self) -> str:
        """Name of the lab; empty if there is none yet, or none any more."""
        for claim in LABS.glob("oh*"):
            try:
                if claim.read_text().strip() == str(self.process.pid):
                    return claim.name
            except FileNotFoundError:
                continue
        return ""

    def agents(self) -> list[int]:
        """Pids of its agents."""
        mark = f"{self.files}/overhop-demo-".encode()
        return [pid for pid, command in commands() if mark in command and b"\0agent\0" in command]

    def end(self) -> tuple[str, str]:
        """Wait for its end: standard output and error."""
        return self.process.communicate(timeout=200)

    def left(self, lab: str) -> list[str]:
        """What is still there of it; processes that ended but were not yet waited for are not."""
        namespaces = [path.name for path in Path("/run/netns").glob(f"{lab}-*")] if lab else []
        claims = [path.name for path in LABS.glob(lab)] if lab else []
        files = [path.name for path in self.files.iterdir()]
        mark = str(self.files).encode()
        return [*namespaces, *claims, *files, *(str(pid) for pid, command in commands() if mark in command)]


def commands() -> Iterator[tuple[int, bytes]]:
    """Pid and command line of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes()
            except OSError:
                continue
