# SPDX-License-Identifier: Apache-2.0
"""Which of the capabilities that the agent needs this process lacks (man 7 capabilities)."""

from collections.abc import Mapping
from pathlib import Path

NEEDED: Mapping[str, int] = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}


def missing() -> tuple[str, ...]:
    """Names of the needed capabilities that are not effective in this process."""
    effective = _effective_bits(Path("/proc/self/status").read_text())
    return tuple(name for name, bit in NEEDED.items() if not effective >> bit & 1)


def advice() -> str:
    """What to do about EPERM, as the end of an error message."""
    lacking = missing()
    if not lacking:
        return "every needed capability is there; look for a security module (AppArmor, seccomp, lockdown)"
    return f"the agent needs {' and '.join(lacking)}"


def _effective_bits(status: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return int(line.split()[1], 16)
