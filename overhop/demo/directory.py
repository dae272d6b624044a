# SPDX-License-Identifier: Apache-2.0
"""The directory of a demo: plans, logs, a store of its own; and what a killed demo left of it."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overhop import claims, signals
from store.segment import is_held

CLAIMS = Path("/run/overhop/demos")
_PREFIX = "overhop-demo-"


@contextmanager
def demo_directory(marks: Path = CLAIMS) -> Iterator[Path]:
    """A fresh directory where temporary ones are, gone at the end. Raises OSError."""
    path = Path(tempfile.gettempdir()).absolute() / f"{_PREFIX}{secrets.token_hex(4)}"
    mark = claims.claim(marks, path.name, str(path))
    try:
        path.mkdir(0o700)
        yield path
    finally:
        with signals.Ignored():
            if path.exists():
                shutil.rmtree(path)
            mark.release()


def sweep(marks: Path = CLAIMS) -> list[str]:
    """Remove the directories of dead demos, but none whose store is in use by now; returns their paths.

    After the sweep of labs: a dead demo's agents may still run. Raises OSError.
    """
    removed = []
    for mark in claims.abandoned(marks, f"{_PREFIX}*"):
        path = Path(mark.note)
        if _has_store_in_use(path):
            mark.let_go()
            continue
        if _is_ours(path):
            shutil.rmtree(path)
            removed.append(str(path))
        mark.release()
    return removed


def _is_ours(path: Path) -> bool:
    """A directory that we made, and not what somebody put in its place."""
    if path.is_symlink() or not path.is_dir():
        return False
    return path.stat().st_uid == os.geteuid()


def _has_store_in_use(path: Path) -> bool:
    return any(is_held(one) for one in path.glob("**/appenders/*"))
