# SPDX-License-Identifier: Apache-2.0
"""Boots a kernel in an emulated machine (no KVM), runs steps of guest.py in it, and collects their lines."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kernels.images import Kernel

BOOT_TIMEOUT_S = 1200.0
MEMORY = "3G"
_CONSOLE_LINES = 15


class GuestError(RuntimeError):
    """A guest gave no result; the text has the last lines of its console."""


def run_steps(kernel: Kernel, root: Path, bytecode: Path, steps: Sequence[str]) -> list[dict[str, Any]]:
    """Boot, run, power off; returns the JSON lines of the steps. Raises GuestError."""
    with tempfile.TemporaryDirectory() as directory:
        said, console = Path(directory, "said"), Path(directory, "console")
        command = _command(kernel, (root, bytecode), steps, said)
        with console.open("wb") as log:
            try:
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=BOOT_TIMEOUT_S,
                    check=True,
                )
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
                raise GuestError(f"{kernel.release}: {error}\n{_last_lines(console)}") from error
        lines = [json.loads(line) for line in said.read_text().splitlines()]
        if not lines:
            raise GuestError(f"{kernel.release}: the guest said nothing\n{_last_lines(console)}")
        return lines


def _command(kernel: Kernel, disks: Sequence[Path], steps: Sequence[str], said: Path) -> list[str]:
    drives = [("-drive", f"file={disk},format=raw,if=virtio,readonly=on") for disk in disks]
    return [
        "qemu-system-x86_64",
        *("-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", MEMORY),
        *("-nodefaults", "-nographic", "-no-reboot"),
        *("-kernel", str(kernel.image), "-initrd", str(kernel.initramfs)),
        *("-append", f"console=ttyS0 quiet panic=-1 overhop={','.join(steps)}"),
        *(word for drive in drives for word in drive),
        *("-serial", "stdio", "-serial", f"file:{said}"),
    ]


def _last_lines(console: Path) -> str:
    return "\n".join(console.read_text(errors="replace").splitlines()[-_CONSOLE_LINES:])
