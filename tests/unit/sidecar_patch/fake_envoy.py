# SPDX-License-Identifier: Apache-2.0
"""The native module under AddressSanitizer and UBSan, behind an Envoy in C of which any call can fail."""

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from overhop.sidecar.build import SOURCES, compile_sources, find_compiler

HERE = Path(__file__).parent
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wl,--wrap=malloc")
COUNTERS = ("relocated", "held", "skipped", "errors")

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Faults:
    """What shall fail, counted from 1; 0: nothing. With `stays`, every later call into Envoy fails too."""

    call: int = 0
    allocation: int = 0
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a request."""

    headers: Headers
    calls: int
    counted: dict[str, int]
    """The counters that went up."""


NO_FAULTS = Faults()


class FakeEnvoy:
    """The program; it ends with the block."""

    def __init__(self, directory: Path) -> None:
        program = directory / "fake_envoy"
        sources = [HERE / "fake_envoy.c", *sorted(SOURCES.glob("*.c"))]
        compile_sources(find_compiler(), (*SANITIZED, "-o", str(program)), sources)
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "FakeEnvoy":
        return self

    def __exit__(self, *_: object) -> None:
        self._stdin.close()
        code = self._process.wait(timeout=20)
        self._stdout.close()
        assert code == 0, "the sanitizer found something: its report is above"

    def configure(self, names: bytes, *, has_counters: bool = True) -> list[str] | None:
        """What the module complains of; None: it takes the names."""
        self._stdin.write(b"c" + _text(names) + struct.pack("=I", not has_counters))
        self._stdin.flush()
        accepted, log = self._number(), self._text().decode().splitlines()
        assert not (accepted and log)
        return None if accepted else log

    def serve(self, headers: Sequence[tuple[bytes, bytes]], faults: Faults = NO_FAULTS) -> Served:
        """One request through the filter."""
        fields = b"".join(_text(name) + _text(value) for name, value in headers)
        counts = struct.pack("=IIII", faults.call, faults.allocation, faults.stays, len(headers))
        self._stdin.write(b"r" + counts + fields)
        self._stdin.flush()
        calls = self._number()
        counted = {name: value for name in COUNTERS if (value := self._number())}
        return Served([(self._text(), self._text()) for _ in range(self._number())], calls, counted)

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _number(self) -> int:
        data = self._stdout.read(4)
        assert len(data) == 4, "the program ended: the sanitizer's report is above"
        return int(struct.unpack("=I", data)[0])

    def _text(self) -> bytes:
        return self._stdout.read(self._number())


def _text(data: bytes) -> bytes:
    return struct.pack("=I", len(data)) + data
