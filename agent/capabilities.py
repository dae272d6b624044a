# SPDX-License-Identifier: Apache-2.0
"""Which of the capabilities that the agent needs this process lacks (man 7 capabilities)."""

from collections.abc import Mapping
from pathlib import Path

NEEDED: Mapping[str, int] = {"CAP_BPF": 39, "CAP_PERFMON": 38, "CAP_NET_ADMIN": 12}
"""Measured on 6.18: maps and programs need CAP_BPF, programs and attaching CAP_NET_ADMIN; without CAP_PERFMON
the verifier refuses comparisons of pointers."""
_SYS_ADMIN = 21
_COVERED_BY_SYS_ADMIN = ("CAP_BPF", "CAP_PERFMON")


def missing() -> tuple[str, ...]:
    """Names of the needed capabilities that are not effective in this process."""
    return lacking(Path("/proc/self/status").read_text())


def lacking(status: str) -> tuple[str, ...]:
    """Names of the needed capabilities that a process lacks, from the text of its /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    effective = int(line.split()[1], 16)
    covered = _COVERED_BY_SYS_ADMIN if effective >> _SYS_ADMIN & 1 else ()
    return tuple(name for name, bit in NEEDED.items() if not effective >> bit & 1 and name not in covered)


def advice() -> str:
    """What to do about EPERM, as the end of an error message."""
    names = missing()
    if not names:
        return "every needed capability is there: look for a security module (AppArmor, seccomp, lockdown)"
    return f"the agent needs {' and '.join(names)}"
