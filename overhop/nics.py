# SPDX-License-Identifier: Apache-2.0
"""What this node's NIC is, for commands: as an agent would choose, or as it was told."""

from agent.network.links import links
from agent.network.nic import DiscoveryError, Nics, choose_nics
from agent.network.routes import read_ways


def read_nics(named: str | None = None) -> tuple[Nics, str]:
    """Interfaces, and why there are none. Raises OSError."""
    if named:
        return Nics((named,), "named"), ""
    try:
        return choose_nics(links(), read_ways()), ""
    except DiscoveryError as error:
        return Nics((), ""), str(error)
