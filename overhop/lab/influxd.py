# SPDX-License-Identifier: Apache-2.0
"""A real InfluxDB on a host of the lab: where its program is, how it is started and set up."""

import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from overhop.lab.hosts import Host
from overhop.lab.netns import LabError

Server = Literal["influxdb2", "influxdb1"]
SERVERS: tuple[Server, ...] = ("influxdb2", "influxdb1")
VARIABLES: Mapping[Server, str] = {"influxdb2": "OVERHOP_INFLUXD2", "influxdb1": "OVERHOP_INFLUXD1"}
ORG = "overhop"
PORT = 8086
_PACKAGES: Mapping[Server, str] = {"influxdb2": "InfluxData's influxdb2", "influxdb1": "Debian's influxdb"}
_START_TIMEOUT_S = 60.0
_LOOK_S = 0.05


class InfluxdMissingError(LabError):
    """There is no InfluxDB of that version here."""


@dataclass(frozen=True, slots=True)
class Influxd:
    """One that runs: its URL as a store, and the token (InfluxDB 1: none is asked for)."""

    url: str
    token: str


def find_influxd(server: Server, environment: Mapping[str, str] = os.environ) -> str:
    """The program: by environment variable, else the first `influxd` of that version in PATH.

    Raises InfluxdMissingError.
    """
    variable, wanted = VARIABLES[server], server[-1]
    if named := environment.get(variable):
        if (found := version_of(named)) == wanted:
            return named
        raise InfluxdMissingError(f"{variable}={named}: it is {_kind(found)}, not influxd {wanted}.x")
    others = []
    for directory in environment.get("PATH", os.defpath).split(os.pathsep):
        program = os.path.join(directory, "influxd")
        if not os.access(program, os.X_OK):
            continue
        if (found := version_of(program)) == wanted:
            return program
        others.append(f"{program} is {_kind(found)}")
    where = f"not found in PATH ({', '.join(others)})" if others else "not found in PATH"
    advice = f"install {_PACKAGES[server]}, or name the program by {variable}"
    raise InfluxdMissingError(f"influxd {wanted}.x: {where}: {advice}")


def _kind(version: str) -> str:
    return f"version {version}" if version else "no influxd"


def version_of(program: str | Path) -> str:
    """The first digit of its version; empty: it is no influxd."""
    try:
        done = subprocess.run([program, "version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"InfluxDB v?(\d+)\.", done.stdout)
    return found[1] if found else ""


def arguments2(directory: Path, engine: Path, host: str, port: int) -> Sequence[str]:
    """Of InfluxDB 2, all of whose files are in `directory`, but its data in `engine`."""
    return (
        *("--bolt-path", str(directory / "bolt"), "--sqlite-path", str(directory / "sqlite")),
        *("--engine-path", str(engine), "--http-bind-address", f"{host}:{port}"),
        *("--reporting-disabled", "--ui-disabled", "--log-level", "error"),
    )


def config1(directory: Path, host: str, port: int, rpc_port: int, *, has_users: bool = False) -> str:
    """Of InfluxDB 1, all of whose files are in `directory`."""
    return (
        f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc_port}"\n'
        f'[meta]\n  dir = "{directory / "meta"}"\n'
        f'[data]\n  dir = "{directory / "data"}"\n  wal-dir = "{directory / "wal"}"\n'
        "  query-log-enabled = false\n"
        "[monitor]\n  store-enabled = false\n"
        f'[http]\n  bind-address = "{host}:{port}"\n  log-enabled = false\n'
        f"  auth-enabled = {str(has_users).lower()}\n"
    )


def start_influxd(host: Host, server: Server, directory: Path, token: str) -> Influxd:
    """Run one on `host`, all of its files in `directory`; it ends with the lab. Raises LabError."""
    program = find_influxd(server)
    address = f"[{host.address}]" if host.address.version == 6 else str(host.address)
    if server == "influxdb2":
        argv: Sequence[str] = (program, *arguments2(directory, directory / "engine", address, PORT))
    else:
        config = directory / "influxdb.conf"
        config.write_text(config1(directory, address, PORT, PORT + 2))
        argv = (program, "-config", str(config))
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory)}
    with (directory / "influxd.log").open("wb") as log:
        process = host.popen(argv, stdout=log.fileno(), stderr=log.fileno(), env=environment)
    url = f"http://{address}:{PORT}"
    with host.netns.entered():
        _await(url, process, directory / "influxd.log")
        if server == "influxdb2":
            set_up(url, token)
    return Influxd(f"{server}://{address}:{PORT}/" + (ORG if server == "influxdb2" else ""), token)


def set_up(url: str, token: str) -> None:
    """Of a fresh InfluxDB 2: its organisation, and a token that may do everything. Raises LabError."""
    body = {"username": "admin", "password": token, "org": ORG, "bucket": "unused", "token": token}
    request = urllib.request.Request(f"{url}/api/v2/setup", json.dumps(body).encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30):
            return
    except OSError as error:  # an answer that is an error is one too
        raise LabError(f"influxd at {url} cannot be set up: {error}") from None


def is_answering(url: str) -> bool:
    """Whether an InfluxDB of either version is ready there."""
    path = "/ping"
    try:
        with urllib.request.urlopen(url + path, timeout=5) as answer:
            return bool(200 <= answer.status < 300)
    except OSError:
        return False


def _await(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not is_answering(url):
        if process.poll() is not None or time.monotonic() > deadline_s:
            said = log.read_text(errors="replace").strip().splitlines()
            raise LabError(f"influxd does not start: {said[-1][:300] if said else 'it does not say why'}")
        time.sleep(_LOOK_S)
