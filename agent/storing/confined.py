# SPDX-License-Identifier: Apache-2.0
"""Run another module without the agent's rights: `python -m agent.storing.confined PARENT_PID MODULE ARGS`.

The process keeps CAP_DAC_OVERRIDE at most (of what it has), gains nothing by exec, and gets SIGTERM when the
thread that started it ends (man 2 prctl, PR_SET_PDEATHSIG). In the process itself, not between fork and exec:
there a program with threads may hang.
"""

import ctypes
import os
import runpy
import signal
import struct
import sys
from typing import Final

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_DAC_OVERRIDE: Final = 1 << 1
"""A store may be in a directory of somebody else; it is the one right that the agent too would use there."""


def confine(parent_pid: int) -> None:
    """Give up every capability but CAP_DAC_OVERRIDE; end with the parent. Raises OSError.

    Exits at once if the parent is gone already.
    """
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(0)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    _call("capget", header, data)
    _, permitted, _, _, _, _ = struct.unpack("<6I", data.raw)
    kept = permitted & _DAC_OVERRIDE
    _call("capset", header, struct.pack("<6I", kept, kept, 0, 0, 0, 0))


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}(2): {os.strerror(number)}")


def main() -> None:
    """Confine this process, then be the module."""
    _, parent_pid, module, *arguments = sys.argv
    confine(int(parent_pid))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
