# SPDX-License-Identifier: Apache-2.0
"""Which clsact qdiscs are ours: one small file per qdisc that we created, under /run/overhop/clsact.

A clsact without a record is somebody else's and stays, whatever is in it.
"""

import json
import socket
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path("/run/overhop/clsact")
_SO_NETNS_COOKIE: Final = 71


@dataclass(frozen=True, slots=True)
class Record:
    """A clsact qdisc that we created; the cookie is the network namespace's."""

    boot_id: str
    netns_cookie: int
    ifindex: int
    name: str


class Records:
    """The records of this network namespace. Raises OSError."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._cookie = netns_cookie()

    def prepare(self) -> None:
        """Fail now, if records cannot be written: before there is a qdisc that nobody would know of."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = self._directory / f".probe-{self._cookie}"
        probe.touch()
        probe.unlink(missing_ok=True)

    def add(self, ifindex: int, name: str) -> None:
        """Remember that the qdisc of this interface is ours."""
        record = Record(self._boot_id, self._cookie, ifindex, name)
        path = self._path(ifindex)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(record)))
        draft.rename(path)

    def has(self, ifindex: int, name: str) -> bool:
        """Whether we created the qdisc of this interface."""
        return _read(self._path(ifindex)) == Record(self._boot_id, self._cookie, ifindex, name)

    def remove(self, ifindex: int) -> None:
        """Forget the qdisc of this interface."""
        self._path(ifindex).unlink(missing_ok=True)

    def all(self) -> list[Record]:
        """What we created in this network namespace since the machine started."""
        found = [_read(path) for path in sorted(self._directory.glob(f"{self._cookie}-*.json"))]
        return [record for record in found if record and record.boot_id == self._boot_id]

    def drop_outdated(self) -> list[str]:
        """Delete the records of earlier boots and drafts of this namespace; their file names."""
        dropped = []
        for path in sorted(self._directory.glob("*.json")):
            record = _read(path)
            if record is None or record.boot_id != self._boot_id:
                path.unlink(missing_ok=True)
                dropped.append(path.name)
        for draft in self._directory.glob(f"{self._cookie}-*.draft"):
            draft.unlink(missing_ok=True)
            dropped.append(draft.name)
        return dropped

    def _path(self, ifindex: int) -> Path:
        return self._directory / f"{self._cookie}-{ifindex}.json"


def netns_cookie() -> int:
    """Number of this network namespace, unique until the machine restarts (SO_NETNS_COOKIE, Linux 5.14)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        return int(struct.unpack("=Q", channel.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0])


def _read(path: Path) -> Record | None:
    """The record of a file; None if it is gone or not one of ours."""
    try:
        return Record(**json.loads(path.read_text()))
    except (FileNotFoundError, TypeError, ValueError):
        return None
