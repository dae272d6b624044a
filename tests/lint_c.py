# SPDX-License-Identifier: Apache-2.0
"""Compile the C files with every warning an error, in each build that the preprocessor tells apart.

Needs root, since BCC creates the maps while it compiles; nothing is loaded or attached.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from agent.loading.loader import LoaderError, load
from bpf.spec import SOURCE, ProgramSpec
from overhop.lab import ipip

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Build:
    """One way to compile one file."""

    spec: ProgramSpec = field(default_factory=ProgramSpec)
    defines: tuple[str, ...] = ()
    source: Path = SOURCE


BUILDS = {
    "defaults": Build(),
    "filter": Build(ProgramSpec(filter=True)),
    "load_bytes": Build(defines=("-DFORCE_LOAD_BYTES",)),
    "smallest": Build(ProgramSpec(window=64, sets=2, encapsulations=NOTHING, contexts=NOTHING)),
    "largest": Build(ProgramSpec(window=8192)),
    "lab": Build(defines=("-DNIC_IFINDEX=2",), source=ipip.SOURCE),
}
WARNINGS = ("-Wall", "-Werror")


def complaint(build: Build) -> tuple[str, ...]:
    """What the compiler has against one build; empty if nothing."""
    try:
        defines = (*build.defines, *WARNINGS)
        with load(build.spec, programs=(), extra_defines=defines, source=build.source):
            return ()
    except LoaderError as error:
        return (str(error), *error.detail)


def main() -> int:
    """Compile every build; 1 if one has a warning."""
    failed = 0
    for name, build in BUILDS.items():
        for line in complaint(build):
            print(f"{build.source.name}, build {name}: {line}")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
