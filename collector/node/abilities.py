# SPDX-License-Identifier: Apache-2.0
"""What this node's kernel and system allow: read from /proc and /sys, and probed where reading does not tell.

`None` in a field means "could not be found out", never "no".
"""

import ctypes
import errno
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CAPABILITY_BITS = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
_BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
_BPF_PROG_QUERY = 16
_BPF_TCX_INGRESS = 46
_LOOPBACK_IFINDEX = 1
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Abilities:
    """Facts; what they mean for the agent is judged in overhop/doctor.py."""

    machine: str
    """As uname says: `x86_64`."""
    kernel_release: str
    kernel_version: tuple[int, int]
    """First two numbers of the release."""
    realtime: bool | None
    """PREEMPT_RT."""
    btf: bool
    jit: bool | None
    tcx: bool | None
    clsact: bool | None
    clsact_problem: str
    """Why clsact could not be added in a namespace of its own; empty if it could."""
    lockdown: str | None
    """`none`, `integrity` or `confidentiality`."""
    capabilities: frozenset[str]
    """Those of CAPABILITY_BITS that this process has."""
    bcc_python: str | None
    """The first of the asked interpreters that can import bcc."""
    system_headers: bool
    """linux/bpf.h of linux-libc-dev is there."""


def read_abilities(pythons: Sequence[str], root: Path = Path("/")) -> Abilities:
    """Everything, in about a second; probes leave nothing. `pythons`: interpreters that may have bcc."""
    uname = os.uname()
    clsact, clsact_problem = probe_clsact()
    return Abilities(
        machine=platform.machine(),
        kernel_release=uname.release,
        kernel_version=version_of(uname.release),
        realtime=is_realtime(uname.version, root),
        btf=(root / "sys/kernel/btf/vmlinux").exists(),
        jit=is_jit_on(root),
        tcx=probe_tcx(),
        clsact=clsact,
        clsact_problem=clsact_problem,
        lockdown=lockdown_of(root),
        capabilities=capabilities_of((root / "proc/self/status").read_text()),
        bcc_python=first_with_bcc(pythons),
        system_headers=(root / "usr/include/linux/bpf.h").exists(),
    )


def version_of(release: str) -> tuple[int, int]:
    """`6.1.0-28-amd64`: (6, 1). Raises ValueError if the release does not begin with two numbers."""
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None:
        raise ValueError(f"kernel release {release!r} does not begin with two numbers")
    return int(found[1]), int(found[2])


def is_realtime(uname_version: str, root: Path = Path("/")) -> bool:
    """PREEMPT_RT, by /sys/kernel/realtime or the kernel's build line."""
    flag = _text(root / "sys/kernel/realtime")
    return flag == "1" or "PREEMPT_RT" in uname_version


def is_jit_on(root: Path = Path("/")) -> bool | None:
    """net.core.bpf_jit_enable; None where only root may read it."""
    value = _text(root / "proc/sys/net/core/bpf_jit_enable")
    return None if value is None else value != "0"


def lockdown_of(root: Path = Path("/")) -> str | None:
    """The mode in brackets of /sys/kernel/security/lockdown; None if securityfs is not there."""
    found = re.search(r"\[(\w+)\]", _text(root / "sys/kernel/security/lockdown") or "")
    return found[1] if found else None


def capabilities_of(status: str) -> frozenset[str]:
    """Effective capabilities in a /proc/PID/status, of those that matter here."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    effective = int(found[1], 16) if found else 0
    return frozenset(name for name, bit in CAPABILITY_BITS.items() if effective >> bit & 1)


def probe_tcx() -> bool | None:
    """Ask for the TCX programs of the loopback device: EINVAL is a kernel before 6.6 (bpf_prog_query)."""
    number = _BPF_SYSCALL.get(platform.machine())
    if number is None:
        return None
    attr = (ctypes.c_uint32 * 16)(_LOOPBACK_IFINDEX, _BPF_TCX_INGRESS)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, _BPF_PROG_QUERY, ctypes.byref(attr), ctypes.sizeof(attr)) == 0:
        return True
    return False if ctypes.get_errno() == errno.EINVAL else None


def probe_clsact() -> tuple[bool | None, str]:
    """Add the qdisc in a network namespace that ends with the probe; needs CAP_SYS_ADMIN to find out."""
    command = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "clsact"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    if done.returncode == 0:
        return True, ""
    said = " ".join(done.stderr.split())
    return (None if "unshare" in said else False), said


def first_with_bcc(pythons: Sequence[str]) -> str | None:
    """The first interpreter whose bcc is the compiler collection, not PyPI's package of that name."""
    for python in pythons:
        try:
            done = subprocess.run(
                [python, "-I", "-c", "from bcc import BPF"],
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return python
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
