# SPDX-License-Identifier: Apache-2.0
"""tests/data/count.c in the kernel."""

import struct
from pathlib import Path

from agent.loading import loader
from agent.loading.loader import Loaded
from bpf import syscall
from bpf.record import Point
from bpf.spec import ProgramSpec

COUNT_C = Path(__file__).parents[1] / "data" / "count.c"


class Counting:
    """Programs with the real names that count packets and pass them on."""

    def __init__(self, *defines: str) -> None:
        self.loaded: Loaded = loader.load(ProgramSpec(), source=COUNT_C, extra_defines=defines)

    def program(self, point: Point) -> int:
        """Descriptor of the program of a point."""
        return self.loaded.programs[point.program]

    def reset(self) -> None:
        """Set every count to 0."""
        for point in Point:
            syscall.map_update(self.loaded.maps["oh_counters"], struct.pack("=I", point), bytes(8))

    def count(self, point: Point) -> int:
        """Packets that the program of a point has seen."""
        value = syscall.map_lookup(self.loaded.maps["oh_counters"], struct.pack("=I", point), 8)
        assert value is not None
        return int(struct.unpack("=Q", value)[0])
