# SPDX-License-Identifier: Apache-2.0
"""`./dev sidecar build`: the native module, made with the C compiler of this system."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from overhop.sidecar.filters import PATCH
from overhop.sidecar.module import BUILT, FILE, SEARCH_PATH

SOURCES: Final = PATCH / "native"
COMPILERS: Final = ("cc", "gcc", "clang")
WARNINGS: Final = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")
_OPTIONS: Final = (
    *("-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2"),
    # Every function of Envoy's is looked up when it loads the module: one that is missing is refused there.
    *("-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack", "-Wl,--build-id=none", "-s"),
)
_TIMEOUT_S: Final = 120.0


class BuildError(Exception):
    """The module cannot be made; the message says why and what to do."""


def find_compiler(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The command of $CC, else the first compiler in PATH. Raises BuildError."""
    path = environment.get("PATH")
    named = shlex.split(environment.get("CC", ""))
    found = shutil.which(named[0], path=path) if named else None
    if named and found is None:
        raise BuildError(f"CC={named[0]}: no such program: name a C compiler or unset it")
    for name in COMPILERS if found is None else ():
        found = found or shutil.which(name, path=path)
    if found is None:
        raise BuildError(
            f"{', '.join(COMPILERS)}: no C compiler found: install one (apt install gcc libc6-dev), "
            "or name one by CC"
        )
    return [found, *named[1:]]


def compile_sources(compiler: Sequence[str], options: Sequence[str], sources: Sequence[Path]) -> None:
    """Every warning is an error. Raises BuildError with what the compiler says."""
    command = [*compiler, *WARNINGS, *options, *map(str, sources)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{compiler[0]}: {error}") from error
    if done.returncode != 0:
        said = done.stderr.strip() or f"ended with status {done.returncode}"
        hint = "\ninstall the C library's headers: apt install libc6-dev" if "stdlib.h" in said else ""
        raise BuildError(f"{compiler[0]}: {said}{hint}")


def build(out: Path = BUILT, environment: Mapping[str, str] = os.environ) -> Path:
    """Makes the module in the directory `out`, whole or not at all; its path. Raises BuildError."""
    compiler = find_compiler(environment)
    module = out / FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=out) as directory:
            made = Path(directory, FILE)
            compile_sources(compiler, (*_OPTIONS, "-o", str(made)), sorted(SOURCES.glob("*.c")))
            made.chmod(0o755)
            made.replace(module)
    except OSError as error:
        raise BuildError(f"{out}: {error.strerror or error}: name another directory by --out") from error
    return module


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="./dev sidecar build", description=__doc__)
    parser.add_argument("--out", type=Path, default=BUILT, metavar="DIR", help="default: %(default)s")
    out = parser.parse_args(arguments).out.resolve()
    try:
        module = build(out)
    except BuildError as error:
        sys.stderr.write(f"./dev: sidecar build: {error}\n")
        return 1
    sys.stdout.write(f"{module}\n")
    sys.stderr.write(f"Start Envoy with {SEARCH_PATH}={shlex.quote(str(out))} and the native filter\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
