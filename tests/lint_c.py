# SPDX-License-Identifier: Apache-2.0
"""Compile bpf/hop.bpf.c with every warning an error, in each build that the preprocessor tells apart.

Needs root, since BCC creates the maps while it compiles; nothing is loaded or attached.
"""

import sys

from agent.loader import LoaderError, load
from bpf.spec import ProgramSpec

NOTHING: frozenset[str] = frozenset()
BUILDS: dict[str, tuple[ProgramSpec, tuple[str, ...]]] = {
    "defaults": (ProgramSpec(), ()),
    "filter": (ProgramSpec(filter=True), ()),
    "load_bytes": (ProgramSpec(), ("-DFORCE_LOAD_BYTES",)),
    "smallest": (ProgramSpec(window=64, sets=2, encapsulations=NOTHING, contexts=NOTHING), ()),
    "largest": (ProgramSpec(window=8192), ()),
}
WARNINGS = ("-Wall", "-Werror")


def complaint(spec: ProgramSpec, defines: tuple[str, ...]) -> tuple[str, ...]:
    """What the compiler has against one build; empty if nothing."""
    try:
        with load(spec, programs=(), extra_defines=(*defines, *WARNINGS)):
            return ()
    except LoaderError as error:
        return (str(error), *error.detail)


def main() -> int:
    """Compile every build; 1 if one has a warning."""
    failed = 0
    for name, (spec, defines) in BUILDS.items():
        for line in complaint(spec, defines):
            print(f"bpf/hop.bpf.c, build {name}: {line}")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
