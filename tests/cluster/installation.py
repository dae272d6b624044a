# SPDX-License-Identifier: Apache-2.0
"""overhop in a real cluster, as a user installs it: image, manifests, a store, requests between pods."""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overhop.stored import Place, opened
from store.influxdb.target import parse_target
from store.query import Span, Where
from tests.kubernetes import Kubernetes, KubernetesError, kubernetes, run, running, until
from tests.require import require_commands, require_root
from tests.servers import influxd2

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "overhop/overhop:dev"
INFLUXDB_IMAGE = "docker.io/library/influxdb:2.7"
NAMESPACE = "overhop"
_IMAGE_TIMEOUT_S = 400.0
_SOURCES = ("overhop", "insight", "agent", "store", "bpf", "collector", "dispatcher", "deploy")
_INFLUXDB = """#!/bin/sh
export HOME=/var/lib/influxdb2
cd $HOME
influxd --bolt-path b --sqlite-path s --engine-path e --http-bind-address :8086 --ui-disabled &
set -- username "$DOCKER_INFLUXDB_INIT_USERNAME" password "$DOCKER_INFLUXDB_INIT_PASSWORD" \\
    org "$DOCKER_INFLUXDB_INIT_ORG" bucket "$DOCKER_INFLUXDB_INIT_BUCKET" \\
    token "$DOCKER_INFLUXDB_INIT_ADMIN_TOKEN"
body=$(printf '"%s":"%s",' "$@")
body="{${body%,}}"
ask() {
    printf 'POST /api/v2/setup HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n'
    printf 'Content-Length: %s\\r\\n\\r\\n%s' "${#body}" "$body"
}
until ask | nc -w 5 127.0.0.1 8086 2>/dev/null | grep -q '201 Created'; do sleep 0.2; done
wait
"""


