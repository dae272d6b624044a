# SPDX-License-Identifier: Apache-2.0
"""Pods by what the kernel says of their interfaces: the last resort, where neither runtime nor process tells.

Routes to one address, neighbours and the bridge's forwarding table (agent/network/behind.py) say which
address is behind which interface. Whose it is nobody says here.
"""

from collections.abc import Callable, Mapping, Sequence

from collector.node.pods.local import LocalPod

AddressesBehind = Callable[[], Mapping[str, Sequence[object]]]
"""Addresses by the interface that they are behind. Raises OSError."""


class RoutePods:
    """One pod an interface that an address is behind."""

    def __init__(self, behind: AddressesBehind) -> None:
        self.name = "routes and neighbours"
        self.problem = ""
        self._behind = behind

    def pods(self) -> Sequence[LocalPod]:
        """Without names; behind a bridge only those that have sent something."""
        try:
            behind = self._behind()
        except OSError as error:
            self.problem = f"{self.name}: {error.strerror or error}"
            return ()
        self.problem = ""
        return tuple(
            LocalPod("", "", "", addresses=tuple(str(each) for each in addresses), interface=interface)
            for interface, addresses in sorted(behind.items())
        )

    def close(self) -> None:
        """Nothing to let go of."""
