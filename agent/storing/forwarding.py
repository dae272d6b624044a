# SPDX-License-Identifier: Apache-2.0
"""Rows on their way to a server: the forwarder as a child of the agent, and the spool between them.

The agent appends to the spool and never waits for a server; the child sends (docs/spool.md).
"""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.storing.child import NO_CHILD, ChildStatus, ConfinedProcess, Supervisor
from store.influxdb.target import Target, parse_target, read_secret
from store.layout import node_directory
from store.query import StoreError
from store.schema import TABLES, Table
from store.spool.facts import SpoolFacts, parsed
from store.spool.places import require_spool
from store.spool.settings import ForwarderSettings

_log = logging.getLogger(__name__)

END_TIMEOUT_S = 15.0
"""It sends for 5 s what came last, and one request may take 10 s."""
OVERFULL = 1.25
"""A spool that is so much larger than allowed has a forwarder that does not work: nothing more goes in."""
SIZE_LOOK_NS = 5_000_000_000


@dataclass(frozen=True, slots=True)
class ForwardConfig:
    """Where rows go, and what lies on the way."""

    target: str
    """store.influxdb.target.parse_target."""
    token_file: Path | None
    ca_file: Path | None
    spool: Path
    spool_bytes: int
    spool_age_s: float
    rows_per_s: float

    def settings(self, node: str) -> ForwarderSettings:
        """What the child is told. Raises StoreError."""
        return ForwarderSettings(
            spool=str(self.spool.absolute()),
            node=node,
            target=str(self.parsed_target()),
            token_file="" if self.token_file is None else str(self.token_file.absolute()),
            ca_file="" if self.ca_file is None else str(self.ca_file.absolute()),
            spool_bytes=self.spool_bytes,
            spool_age_s=self.spool_age_s,
            rows_per_s=self.rows_per_s,
        )

    def parsed_target(self) -> Target:
        """Raises StoreError."""
        try:
            return parse_target(self.target)
        except ValueError as error:
            raise StoreError(f"store: {error}") from None


class Forwarding:
    """The forwarder of one node, and what it says.

    Raises StoreError if the spool or the token cannot be used.
    """

    def __init__(self, config: ForwardConfig, node: str, supervisor: Supervisor | None = None) -> None:
        require_spool(config.spool)
        if config.token_file is not None:
            read_secret(config.token_file)  # one that cannot be read now is a mistake: do not wait for it
        self.tables: Sequence[Table] = config.parsed_target().tables
        """What the server takes; rows of other tables stay out of the spool."""
        self.facts: SpoolFacts | None = None
        """As last heard."""
        settings = config.settings(node)
        self._supervisor = supervisor or Supervisor(
            lambda: ConfinedProcess(
                "store.forwarder", [settings.as_argument()], listens=True, may_finish=True
            ),
            "the forwarder",
            self._hear,
            END_TIMEOUT_S,
        )
        self._config, self._node = config, node
        self._next_look_ns = 0
        self._is_overfull = False

    @property
    def status(self) -> ChildStatus:
        """Of this moment."""
        return self._supervisor.status

    @property
    def refusal(self) -> str | None:
        """Why nothing more goes into the spool; None: it does."""
        if not self._is_overfull:
            return None
        return f"spool {self._config.spool}: it is full and the forwarder makes no room: see the agent's log"

    def poll(self, mono_ns: int) -> None:
        """Look after the child; it never waits. `mono_ns`: CLOCK_MONOTONIC."""
        self._supervisor.poll(mono_ns)
        if mono_ns >= self._next_look_ns:
            self._next_look_ns = mono_ns + SIZE_LOOK_NS
            self._is_overfull = (
                _size_bytes(self._config.spool, self._node) > OVERFULL * self._config.spool_bytes
            )

    def close(self) -> None:
        """End the child, which sends what is left as long as the server takes it.

        An agent that ends within its first second has none yet: its rows would wait for the next one.
        """
        if self._supervisor.status == NO_CHILD:
            self._supervisor.poll(time.monotonic_ns())
        self._supervisor.close()

    def _hear(self, line: str) -> None:
        try:
            self.facts = parsed(line)
        except ValueError as error:
            _log.warning("the forwarder cannot be understood", extra={"reason": str(error)})


def _size_bytes(spool: Path, node: str) -> int:
    """Of one node's files in the spool."""
    total = 0
    for table in TABLES:
        try:
            with os.scandir(node_directory(spool, table.name, node)) as entries:
                total += sum(entry.stat().st_size for entry in entries)
        except FileNotFoundError:  # nothing yet, or sent meanwhile
            continue
        except OSError as error:
            _log.warning("cannot look into the spool", extra={"reason": str(error)})
    return total
