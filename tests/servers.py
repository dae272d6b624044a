# SPDX-License-Identifier: Apache-2.0
"""Real servers for tests and benchmarks: on free ports of loopback, in own directories, gone at the end.

Found by an environment variable, else in ../shared/bin beside the checkout, else on PATH or in the virtual
environment (./dev test puts them there).
"""

import lzma
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from overhop.lab import influxd
from overhop.lab.netns import Netns
from tests.require import require

_ROOT = Path(__file__).resolve().parents[1]
_SHARED = _ROOT.parent / "shared" / "bin"
_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 20.0
_LOOK_S = 0.05
ORG = "overhop"


class ServerError(Exception):
    """A server does not start, or is not what it should be."""


@dataclass(slots=True)
class Server:
    """A server that runs; stop it, kill it, start it again with the same port and data."""

    name: str
    url: str
    directory: Path
    argv: Sequence[str]
    is_ready: Callable[[str], bool]
    token: str = ""
    """Of InfluxDB 2 the token that may do everything, of InfluxDB 1 the password; empty: there is none."""
    user: str = ""
    env: dict[str, str] = field(default_factory=dict)
    end_signal: signal.Signals = signal.SIGINT
    netns: Netns | None = None
    """Where it runs; None: here."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """The store's URL."""
        place = self.url.removeprefix("http://")
        user = f"{self.user}@" if self.user else ""
        return f"{self.name}://{user}{place}/" + (ORG if self.name == "influxdb2" else "")

    @property
    def token_file(self) -> Path | None:
        """The token in a file."""
        if not self.token:
            return None
        path = self.directory / "token"
        path.write_text(self.token + "\n")
        path.chmod(0o600)
        return path

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Run it; returns once it answers."""
        with self.entered():
            self._start()

    def entered(self) -> AbstractContextManager[None]:
        """Whoever talks to it must be where it is."""
        return nullcontext() if self.netns is None else self.netns.entered()

    def _start(self) -> None:
        log = (self.directory / "log").open("ab")
        with log:
            self.process = subprocess.Popen(
                self.argv,
                cwd=self.directory,
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self.is_ready(self.url):
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                said = (self.directory / "log").read_text(errors="replace")[-2000:]
                self.kill()
                raise ServerError(f"{self.name} does not start: {said}")
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """A clean end."""
        self._end(self.end_signal)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


@contextmanager
def influxdb2(
    directory: Path,
    data: Path | None = None,
    host: str = "127.0.0.1",
    netns: Netns | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """InfluxDB 2.7 with the organisation `overhop`, no bucket of ours. `data`: where its engine writes."""
    binary = influxd2()
    port = free_port()
    engine = data or directory / "engine"
    argv = (binary, *influxd.arguments2(directory, engine, host, port))
    token = secrets.token_hex(16)
    server = Server("influxdb2", f"http://{host}:{port}", directory, argv, influxd.is_answering, token)
    server.netns, server.env = netns, dict(env or {})
    with _running(server):
        with server.entered():
            influxd.set_up(server.url, token)
        yield server


@contextmanager
def influxdb1(
    directory: Path,
    data: Path | None = None,
    *,
    has_users: bool = False,
    host: str = "127.0.0.1",
    netns: Netns | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """InfluxDB 1.6 without any database; `has_users`: an administrator must log in."""
    binary = influxd1()
    port, rpc = free_port(), free_port()
    config = directory / "influxdb.conf"
    config.write_text(influxd.config1(data or directory, host, port, rpc, has_users=has_users))
    argv = (binary, "-config", str(config))
    token, user = (secrets.token_hex(16), "admin") if has_users else ("", "")
    server = Server("influxdb1", f"http://{host}:{port}", directory, argv, influxd.is_answering, token, user)
    server.netns, server.env = netns, dict(env or {})
    with _running(server):
        if has_users:
            statement = f"CREATE USER {user} WITH PASSWORD '{token}' WITH ALL PRIVILEGES"
            post(server.url + "/query?q=" + quote(statement), b"")
        yield server


@contextmanager
def victoriametrics(directory: Path, *flags: str, host: str = "127.0.0.1") -> Iterator[Server]:
    """A single VictoriaMetrics, with further flags."""
    binary = find("OVERHOP_VICTORIAMETRICS", "victoria-metrics", lambda _: True)
    require(binary, "victoria-metrics (./dev test downloads it, or OVERHOP_VICTORIAMETRICS)")
    port = free_port()
    argv = (
        str(binary),
        *(f"-storageDataPath={directory / 'data'}", f"-httpListenAddr={host}:{port}"),
        *("-retentionPeriod=1", "-loggerLevel=ERROR", "-memory.allowedBytes=268435456", *flags),
    )
    with _running(Server("victoriametrics", f"http://{host}:{port}", directory, argv, _is_healthy)) as server:
        yield server


def influxd2() -> str:
    """The program of InfluxDB 2; skips (CI: fails) without."""
    found = find_influxd("influxdb2")
    require(found, "influxd 2.x (OVERHOP_INFLUXD2, or on PATH)")
    return str(found)


def influxd1() -> str:
    """The program of InfluxDB 1; skips (CI: fails) without."""
    found = find_influxd("influxdb1")
    require(found, "influxd 1.x (./dev test downloads it, or OVERHOP_INFLUXD1)")
    return str(found)


def find_influxd(server: influxd.Server) -> Path | None:
    """The program of that version; None: there is none."""
    version = server[-1]
    names = ("influxd", f"influxd-{version}")
    found = (
        find(influxd.VARIABLES[server], name, lambda path: influxd.version_of(path) == version)
        for name in names
    )
    return next(filter(None, found), None)


def find(variable: str, name: str, fits: Callable[[Path], bool]) -> Path | None:
    """A program by environment variable, in ../shared/bin, in the virtual environment or on PATH."""
    if os.environ.get(variable):
        return Path(os.environ[variable])
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    known = [_unpacked(name), *(shutil.which(name, path=place) for place in places.split(os.pathsep))]
    return next((Path(each) for each in known if each is not None and fits(Path(each))), None)


def free_port() -> int:
    """A TCP port of loopback that nobody has at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def post(url: str, body: bytes) -> bytes:
    """The answer; ServerError unless it is good."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=30) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise ServerError(f"{url}: {error.code}: {error.read()[:300]!r}") from None


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _is_healthy(url: str) -> bool:
    return _answers(url + "/health")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(200 <= answer.status < 300)
    except OSError:
        return False


def _unpacked(name: str) -> Path | None:
    """A program of ../shared/bin, unpacked once into a cache; None: it is not there."""
    packed = _SHARED / f"{name}.xz"
    if not packed.exists():
        return None
    about = packed.stat()
    directory = Path(tempfile.gettempdir()) / f"overhop-servers-{os.getuid()}"
    directory.mkdir(0o700, exist_ok=True)
    program = directory / f"{name}-{about.st_size}-{about.st_mtime_ns}"
    if not program.exists():
        fresh = directory / f".{program.name}-{os.getpid()}"
        with lzma.open(packed) as source, fresh.open("wb") as out:
            shutil.copyfileobj(source, out)
        fresh.chmod(0o700)
        fresh.rename(program)
    return program


if __name__ == "__main__":  # ./dev demo --store influxdb2: which one to start; nothing if there is none
    print(next((find_influxd(each) or "" for each in influxd.SERVERS if each == sys.argv[1]), ""))
