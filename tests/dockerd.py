# SPDX-License-Identifier: Apache-2.0
"""A real Docker engine of a test's own: own network, mounts, data, containerd; gone with all in it."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from overhop.lab import netns
from tests.require import require, require_commands, require_root

IMAGE = "overhop-test"
POD = {
    "io.kubernetes.pod.name": "web-0",
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.uid": "0f8fad5b-d9cb-469f-a165-70867728950e",
}
_PLACES = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"))
_ENVIRONMENT = {**os.environ, "PATH": _PLACES}
_PROGRAMS = ("dockerd", "docker", "docker-proxy", "containerd", "containerd-shim-runc-v2", "runc", "busybox")
_WAIT_S = 60.0
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Dockerd:
    """The engine; containers are made with its own client."""

    space: netns.Netns
    """Where its bridges and NAT rules are."""
    socket: Path
    process: subprocess.Popen[bytes]
    cgroup: str

    def docker(self, *arguments: str, text: bytes = b"") -> str:
        """Run the client; its output without the newline at the end."""
        command = ("docker", "--host", f"unix://{self.socket}", *arguments)
        done = subprocess.run(
            command, input=text, capture_output=True, timeout=60, check=False, env=_ENVIRONMENT
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def start(self, name: str, *options: str, cgroup: str = "") -> str:
        """A container that waits, in a cgroup below the engine's; its id."""
        parent = ("--cgroup-parent", self.cgroup + cgroup)
        return self.docker("run", "--detach", *parent, "--name", name, *options, IMAGE, "/sleep", "3600")

    def version(self) -> str:
        """Of the engine."""
        return self.docker("version", "--format", "{{.Server.Version}}")

    def pid(self, name: str) -> int:
        """Its first process."""
        return int(self.docker("inspect", "--format", "{{.State.Pid}}", name))


@contextmanager
def dockerd(place: Path) -> Iterator[Dockerd]:
    """An engine with one image, whose files are below `place`."""
    require_root()
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PLACES) is None]
    require(not missing, f"the commands {', '.join(missing)} (./dev test downloads them)")
    require_commands("iptables", "mount", "nsenter", "tar", "unshare")
    [space] = netns.create([f"oht-{os.getpid()}-{secrets.token_hex(3)}"])
    engine = None
    try:
        space.ip(["link set lo up"])
        engine = _started(space, place)
        _await(engine, place)
        _import_image(engine, place)
        yield engine
    finally:
        if engine is not None:
            _end(engine)
        netns.end_processes([space])
        netns.delete([space])
        if engine is not None:
            _remove_cgroups(engine.cgroup)
        shutil.rmtree(place / "root", ignore_errors=True)


def populate(engine: Dockerd) -> None:
    """Containers in every kind of network, and a pod of Kubernetes as cri-dockerd makes it."""
    compose = ("--label=com.docker.compose.project=shop", "--label=com.docker.compose.service=web")
    engine.start("web-1", *compose, "--publish=8080:80")
    engine.start("beside", "--network=container:web-1")
    engine.start("on-node", "--network=host")
    engine.start("apart", "--network=none")
    labels = [f"--label={key}={value}" for key, value in POD.items()]
    sandbox = "k8s_POD_web-0_shop_0"
    own = ("--label=app=web", "--label=annotation.kubernetes.io/config.source=api")
    kind = "--label=io.kubernetes.docker.type=podsandbox"
    cgroup = f"/kubepods/burstable/pod{POD['io.kubernetes.pod.uid']}"
    engine.start(sandbox, "--network=none", *labels, *own, kind, cgroup=cgroup)
    pid = engine.pid(sandbox)  # a network plugin gives it its interface
    engine.space.ip([f"link add cali1 type veth peer name eth0 netns {pid}", "link set cali1 up"])
    inside = ("nsenter", f"--net=/proc/{pid}/ns/net", "ip")
    engine.space.run((*inside, "address", "add", "10.88.0.5/32", "dev", "eth0"))
    network = f"--network=container:{sandbox}"
    engine.start(
        "k8s_app_web-0_shop_0", network, *labels, *own[:1], "--label=io.kubernetes.docker.type=container"
    )


def _started(space: netns.Netns, place: Path) -> Dockerd:
    """With /run, /opt and /etc of its own: it would use the machine's containerd, and write a key."""
    (place / "none.json").write_text(json.dumps({}))
    sock = place / "docker.sock"
    options = [
        f"--data-root={place / 'root'}",
        f"--exec-root={place / 'exec'}",
        f"--host=unix://{sock}",
        f"--pidfile={place / 'pid'}",
        f"--config-file={place / 'none.json'}",
        "--storage-driver=vfs",
        "--log-level=warn",
    ]
    private = ("unshare", "--mount", "--propagation=private", "sh", "-c")
    script = (
        "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /opt && cp -a /etc /run/etc && "
        'mount --bind /run/etc /etc && exec dockerd "$@"'
    )
    with (place / "log").open("wb") as log:
        process = space.popen(
            (*private, script, "dockerd", *options), stdout=log, stderr=log, env=_ENVIRONMENT
        )
    return Dockerd(space, sock, process, f"/{space.name}")


def _await(engine: Dockerd, place: Path) -> None:
    deadline_s = time.monotonic() + _WAIT_S
    command = ("docker", "--host", f"unix://{engine.socket}", "version")
    while subprocess.run(command, capture_output=True, check=False, env=_ENVIRONMENT).returncode != 0:
        said = (place / "log").read_text()[-2000:]
        assert engine.process.poll() is None, f"dockerd ended: {said}"
        assert time.monotonic() < deadline_s, f"dockerd does not answer: {said}"
        time.sleep(0.1)  # between two questions; the client cannot wait


def _import_image(engine: Dockerd, place: Path) -> None:
    tree = place / "image"
    tree.mkdir()
    shutil.copy(shutil.which("busybox", path=_PLACES) or "busybox", tree / "busybox")
    (tree / "sleep").symlink_to("busybox")
    (tree / "ping").symlink_to("busybox")
    packed = subprocess.run(("tar", "-C", str(tree), "-c", "."), capture_output=True, check=True).stdout
    engine.docker("import", "-", IMAGE, text=packed)


def _end(engine: Dockerd) -> None:
    """Containers first: their processes are in network namespaces of their own."""
    if engine.process.poll() is None:
        if names := engine.docker("ps", "--all", "--quiet").split():
            engine.docker("rm", "--force", *names)
        engine.process.terminate()
    try:
        engine.process.wait(30)
    except subprocess.TimeoutExpired:
        engine.process.kill()
        engine.process.wait(10)


def _remove_cgroups(name: str) -> None:
    for found in (_CGROUPS / name.strip("/"), *_CGROUPS.glob(f"*/{name.strip('/')}")):
        below = sorted(found.glob("**/"), reverse=True) if found.is_dir() else []
        for each in below:
            each.rmdir()
