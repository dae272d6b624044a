# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: make them, run things in them, end what runs in them, remove them.

Processes are started from a thread that has entered the namespace (setns(2)), never by `ip netns exec`,
which would also give them a /sys of their own, without cgroups and pinned BPF objects.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

DIRECTORY = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_BRIDGE_SYSCTLS = Path("/proc/sys/net/bridge")
_LIBC = ctypes.CDLL(None, use_errno=True)
_PACKAGES = {
    "ip": "iproute2",
    "bridge": "iproute2",
    "iptables": "iptables",
    "iptables-restore": "iptables",
    "ip6tables-restore": "iptables",
    "ethtool": "ethtool",
}


class LabError(Exception):
    """A lab cannot be built or used; the text says what failed, on which object, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Netns:
    """A named network namespace."""

    name: str

    @property
    def path(self) -> Path:
        """The file that stands for it."""
        return DIRECTORY / self.name

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside the namespace; sockets and child processes made there belong to it."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.path)
            try:
                yield
            finally:
                _setns_fd(home, "/proc/thread-self/ns/net")
        finally:
            os.close(home)

    def popen(
        self,
        argv: Sequence[str],
        *,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process inside; the caller waits for it (a lab ends it at the latest when it closes)."""
        with self.entered():
            return subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, env=env)

    def run(self, argv: Sequence[str], *, text: str = "", timeout_s: float = 30.0) -> str:
        """Run a command inside with `text` on its standard input, return its output; LabError if it fails."""
        with self.entered():
            return run(argv, text=text, timeout_s=timeout_s, where=self.name)

    def ip(self, lines: Iterable[str]) -> None:
        """Carry out `ip` commands (without the word ip) as one batch; the first error stops it."""
        batch = "\n".join(lines)
        if batch:
            self.run(("ip", "-batch", "-"), text=batch + "\n")

    def bridge(self, lines: Iterable[str]) -> None:
        """Carry out `bridge` commands as one batch."""
        batch = "\n".join(lines)
        if batch:
            self.run(("bridge", "-batch", "-"), text=batch + "\n")

    def sysctl(self, settings: Mapping[str, str | int]) -> None:
        """Set sysctls of this namespace, written with slashes: `net/ipv4/ip_forward`."""
        with self.entered():
            for key, value in settings.items():
                _write_sysctl(key, value, self.name)

    def inode(self) -> int:
        """Number by which /proc/PID/ns/net shows the namespace."""
        return self.path.stat().st_ino


def run(argv: Sequence[str], *, text: str = "", timeout_s: float = 30.0, where: str = "") -> str:
    """Run a command here, return its output. LabError has the command, the culprit line and the reason."""
    place = f" in {where}" if where else ""
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        package = _PACKAGES.get(argv[0], argv[0])
        raise LabError(f"{argv[0]}: not found: install it (apt-get install {package})") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)}{place}: no end after {timeout_s} s") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}{place}: exit code {done.returncode}: {_reason(done.stderr, text)}")
    return done.stdout


def require_tools() -> None:
    """Raise LabError unless this process is root and every command that a lab needs is installed."""
    if os.geteuid() != 0:
        raise LabError("lab: network namespaces need root: run it with sudo")
    missing = [command for command in _PACKAGES if shutil.which(command) is None]
    if missing:
        packages = " ".join(sorted({_PACKAGES[command] for command in missing}))
        raise LabError(f"lab: not found: {', '.join(missing)}: install them (apt-get install {packages})")


def require_bridge_netfilter() -> None:
    """Bridged packets must pass iptables, or a service whose back end is on the client's node breaks.

    Loads br_netfilter where it is a module, and leaves the bridges of this namespace as they were without it.
    """
    if _BRIDGE_SYSCTLS.is_dir():
        return
    run(("modprobe", "br_netfilter"))
    for family in ("iptables", "ip6tables", "arptables"):
        _write_sysctl(f"net/bridge/bridge-nf-call-{family}", 0, "the host")


def create(names: Iterable[str]) -> list[Netns]:
    """Make namespaces with these names."""
    wanted = [Netns(name) for name in names]
    run(("ip", "-batch", "-"), text="".join(f"netns add {netns.name}\n" for netns in wanted))
    return wanted


def delete(namespaces: Iterable[Netns]) -> None:
    """Remove those that exist; end their processes first, or they live on without a name."""
    existing = [netns for netns in namespaces if netns.path.exists()]
    if existing:
        run(("ip", "-batch", "-"), text="".join(f"netns del {netns.name}\n" for netns in existing))


def named(prefix: str) -> list[Netns]:
    """The namespaces whose name begins with the prefix."""
    return [Netns(path.name) for path in sorted(DIRECTORY.glob(f"{prefix}*"))]


def processes_in(namespaces: Iterable[Netns]) -> list[int]:
    """Process ids inside the namespaces, never the caller's own."""
    inodes = {netns.inode() for netns in namespaces if netns.path.exists()}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            inode = (entry / "ns" / "net").stat().st_ino
        except OSError:
            continue  # ended meanwhile, or a zombie
        if inode in inodes:
            found.append(int(entry.name))
    return found


def end_processes(namespaces: Sequence[Netns], grace_s: float = 2.0) -> None:
    """End everything that runs inside: SIGTERM, and SIGKILL for what is still there after grace_s."""
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        watched = {pid: fd for pid in processes_in(namespaces) if (fd := _pidfd(pid)) is not None}
        if not watched:
            return
        try:
            for fd in watched.values():
                _send(fd, number)
            _await_end(list(watched.values()), time.monotonic() + patience_s)
        finally:
            for fd in watched.values():
                os.close(fd)
    left = processes_in(namespaces)
    if left:
        raise LabError(f"lab: processes {left} survived SIGKILL for 5 s: look at /proc/PID/stack")


def _write_sysctl(key: str, value: str | int, where: str) -> None:
    try:
        Path("/proc/sys", key).write_text(str(value))
    except OSError as error:
        raise LabError(
            f"set {key}={value} in {where}: {error.strerror}: does this kernel have it?"
        ) from error


def _await_end(fds: list[int], deadline_s: float) -> None:
    waiting = set(fds)
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    while waiting and (left_s := deadline_s - time.monotonic()) > 0:
        for fd, _ in poller.poll(left_s * 1000):
            poller.unregister(fd)
            waiting.discard(fd)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _send(pidfd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return  # ended by itself


def _setns(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise LabError(f"enter {path}: no such namespace: is the lab still up?") from error
    try:
        _setns_fd(fd, str(path))
    finally:
        os.close(fd)


def _setns_fd(fd: int, what: str) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise LabError(f"enter {what}: {os.strerror(number)}: setns needs CAP_SYS_ADMIN, run it as root")


def _reason(stderr: str, text: str) -> str:
    """The command's complaint, with the input line it names (`Command failed -:4`, `at line: 3`)."""
    message = " ".join(stderr.split()) or "no message"
    tail = message.rsplit(":", 1)[-1].strip().split(" ")[0]
    lines = text.splitlines()
    if tail.isdigit() and 1 <= int(tail) <= len(lines):
        message += f" (its input line: {lines[int(tail) - 1]})"
    return message
