# SPDX-License-Identifier: Apache-2.0
"""Where a demo keeps its hops: a directory, or an InfluxDB that it starts outside the cluster."""

import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from overhop.lab import Lab
from overhop.lab.influxd import Server, start_influxd
from overhop.lab.netns import Netns
from overhop.stored import Place, connected, opened
from store.influxdb.target import parse_target
from store.query import Store


@dataclass(frozen=True, slots=True)
class Keeping:
    """The store of a demo, and from where it can be reached."""

    place: Place
    spools: Path
    """Directory of the agents' spools; only used with a server."""
    netns: Netns | None = None
    """The namespace of the server; None: it is a directory."""

    def arguments(self, node: str) -> tuple[str, ...]:
        """Of the agent of a node."""
        token = () if self.place.token_file is None else ("--store-token-file", str(self.place.token_file))
        spool = () if self.netns is None else ("--spool", str(self.spools / node))
        return ("--store", str(self.place), *token, *spool)

    @property
    def entrance(self) -> str:
        """What stands before a command of ours that asks this store; empty: nothing."""
        return "" if self.netns is None else f"nsenter --net={self.netns.path} "

    @property
    def options(self) -> str:
        """How such a command names it, besides `--store`."""
        token_file = self.place.token_file
        return "" if token_file is None else f"--store-token-file {shlex.quote(str(token_file))}"

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """To be read. Raises StoreError."""
        if self.netns is None:
            with opened(self.place) as store:
                yield store
            return
        with self.netns.entered(), opened(self.place) as store:
            yield store


def in_directory(path: Path, directory: Path) -> Keeping:
    """An embedded store."""
    return Keeping(Place(path), directory)


def in_server(lab: Lab, server: Server, directory: Path) -> Keeping:
    """A fresh InfluxDB on the lab's external host, with our buckets. Raises LabError, StoreError."""
    from store.influxdb.admin import init

    data = directory / server
    data.mkdir(0o700)
    running = start_influxd(lab.external, server, data, secrets.token_hex(16))
    token_file = None
    if server == "influxdb2":
        token_file = directory / "token"
        token_file.touch(0o600)
        token_file.write_text(running.token + "\n")
    keeping = Keeping(Place(parse_target(running.url), token_file), directory, lab.external.netns)
    with lab.external.netns.entered(), connected(keeping.place) as connection:
        init(connection)
    return keeping
