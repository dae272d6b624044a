# SPDX-License-Identifier: Apache-2.0
"""Compile the C files with every warning an error, in each build that the preprocessor tells apart.

Needs root, since BCC creates the maps while it compiles; nothing is loaded or attached. The native module of
the sidecar part is compiled by each compiler of this system.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.loading.loader import LoaderError, load
from bpf.spec import SOURCE, ProgramSpec
from overhop.lab import ipip
from overhop.sidecar.build import COMPILERS, SOURCES, BuildError, compile_sources

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


def complaints_of_native() -> Iterator[str]:
    """What compilers have against the native module; that there is none of them, too."""
    compilers = [name for name in COMPILERS if shutil.which(name)]
    if not compilers:
        yield f"sidecar-patch/native: no C compiler found ({', '.join(COMPILERS)}): apt install gcc libc6-dev"
    for name in compilers:
        try:
            compile_sources([name], ("-O2", "-fsyntax-only"), sorted(SOURCES.glob("*.c")))
        except BuildError as error:
            yield f"sidecar-patch/native: {error}"


def main() -> int:
    """Compile every build; 1 if one has a warning."""
    failed = 0
    for line in complaints_of_native():
        print(line)
        failed = 1
    for name, build in BUILDS.items():
        for line in complaint(build):
            print(f"{build.source.name}, build {name}: {line}")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
