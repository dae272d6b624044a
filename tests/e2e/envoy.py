# SPDX-License-Identifier: Apache-2.0
"""Whether there is an Envoy for tests of the mesh."""

from overhop.lab.envoy import EnvoyMissingError, find_envoy
from tests.require import require


def require_envoy() -> None:
    """Skip (CI: fail) unless there is an Envoy."""
    try:
        found = bool(find_envoy())
    except EnvoyMissingError:
        found = False
    require(found, "Envoy (run ./dev setup)")
