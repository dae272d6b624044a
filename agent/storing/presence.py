# SPDX-License-Identifier: Apache-2.0
"""A mark in the store while an agent runs: what finds one there knows that its predecessor was killed."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.layout import DIRECTORY_MODE, FILE_MODE, encode_node

DIRECTORY = "agents"


@dataclass(frozen=True, slots=True)
class Predecessor:
    """An agent that did not end: its pid, and when it last gave a sign (ns since 1970)."""

    pid: int
    last_sign_ns: int


class Presence:
    """The mark of one node's agent in the store at `store`. Raises OSError."""

    def __init__(self, store: Path, node: str) -> None:
        self._path = store / DIRECTORY / encode_node(node)
        self._path.parent.mkdir(DIRECTORY_MODE, exist_ok=True)

    def begin(self) -> Predecessor | None:
        """Set our mark; who left one before us."""
        found = self._found()
        text = json.dumps({"pid": os.getpid()}) + "\n"
        with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "w") as file:
            file.write(text)
        return found

    def sign(self) -> None:
        """We are still there."""
        os.utime(self._path)

    def end(self) -> None:
        """Take our mark away: a good end."""
        self._path.unlink(missing_ok=True)

    def _found(self) -> Predecessor | None:
        try:
            last_sign_ns = self._path.stat().st_mtime_ns
            said: Any = json.loads(self._path.read_bytes()[:4096] or b"{}")
        except FileNotFoundError:
            return None
        except ValueError:
            said = {}  # cut short: somebody was there all the same
        pid = said.get("pid") if isinstance(said, dict) else None
        return Predecessor(pid if isinstance(pid, int) else 0, last_sign_ns)
