# SPDX-License-Identifier: Apache-2.0
"""The kernel program as bytecode: compiled on this machine, verified and loaded by any kernel.

An emulated processor takes half a minute to compile what it verifies in two seconds.
"""

import base64
import ctypes
import json
import os
import platform
import struct
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import loader
from bpf import spec as bpf_spec
from bpf import syscall
from tests.kernels.builds import BuildOptions

_CHILD = Path(__file__).with_name("bytecode_child.py")
_SECTOR_BYTES = 512
_LOG_BYTES = 256 << 20
_LOG_LEVEL_STATS = 4
_LOG_LEVEL_ALL = 1
_SAID_LINES = 12
_MAP_FIELDS = ("type", "key_bytes", "value_bytes", "max_entries", "flags")
_LD_IMM64 = 0x18
_PSEUDO_MAP_FD = 1


@dataclass(frozen=True, slots=True)
class Build:
    """One build: what to make its maps of, and its programs with map numbers in place of descriptors."""

    name: str
    maps: dict[str, dict[str, int]]
    programs: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a kernel's verifier says to a program: instructions processed, and why not if it refuses it."""

    insns: int
    refused: tuple[str, ...] = ()


class _MapCreate(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("type", "key", "value", "entries", "flags"))


class _ProgLoad(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
    )


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
    return [
        Build(
            build["name"],
            build["maps"],
            {name: base64.b64decode(code) for name, code in build["programs"].items()},
        )
        for build in found
    ]


def verify(build: Build) -> dict[str, Verdict]:
    """What this machine's kernel says to each program of a build; nothing stays loaded."""
    with _maps(build) as maps:
        return {name: _verify(_with_descriptors(code, maps)) for name, code in build.programs.items()}


def load(build: Build) -> loader.Loaded:
    """The programs and maps of a build in this machine's kernel, as agent.loader.load() gives them."""
    programs: dict[str, int] = {}
    with _maps(build) as maps:
        for name, code in build.programs.items():
            programs[name] = _load(_with_descriptors(code, maps), 0, None)
        kept = {name: os.dup(fd) for name, fd in zip(build.maps, maps, strict=True)}
    return loader.Loaded(programs, kept, {}, 0.0, 0.0)


@contextmanager
def _maps(build: Build) -> Iterator[list[int]]:
    """New maps, in the order of their numbers; their descriptors are closed with the block."""
    descriptors: list[int] = []
    try:
        for wanted in build.maps.values():
            attr = _MapCreate(*(wanted[name] for name in _MAP_FIELDS))
            descriptors.append(syscall.command("MAP_CREATE", attr, f"of type {wanted['type']}"))
        yield descriptors
    finally:
        for fd in descriptors:
            os.close(fd)


def _with_descriptors(code: bytes, maps: list[int]) -> bytes:
    patched = bytearray(code)
    for at in range(0, len(code), 8):
        opcode, registers, _, immediate = struct.unpack_from("=BBhi", code, at)
        if opcode == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            struct.pack_into("=i", patched, at + 4, maps[immediate])
    return bytes(patched)


def _verify(code: bytes) -> Verdict:
    log = ctypes.create_string_buffer(64 << 10)
    try:
        os.close(_load(code, _LOG_LEVEL_STATS, log))
    except syscall.BpfError:
        return _refusal(code)
    return Verdict(_processed(log.value.decode().splitlines()))


def _refusal(code: bytes) -> Verdict:
    """Once more, with the verifier's whole log, of which the last lines say why."""
    log = ctypes.create_string_buffer(_LOG_BYTES)
    try:
        os.close(_load(code, _LOG_LEVEL_ALL, log))
    except syscall.BpfError as error:
        lines = log.value.decode(errors="replace").splitlines()
        return Verdict(_processed(lines), (str(error), *lines[-_SAID_LINES:]))
    raise AssertionError("a program was refused, and then not")


def _load(code: bytes, log_level: int, log: "ctypes.Array[ctypes.c_char] | None") -> int:
    license_text = ctypes.create_string_buffer(b"Dual BSD/GPL")
    insns = ctypes.create_string_buffer(code, len(code))
    attr = _ProgLoad(
        syscall.PROG_TYPE_SCHED_CLS,
        len(code) // 8,
        ctypes.addressof(insns),
        ctypes.addressof(license_text),
        log_level,
        len(log) if log else 0,
        ctypes.addressof(log) if log else 0,
    )
    return syscall.command("PROG_LOAD", attr, f"{len(code) // 8} instructions")


def _processed(log: list[str]) -> int:
    """Of the line `processed 595123 insns (limit 1000000) ...`; 0 without one."""
    counts = [int(line.split()[1]) for line in log if line.startswith("processed ")]
    return counts[-1] if counts else 0
