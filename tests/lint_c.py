# SPDX-License-Identifier: Apache-2.0
"""Compile bpf/hop.bpf.c with every warning an error, in each build that differs by the preprocessor.

Runs under the Python that has `bcc` (apt python3-bpfcc) and as root, since BCC creates the maps while it compiles.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "bpf" / "hop.bpf.c"
STUBS = ROOT / "bpf" / "include"
BUILDS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "filter": ("-DFILTER=1",),
    "load_bytes": ("-DFORCE_LOAD_BYTES",),
    "nothing": ("-DENCAPS=0", "-DCONTEXTS=0", "-DWINDOW=64", "-DSETS=2"),
    "largest": ("-DWINDOW=8192",),
}
WARNINGS = ("-Wall", "-Werror")


def compile_build(defines: tuple[str, ...]) -> str | None:
    """Compile once; the compiler's complaint, or None. Its text goes to standard error as it comes."""
    os.environ["BCC_KERNEL_SOURCE"] = str(STUBS)
    from bcc import BPF

    cflags = [*WARNINGS, "-I/usr/include", "-I/usr/include/x86_64-linux-gnu", *defines]
    try:
        BPF(src_file=str(SOURCE), cflags=cflags)
    except Exception as error:  # noqa: BLE001  bcc raises bare Exception
        return str(error)
    return None


def main() -> int:
    """Compile every build; 1 if one has a warning."""
    failed = {name: text for name, defines in BUILDS.items() if (text := compile_build(defines))}
    for name, text in failed.items():
        print(f"bpf/hop.bpf.c, build {name}: {text}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
