# SPDX-License-Identifier: Apache-2.0
"""Compile builds of the kernel program and write them down: a script that bytecode.py runs.

Runs under a Python that has bcc, which need not be ours: standard library and bcc only.
stdin: the request, stdout: the builds (JSON, see bytecode.py).
"""

import base64
import ctypes
import json
import os
import sys
from typing import Any


def main() -> int:
    """Answer one request."""
    request = json.load(sys.stdin)
    os.environ["BCC_KERNEL_SOURCE"] = request["kernel_source"]
    json.dump([_compile(request, build) for build in request["builds"]], sys.stdout)
    return 0


def _compile(request: dict[str, Any], build: dict[str, Any]) -> dict[str, Any]:
    from bcc import BPF

    module = BPF(src_file=request["source"], cflags=build["cflags"])
    maps = _maps(module)
    programs = {
        name: base64.b64encode(module.dump_func(name.encode())).decode() for name in request["programs"]
    }
    found = {"name": build["name"], "maps": maps, "programs": programs}
    module.cleanup()
    return found


def _maps(module: Any) -> dict[str, dict[str, int]]:  # noqa: ANN401 (bcc has no types)
    """What is needed to make each map again, and its descriptor, by name."""
    from bcc.libbcc import lib

    lib.bpf_table_name.restype = ctypes.c_char_p  # bcc 0.26 does not declare it
    return {
        lib.bpf_table_name(module.module, i).decode(): {
            "descriptor": lib.bpf_table_fd_id(module.module, i),
            "type": lib.bpf_table_type_id(module.module, i),
            "key_bytes": lib.bpf_table_key_size_id(module.module, i),
            "value_bytes": lib.bpf_table_leaf_size_id(module.module, i),
            "max_entries": lib.bpf_table_max_entries_id(module.module, i),
            "flags": lib.bpf_table_flags_id(module.module, i),
        }
        for i in range(lib.bpf_num_tables(module.module))
    }


if __name__ == "__main__":
    sys.exit(main())
