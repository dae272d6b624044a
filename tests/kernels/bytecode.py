# SPDX-License-Identifier: Apache-2.0
"""The kernel program as bytecode: compiled on this machine, verified and loaded by any kernel.

An emulated processor takes half a minute to compile what it verifies in two seconds.
"""

import base64
import ctypes
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.loading import loader
from agent.loading.loaded import load_bytecode
from bpf import spec as bpf_spec
from bpf import syscall
from bpf.bytecode import (
    LOG_LEVEL_ALL,
    LOG_LEVEL_STATS,
    Bytecode,
    MapDefinition,
    load_program,
    new_maps,
    with_descriptors,
    with_map_numbers,
)
from tests.kernels.builds import BuildOptions

_CHILD = Path(__file__).with_name("bytecode_child.py")
_SECTOR_BYTES = 512
_LOG_BYTES = 256 << 20
_SAID_LINES = 12
_LICENSE = "Dual BSD/GPL"


@dataclass(frozen=True, slots=True)
class Build:
    """One build by its name."""

    name: str
    bytecode: Bytecode


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a kernel's verifier says to a program: instructions processed, and why not if it refuses it."""

    insns: int
    refused: tuple[str, ...] = ()


def compile_builds(path: Path, wanted: Iterable[BuildOptions], source: Path = bpf_spec.SOURCE) -> None:
    """Compile builds with this machine's bcc, into a file (or a disk's content) for read_builds()."""
    includes = ("-I/usr/include", f"-I/usr/include/{platform.machine()}-linux-gnu")
    request = {
        "source": str(source.resolve()),
        "kernel_source": str(bpf_spec.INCLUDE.parent),
        "programs": loader.ALL_PROGRAMS,
        "builds": [
            {"name": build.name, "cflags": [*includes, *build.spec.defines(), *build.extra_defines]}
            for build in wanted
        ],
    }
    python = loader.bcc_pythons()[-1]
    done = subprocess.run(
        [python, "-I", str(_CHILD)], input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=True
    )
    sectors = -(-len(done.stdout) // _SECTOR_BYTES)
    path.write_text(done.stdout.ljust(sectors * _SECTOR_BYTES))


def read_builds(path: Path) -> list[Build]:
    """The builds in a file of compile_builds()."""
    found: list[dict[str, Any]] = json.loads(path.read_text())  # written by bytecode_child.py
    return [Build(build["name"], _bytecode(build)) for build in found]


def _bytecode(build: dict[str, Any]) -> Bytecode:
    order = [one.pop("descriptor") for one in build["maps"].values()]
    programs = {
        name: with_map_numbers(base64.b64decode(code), order) for name, code in build["programs"].items()
    }
    maps = tuple(MapDefinition(name, **one) for name, one in build["maps"].items())
    return Bytecode(_LICENSE, maps, programs)


def verify(build: Build) -> dict[str, Verdict]:
    """What this machine's kernel says to each program of a build; nothing stays loaded."""
    with new_maps(build.bytecode.maps) as maps:
        return {
            name: _verify(name, with_descriptors(code, maps))
            for name, code in build.bytecode.programs.items()
        }


def load(build: Build) -> loader.Loaded:
    """The programs and maps of a build in this machine's kernel, as agent.loader.load() gives them."""
    return load_bytecode(build.bytecode, stop=lambda: False)


def _verify(name: str, code: bytes) -> Verdict:
    log = ctypes.create_string_buffer(64 << 10)
    try:
        os.close(load_program(name, code, _LICENSE, LOG_LEVEL_STATS, log))
    except syscall.BpfError:
        return _refusal(name, code)
    return Verdict(_processed(log.value.decode().splitlines()))


def _refusal(name: str, code: bytes) -> Verdict:
    """Once more, with the verifier's whole log, of which the last lines say why."""
    log = ctypes.create_string_buffer(_LOG_BYTES)
    try:
        os.close(load_program(name, code, _LICENSE, LOG_LEVEL_ALL, log))
    except syscall.BpfError as error:
        lines = log.value.decode(errors="replace").splitlines()
        return Verdict(_processed(lines), (str(error), *lines[-_SAID_LINES:]))
    raise AssertionError("a program was refused, and then not")


def _processed(log: list[str]) -> int:
    """Of the line `processed 595123 insns (limit 1000000) ...`; 0 without one."""
    counts = [int(line.split()[1]) for line in log if line.startswith("processed ")]
    return counts[-1] if counts else 0
