# SPDX-License-Identifier: Apache-2.0
"""Give memory back: how glibc's malloc is told to, for a process that is small and runs for months.

Left alone, malloc raises its limit for separate mappings to the largest block that was ever freed (32 MB at
most, man 3 mallopt). The arrays of one busy moment then come from the heap and stay there for ever: an agent
of 70 MB grew to 88 MB in its first minute of traffic. And numpy asks for huge pages for large arrays, which
count in full once one byte was touched.
"""

import ctypes
import os
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_SEPARATE_BYTES: Final = 512 * 1024
_ARENAS: Final = 2
"""Our threads mostly wait; one arena each would keep a few hundred KB each."""


def keep_small() -> None:
    """Of this process; before numpy is imported. Without glibc nothing changes."""
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, _SEPARATE_BYTES)  # said once, it is not raised any more
    mallopt(_M_TRIM_THRESHOLD, _SEPARATE_BYTES)
    mallopt(_M_ARENA_MAX, _ARENAS)
