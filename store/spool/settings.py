# SPDX-License-Identifier: Apache-2.0
"""What a forwarder is told by who starts it."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class ForwarderSettings:
    """What one forwarder does. `token_file`, `ca_file`: empty: none."""

    spool: str
    node: str
    target: str
    token_file: str
    ca_file: str
    spool_bytes: int
    spool_age_s: float
    rows_per_s: float

    def as_argument(self) -> str:
        """For the command line: there is no secret in it."""
        return json.dumps(asdict(self))
