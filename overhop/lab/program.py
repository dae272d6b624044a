# SPDX-License-Identifier: Apache-2.0
"""The Envoy of the lab, opened for a user who need not be able to walk the path that leads to it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from overhop.sidecar.module import SEARCH_PATH


@dataclass(frozen=True, slots=True)
class Opened:
    """What a child process is started with."""

    executable: str
    descriptors: tuple[int, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Program:
    """An Envoy, and the directory of its dynamic modules if it shall load one."""

    envoy: Path
    modules: Path | None = None

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        """Descriptors that a child inherits. Raises OSError."""
        with ExitStack() as stack:
            program = _opened(stack, self.envoy)
            if self.modules is None:
                yield Opened(f"/proc/self/fd/{program}", (program,), {})
                return
            modules = _opened(stack, self.modules)
            where = {SEARCH_PATH: f"/proc/self/fd/{modules}"}
            yield Opened(f"/proc/self/fd/{program}", (program, modules), where)


def _opened(stack: ExitStack, path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor
