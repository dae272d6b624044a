# SPDX-License-Identifier: Apache-2.0
"""How a node's spool stands, as the forwarder tells it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

REASONS: Final = ("rejected", "no_room", "too_old", "damaged")


@dataclass(frozen=True, slots=True)
class SpoolFacts:
    """How it stands. Rows by table, since the spool was made."""

    sent: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    no_room: Mapping[str, int] = field(default_factory=dict)
    too_old: Mapping[str, int] = field(default_factory=dict)
    damaged: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    torn: int = 0
    size_bytes: int = 0
    limit_bytes: int = 0
    """Beyond that the oldest rows fall out."""
    oldest_ns: int | None = None
    """Time of the first row that waits, ns since 1970."""
    error: str | None = None
    """Why rows are not sent."""
    error_since_ns: int | None = None
    clock_off_ns: int = 0
    """The server's clock minus ours where that is more than the measurement; else 0."""

    @property
    def dropped(self) -> dict[str, int]:
        """Rows that are lost, by reason."""
        return {reason: sum(getattr(self, reason).values()) for reason in REASONS}

    def as_text(self) -> str:
        """One line, for `parsed`."""
        return json.dumps(asdict(self))


def parsed(text: str) -> SpoolFacts:
    """What `as_text` made. Raises ValueError."""
    try:
        return SpoolFacts(**json.loads(text))
    except TypeError as error:
        raise ValueError(f"{text[:80]!r} are no facts of a spool: {error}") from None
