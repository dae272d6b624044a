# SPDX-License-Identifier: Apache-2.0
"""Tracing points; without numpy, for who has no time to import it."""

from enum import IntEnum


class Point(IntEnum):
    """Tracing points, in the numbers of the C file."""

    NIC_IN = 0
    VPORT_IN = 1
    NIC_OUT = 2
    VPORT_OUT = 3

    @property
    def label(self) -> str:
        """As people and docs write it."""
        return self.name.lower().replace("_", "-")

    @property
    def program(self) -> str:
        """Name of the program of this point, also its name in the kernel."""
        return f"oh_{self.name.lower()}"
