# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes for tests and benchmarks: of nodes in network namespaces, or the API server alone.

Found by OVERHOP_CLUSTER (the program), else ../shared/cluster beside the checkout.
"""

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.require import require, require_commands, require_root

_ROOT = Path(__file__).resolve().parents[1]
_UP_TIMEOUT_S = 150.0
_DOWN_TIMEOUT_S = 60.0
_RUN_TIMEOUT_S = 60.0
NODE_COMMANDS = ("containerd", "runc", "iptables", "nft", "busybox", "nsenter", "openssl")


class KubernetesError(Exception):
    """A command of the cluster failed; its output."""


def cluster_program() -> Path | None:
    """The program that starts clusters."""
    named = os.environ.get("OVERHOP_CLUSTER")
    found = Path(named) if named else _ROOT.parent / "shared" / "cluster"
    return found if found.is_file() else None


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """A cluster that runs."""

    program: Path
    name: str
    state: Path

    @property
    def kubeconfig(self) -> Path:
        """Of somebody who may do everything."""
        return self.state / "admin.kubeconfig"

    @property
    def facts(self) -> dict[str, Any]:
        """Of the program: server, nodes."""
        found: dict[str, Any] = json.loads((self.state / "cluster.json").read_text())
        return found

    @property
    def nodes(self) -> list[str]:
        """Names of its nodes."""
        return [each["name"] for each in self.facts["nodes"]]

    def kubectl(self, *arguments: str, stdin: str | None = None, allowed: Sequence[int] = (0,)) -> str:
        """What kubectl prints. Raises KubernetesError: its exit code is none of those `allowed`."""
        command = [str(self.state / "bin" / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        return run(command, stdin, allowed=allowed)

    def get(self, *arguments: str) -> Any:  # noqa: ANN401  JSON
        """`kubectl get ... -o json`."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: object) -> None:
        """Create or change objects (JSON)."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)

    def exec(self, node: str, *command: str, stdin: str | None = None) -> str:
        """What a command prints inside a node. Raises KubernetesError."""
        return run(self.argv(node, *command), stdin)

    def argv(self, node: str, *command: str) -> list[str]:
        """How to run a command inside a node."""
        return [str(self.program), "exec", *self._named(), node, *command]

    def load_image(self, *arguments: str) -> None:
        """An image into every node."""
        run([str(self.program), "load-image", *self._named(), *arguments], timeout_s=_UP_TIMEOUT_S)

    def pid(self, process: str) -> int:
        """Of a process of the control plane, such as kube-apiserver."""
        for line in (self.state / "pids").read_text().splitlines():
            pid, _, name = line.split()
            if name == process:
                return int(pid)
        raise KubernetesError(f"no process {process}")

    def _named(self) -> tuple[str, ...]:
        return "--name", self.name, "--state", str(self.state)


@contextmanager
def kubernetes(*options: str) -> Iterator[Kubernetes]:
    """`cluster up` with these options; gone at the end. Skips (CI: fails) where something is missing."""
    program = cluster_program()
    require(program, "a program that starts Kubernetes (OVERHOP_CLUSTER, or ../shared/cluster)")
    assert program is not None
    if "--api-only" not in options:
        require_root()
        require_commands(*NODE_COMMANDS)
    directory = Path(tempfile.mkdtemp(prefix="overhop-kubernetes-"))
    cluster = Kubernetes(program, "o" + secrets.token_hex(3), directory / "state")
    named = ("--name", cluster.name, "--state", str(cluster.state))
    try:
        run([str(program), "up", *named, *options], timeout_s=_UP_TIMEOUT_S)
        yield cluster
    finally:
        try:
            run([str(program), "down", *named], timeout_s=_DOWN_TIMEOUT_S)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def running(state: Path) -> Kubernetes:
    """The cluster with this state directory."""
    program = cluster_program()
    require(program, "a program that starts Kubernetes (OVERHOP_CLUSTER, or ../shared/cluster)")
    assert program is not None
    return Kubernetes(program, json.loads((state / "cluster.json").read_text())["name"], state)


def run(
    command: Sequence[str],
    stdin: str | None = None,
    timeout_s: float = _RUN_TIMEOUT_S,
    allowed: Sequence[int] = (0,),
    cwd: Path | None = None,
) -> str:
    """What a command prints. Raises KubernetesError with what it said."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KubernetesError(f"{' '.join(command)}: not done after {timeout_s:g} s") from None
    if done.returncode not in allowed:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise KubernetesError(f"{' '.join(command)}: {done.returncode}: {said}")
    return done.stdout


def until(what: str, condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:  # noqa: ANN401
    """What `condition` returns once it is true; fails after that time."""
    end = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not after {timeout_s:g} s: {what}")
        time.sleep(0.02)
