# SPDX-License-Identifier: Apache-2.0
"""What the demo knows at its end; report.py and view.py only show it."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.hops.summary import Distribution
from overhop.demo.found import Found
from overhop.demo.sights import Sight
from overhop.demo.stored import Stored
from overhop.sidecar.filters import Mode
from overhop.trace import TraceHop
from store.spool.facts import SpoolFacts


@dataclass(frozen=True, slots=True)
class Output:
    """What became of the hops that an agent read."""

    hops: int
    """In summary rows, beside the retransmitted ones."""
    retransmitted: int
    samples: int
    samples_not_kept: int
    rows: Mapping[str, int]
    """Appended to the store, by table; to a server's spool."""
    dropped: Mapping[str, int]
    spool: SpoolFacts | None = None
    """How that ended; None: there is none."""


@dataclass(frozen=True, slots=True)
class Account:
    """What one agent said at its end: counters of the kernel, total minus parts of each identity, output."""

    counters: Mapping[str, int]
    imbalances: Mapping[str, int]
    stored: Output


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A node and its pods, name to address."""

    name: str
    address: str
    pods: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ServicePlace:
    """A service; `line` says what its address stands for."""

    name: str
    address: str
    line: str


@dataclass(frozen=True, slots=True)
class Stage:
    """What the requests passed, for people."""

    nodes: tuple[NodePlace, ...]
    external: str
    """Address of the client outside the cluster."""
    joined_by: str
    """The overlay between the nodes."""
    services: tuple[ServicePlace, ...]

    def names(self) -> dict[str, str]:
        """Address to name."""
        found = {self.external: "external"} | {each.address: each.name for each in self.services}
        for node in self.nodes:
            found |= {node.address: node.name} | {address: pod for pod, address in node.pods.items()}
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was sent and what was seen of it."""

    topology: Mapping[str, object]
    stage: Stage
    window: int
    """Bytes of a request that were searched for its context."""
    sidecar_offset_bytes: int | None
    """Where sidecars write the context; None: there are none."""
    relocation: Mode
    """By what they move it."""
    found: tuple[Found, ...]
    hops: Mapping[str, Distribution]
    """By kind, both nodes together."""
    sights: tuple[Sight, ...]
    hops_recorded: Mapping[str, int]
    """By node."""
    accounts: Mapping[str, Account]
    """By node."""
    store: str
    """Directory of the store, or URL of the server; empty if it was one for this demo alone."""
    stored: Stored
    trace_id: str
    trace: tuple[TraceHop, ...]
    """A typical one, as stored; empty if no request with a context was found."""
    steps_s: Mapping[str, float]
