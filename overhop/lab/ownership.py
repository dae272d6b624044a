# SPDX-License-Identifier: Apache-2.0
"""Who owns a lab. Its name is the prefix of the lab's namespaces."""

import secrets
from pathlib import Path

from overhop import claims
from overhop.claims import Claim
from overhop.lab import netns

DIRECTORY = Path("/run/overhop/labs")
_PREFIX = "oh"


def claim() -> Claim:
    """Take a fresh name: `oh` and 6 hex digits."""
    return claims.claim(DIRECTORY, _PREFIX + secrets.token_hex(3))


def sweep() -> list[str]:
    """Remove the labs whose owner is dead, return their names."""
    return [_removed(found) for found in claims.abandoned(DIRECTORY, f"{_PREFIX}*")]


def _removed(claim: Claim) -> str:
    leftovers = netns.named(f"{claim.name}-")
    netns.end_processes(leftovers)
    netns.delete(leftovers)
    claim.release()
    return claim.name
