# SPDX-License-Identifier: Apache-2.0
"""Compile and load the kernel program, hand its descriptors over, exit: a script that agent/loader.py runs.

Runs under a Python that has bcc, which need not be ours: standard library and bcc only.
stdin: the request (JSON). Descriptor argv[1]: a Unix socket for the reply, one message of JSON with the
descriptors attached. stderr: what the compiler and the verifier say.
"""

import array
import ctypes
import json
import os
import socket
import sys
import time
from typing import Any


def main() -> int:
    """Answer one request; the exit code says only that an answer was sent."""
    request = json.load(sys.stdin)
    reply, descriptors = _compile_and_load(request)
    channel = socket.socket(fileno=int(sys.argv[1]))
    rights = array.array("i", descriptors)
    channel.sendmsg([json.dumps(reply).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    return 0


def _compile_and_load(request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    os.environ["BCC_KERNEL_SOURCE"] = request["kernel_source"]
    try:
        from bcc import BPF
        from bcc.libbcc import lib
    except (ImportError, OSError) as error:
        return {"failed": "import", "reason": str(error)}, []
    started = time.monotonic()
    try:
        module = BPF(src_file=request["source"], cflags=request["cflags"])
    except Exception as error:  # noqa: BLE001 (bcc raises nothing more specific)
        return {"failed": "compile", "reason": str(error)}, []
    compiled = time.monotonic()
    programs: dict[str, int] = {}
    for name in request["programs"]:
        ctypes.set_errno(0)
        try:
            programs[name] = module.load_func(name.encode(), BPF.SCHED_CLS).fd
        except Exception as error:  # noqa: BLE001 (bcc raises nothing more specific)
            number = ctypes.get_errno()
            return {"failed": "load", "program": name, "errno": number, "reason": str(error)}, []
    loaded = time.monotonic()
    lib.bpf_table_name.restype = ctypes.c_char_p  # bcc 0.26 does not declare it
    maps = {
        lib.bpf_table_name(module.module, i).decode(): lib.bpf_table_fd_id(module.module, i)
        for i in range(lib.bpf_num_tables(module.module))
    }
    reply = {
        "programs": list(programs),
        "maps": list(maps),
        "compile_s": compiled - started,
        "load_s": loaded - compiled,
    }
    return reply, [*programs.values(), *maps.values()]


if __name__ == "__main__":
    sys.exit(main())
