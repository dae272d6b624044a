# SPDX-License-Identifier: Apache-2.0
"""Parameters that one kernel program is compiled with; their digest names the program."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("hop.bpf.c")
INCLUDE = Path(__file__).with_name("include")

ENCAP_BITS = {"vxlan": 1, "ipip": 2, "geneve": 4, "gre": 8}
CONTEXT_BITS = {"w3c": 1, "b3-single": 2, "b3-multi": 4}


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """Everything that is compiled in. Raises ValueError, naming the field, if a value is out of range."""

    window: int = 4096
    """Bytes of payload that are searched for the context, 64 to 8192."""
    sets: int = 4096
    """Sets of two slots, a power of two, 2 to 65536; 64 bytes each (and 48 for IPv6 addresses)."""
    ring_bytes: int = 2 << 20
    """Size of the ring buffer, a power of two, 4096 to 64 MiB."""
    vxlan_ports: tuple[int, int] = (4789, 8472)
    geneve_port: int = 6081
    encapsulations: frozenset[str] = field(default_factory=lambda: frozenset(ENCAP_BITS))
    contexts: frozenset[str] = field(default_factory=lambda: frozenset(CONTEXT_BITS))
    filter: bool = False
    """Ask the filter map which vports are traced; off: all."""

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ValueError("program spec: " + "; ".join(problems))

    def _problems(self) -> list[str]:
        found = []
        if not 64 <= self.window <= 8192:
            found.append(f"window: {self.window} is not within 64 to 8192 bytes")
        if not _is_power_of_two(self.sets) or not 2 <= self.sets <= 65536:
            found.append(f"sets: {self.sets} is not a power of two within 2 to 65536")
        if not _is_power_of_two(self.ring_bytes) or not 4096 <= self.ring_bytes <= 64 << 20:
            found.append(f"ring_bytes: {self.ring_bytes} is not a power of two within 4 KiB to 64 MiB")
        for name, ports in (("vxlan_ports", self.vxlan_ports), ("geneve_port", (self.geneve_port,))):
            found += [f"{name}: {port} is no UDP port" for port in ports if not 1 <= port <= 65535]
        for name, given, known in (
            ("encapsulations", self.encapsulations, ENCAP_BITS),
            ("contexts", self.contexts, CONTEXT_BITS),
        ):
            found += [
                f"{name}: {item!r} is unknown, known: {', '.join(known)}"
                for item in sorted(given - known.keys())
            ]
        return found

    def defines(self) -> tuple[str, ...]:
        """The compiler's -D options, in a fixed order."""
        values = {
            "WINDOW": self.window,
            "SETS": self.sets,
            "RING_PAGES": self.ring_bytes // 4096,
            "VXLAN_PORT_A": self.vxlan_ports[0],
            "VXLAN_PORT_B": self.vxlan_ports[1],
            "GENEVE_PORT": self.geneve_port,
            "ENCAPS": sum(ENCAP_BITS[name] for name in self.encapsulations),
            "CONTEXTS": sum(CONTEXT_BITS[name] for name in self.contexts),
            "FILTER": int(self.filter),
        }
        return tuple(f"-D{name}={value}" for name, value in values.items())

    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the parameters."""
        plain = asdict(self) | {
            "encapsulations": sorted(self.encapsulations),
            "contexts": sorted(self.contexts),
        }
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def source_digest() -> str:
    """First 12 hex digits of the SHA-256 of the C file of this release."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
