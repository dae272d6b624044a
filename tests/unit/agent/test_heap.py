# SPDX-License-Identifier: Apache-2.0
"""Memory that was needed once is given back."""

import subprocess
import sys

_USE = """
import ctypes, sys
if sys.argv[1] == "small":
    from agent.heap import keep_small
    keep_small()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def filled(count):
    at = libc.malloc(count)
    ctypes.memset(at, 1, count)
    return at

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 1_000_000

libc.free(filled(30_000_000))
before = resident_mb()
blocks = [filled(5_000_000) for _ in range(20)]
last = filled(100_000)
for block in blocks:
    libc.free(block)
print(resident_mb() - before)
"""


def _grown_mb(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", _USE, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_keep_small_gives_large_blocks_back_that_malloc_would_keep() -> None:
    assert _grown_mb("as it is") >= 90
    assert _grown_mb("small") <= 3


def test_keep_small_keeps_numpy_from_huge_pages() -> None:
    code = "from agent.heap import keep_small; keep_small(); import numpy; "
    code += "print(numpy._core.multiarray._get_madvise_hugepage())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
