# SPDX-License-Identifier: Apache-2.0
"""Compile and load the kernel program, hand its descriptors over, exit: a script that loader.py runs.

Runs under a Python that has bcc, which need not be ours: standard library and bcc only.
stdin: the request (JSON). Descriptor argv[1]: a Unix socket for the reply, one message of JSON with the
descriptors attached: programs, maps, a file with the instructions of the programs one after another, as the
compiler gave them (`code_bytes` each, maps by `map_numbers`). stderr: what the compiler and the verifier say.
"""

import array
import ctypes
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterable
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
        "code_bytes": [lib.bpf_function_size(module.module, name.encode()) for name in programs],
        "map_numbers": list(maps.values()),
        "license": lib.bpf_module_license(module.module).decode(),
        "toolchain": _toolchain(sys.modules["bcc"].__file__),
    }
    return reply, [*programs.values(), *maps.values(), _code(module, programs)]


def _code(module: Any, programs: Iterable[str]) -> int:  # noqa: ANN401 (bcc has no types)
    code = os.memfd_create("overhop-code")
    with os.fdopen(os.dup(code), "wb") as file:
        for name in programs:
            file.write(module.dump_func(name.encode()))
    return code


def _toolchain(bcc: "str | None") -> "list[str]":
    """Files that change when the compiler is upgraded."""
    with open("/proc/self/maps") as maps:
        mapped = {line.split()[-1] for line in maps if re.search(r"/lib(bcc|bpf|LLVM|clang)[^/]*$", line)}
    version = [os.path.join(os.path.dirname(bcc), "version.py")] if bcc else []
    return [*version, *sorted(mapped)]


if __name__ == "__main__":
    sys.exit(main())