def image_directory() -> Path:
    """The image of this checkout as a directory; made once for each state of the sources."""
    require_commands("debootstrap")
    digest = hashlib.sha256()
    for room in (*_SOURCES, "pyproject.toml"):
        place = ROOT / room
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    base = Path(os.environ.get("OVERHOP_TEST_IMAGES", Path(tempfile.gettempdir()) / "overhop-test-images"))
    found = base / digest.hexdigest()[:16]
    base.mkdir(parents=True, exist_ok=True)
    with (base / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may make one right now
        if not found.exists():
            for old in base.iterdir():
                if old.is_dir():
                    shutil.rmtree(old, ignore_errors=True)
            script = ROOT / "deploy" / "container" / "rootfs.sh"
            run(["bash", str(script), str(ROOT), sys.executable, str(found)], timeout_s=_IMAGE_TIMEOUT_S)
    return found


@contextmanager
def influxdb_directory() -> Iterator[Path]:
    """An image that starts and sets itself up as the official one does."""
    program = influxd2()
    with tempfile.TemporaryDirectory(prefix="overhop-influxdb-") as text:
        directory = Path(text)
        (directory / "usr/bin").mkdir(parents=True)
        shutil.copy(program, directory / "usr/bin/influxd")
        (directory / "usr/bin/influxd").chmod(0o755)
        for line in run(["ldd", program]).splitlines():
            for word in line.split():
                if word.startswith("/"):
                    target = directory / word.lstrip("/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(word, target)
        entry = directory / "entrypoint.sh"
        entry.write_text(_INFLUXDB)
        entry.chmod(0o755)
        yield directory


@dataclass(slots=True)
class Installation:
    """overhop in a cluster."""

    cluster: Kubernetes
    _forwards: list[subprocess.Popen[str]] = field(default_factory=list)
    store: str = ""
    token_file: Path = Path()

    @property
    def proxy_mode(self) -> str:
        """Of kube-proxy: iptables or nftables."""
        return str(self.cluster.facts["proxy_mode"])

    def overhop(self, *arguments: str, expect: int = 0, timeout_s: float = 120.0) -> str:
        """What the command of this checkout prints. Raises KubernetesError: another exit code."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "overhop", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OVERHOP_CONFIG": os.devnull},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != expect:
            raise KubernetesError(
                f"overhop {' '.join(arguments)}: {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def managed(self, *arguments: str, **options: Any) -> str:  # noqa: ANN401  as overhop()
        """`overhop cluster ...` of this cluster."""
        return self.overhop("cluster", *arguments, "--kubeconfig", str(self.cluster.kubeconfig), **options)

    def stored(self, *arguments: str, **options: Any) -> Any:  # noqa: ANN401  JSON
        """`overhop hops ...` or `trace ...` of the cluster's store, as JSON."""
        place = ("--store", self.store, "--store-token-file", str(self.token_file))
        return json.loads(self.overhop(*arguments, *place, "--json", **options))

    def samples(self, since_s: float) -> list[dict[str, Any]]:
        """Every hop that is stored in full since that time (Unix time, s), a row each."""
        place = Place(parse_target(self.store), self.token_file)
        with opened(place) as store:
            span = Span(int(since_s * 1e9), int((time.time() + 60) * 1e9))
            columns = store.samples(span, Where(), limit=1_000_000)
        names = list(columns)
        rows = zip(*(columns[name].tolist() for name in names), strict=True)
        found = [dict(zip(names, row, strict=True)) for row in rows]
        for each in found:
            each["id"] = f"{int(each['trace_hi']) << 64 | int(each['trace_lo']):032x}"
        return found

    def hops_of(self, ids: Sequence[str], since_s: float) -> dict[str, list[dict[str, Any]]]:
        """Hops of these traces, by id."""
        found: dict[str, list[dict[str, Any]]] = {each: [] for each in ids}
        for each in self.samples(since_s):
            if each["id"] in found:
                found[each["id"]].append(each)
        return found

    def install(self, *options: str) -> None:
        """Install or upgrade, with an InfluxDB for trials, and wait until all is ready."""
        self.managed("install", "--image", IMAGE, "--trial-influxdb", "--wait", "90", *options)
        self.cluster.kubectl(
            "-n", NAMESPACE, "wait", "--for=condition=complete", "--timeout=50s", "job/overhop-store-init"
        )

    def open_store(self, directory: Path) -> None:
        """Make the cluster's InfluxDB reachable from here."""
        import base64

        secret = self.cluster.get("-n", NAMESPACE, "secret", "overhop-store")
        self.token_file = directory / "token"
        self.token_file.write_bytes(base64.b64decode(secret["data"]["token"]))
        self.token_file.chmod(0o600)
        self.store = f"influxdb2://127.0.0.1:{self.forward('service/influxdb', 8086)}/overhop"

    def forward(self, what: str, port: int) -> int:
        """A port of this machine that leads there."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            local = int(free.getsockname()[1])
        kubectl = [str(self.cluster.state / "bin" / "kubectl"), "--kubeconfig", str(self.cluster.kubeconfig)]
        process = subprocess.Popen(
            [*kubectl, "-n", NAMESPACE, "port-forward", what, f"{local}:{port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._forwards.append(process)

        def is_there() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", local)) == 0

        until(f"port-forward to {what}", is_there)
        return local

    def controller(self, path: str = "/v1/cluster") -> Any:  # noqa: ANN401  JSON
        """What the controller that leads says to people."""
        import base64

        token = base64.b64decode(
            self.cluster.get("-n", NAMESPACE, "secret", "overhop-people")["data"]["token"]
        ).decode()
        address = self.cluster.get("-n", NAMESPACE, "service", "overhop-controller")["spec"]["clusterIP"]
        command = ["curl", "-sk", "-m", "5", "-H", f"Authorization: Bearer {token}"]
        return json.loads(self.cluster.exec("n1", *command, f"https://{address}:9443{path}"))

    def logs(self) -> str:
        """Of all agents and controllers."""
        selector = "app.kubernetes.io/component in (agent,controller)"
        return self.cluster.kubectl(
            "-n", NAMESPACE, "logs", "-l", selector, "--tail=-1", "--all-containers", "--prefix"
        )

    def close(self) -> None:
        """End what was begun here; the cluster's end is not ours."""
        for each in self._forwards:
            each.kill()
            each.wait()


def trace_ids(first: int, count: int) -> list[str]:
    """Trace ids that nobody else uses."""
    salt = int(time.time()) << 64
    return [f"{salt + first + number:032x}" for number in range(count)]


def unique(name: str) -> str:
    """A name that no earlier run used."""
    return f"{name}-{secrets.token_hex(3)}"


def request(cluster: Kubernetes, pod: str, address: str, ids: Sequence[str], port: int = 80) -> list[str]:
    """A request for each id from a pod; returns who answered."""
    script = "".join(
        f"printf 'GET / HTTP/1.1\\r\\ntraceparent: 00-{each}-00000000000000a1-01\\r\\nHost: x\\r\\n"
        f"Connection: close\\r\\n\\r\\n' | nc -w 5 {address} {port} | tail -1\n"
        for each in ids
    )
    return cluster.kubectl("exec", pod, "--", "sh", "-c", script).split()


@contextmanager
def installation(*options: str, install: Sequence[str] = ()) -> Iterator[Installation]:
    """A cluster of two nodes with overhop in it. `install`: options of `overhop cluster install`.

    OVERHOP_TEST_CLUSTER names the state directory of one that runs and stays, with this checkout's images.
    """
    kept = os.environ.get("OVERHOP_TEST_CLUSTER")
    if kept:
        with _installed(running(Path(kept)), install) as found:
            yield found
        return
    require_root()
    image = image_directory()
    with kubernetes("--nodes", "2", *options) as cluster:
        load_images(cluster, image)
        with _installed(cluster, install) as found:
            yield found


def load_images(cluster: Kubernetes, image: Path) -> None:
    """overhop and InfluxDB into every node."""
    with influxdb_directory() as influxdb:
        cluster.load_image("--rootfs", str(influxdb), "--image", INFLUXDB_IMAGE, "/entrypoint.sh")
    cluster.load_image("--rootfs", str(image), "--image", IMAGE, "overhop")


@contextmanager
def _installed(cluster: Kubernetes, options: Sequence[str]) -> Iterator[Installation]:
    found = Installation(cluster)
    with tempfile.TemporaryDirectory(prefix="overhop-installation-") as directory:
        try:
            found.install(*options)
            found.open_store(Path(directory))
            yield found
        finally:
            found.close()
