# SPDX-License-Identifier: Apache-2.0
"""Which source of pods this node has: its runtimes (CRI, Docker), else its processes and routes."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from collector.node.pods.cri import SOCKETS, UNIMPLEMENTED, CriPods
from collector.node.pods.docker import SOCKETS as DOCKER_SOCKETS
from collector.node.pods.docker import DockerPods
from collector.node.pods.engine import EngineError
from collector.node.pods.grpc import GrpcError
from collector.node.pods.local import End, LocalPod, PodSource, with_interfaces
from collector.node.pods.processes import ProcessPods, addresses_of
from collector.node.pods.routes import AddressesBehind, RoutePods

AUTO: Final = "auto"
NONE: Final = "none"
RETRY_S: Final = 1.0
"""How long a socket is left alone where nobody answered, or somebody who tells no pods."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel is asked of the node's interfaces; agent.network has all of it."""

    links: Callable[[], Sequence[End]]
    """Raises OSError."""
    nsid_of: Callable[[int], int | None]
    """Number of a process's network namespace."""
    behind: AddressesBehind


class NoPods:
    """Nobody tells this node's pods: their interfaces are known, whose they are is not."""

    def __init__(self, problem: str) -> None:
        self.name = "nobody"
        self.problem = problem

    def pods(self) -> Sequence[LocalPod]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing to let go of."""


class SocketPods:
    """The runtime at a socket: CRI or Docker, whichever answers first; asked anew until one does."""

    def __init__(self, path: str) -> None:
        self.name = f"container runtime at {path}"
        self.problem = ""
        self.version = ""
        """The runtime's name and version; empty until it has answered."""
        self.is_other = False
        """Somebody answers there who has no CRI: containerd as Docker starts it."""
        self._path = path
        self._source: CriPods | DockerPods | None = None
        self._next_try_s = 0.0

    def pods(self) -> Sequence[LocalPod]:
        """The pods that are there."""
        source = self._source
        if source is None and time.monotonic() >= self._next_try_s:
            source = self._decided()
        if source is None:
            return ()
        found = source.pods()
        self.name, self.problem = source.name, source.problem
        return found

    def close(self) -> None:
        """Close the connection."""
        if self._source is not None:
            self._source.close()

    def _decided(self) -> CriPods | DockerPods | None:
        """One that is called like Docker's is asked as Docker first: it logs an error for a client of CRI."""
        docker = DockerPods(self._path, addresses_of)
        cri = CriPods(self._path)
        is_docker = os.path.basename(self._path).startswith("docker")
        reasons = []
        for each in (docker, cri) if is_docker else (cri, docker):
            try:
                self.version = each.version()
            except (GrpcError, EngineError) as error:
                each.close()
                reasons.append((each, error))
                continue
            self._source = each
            return each
        self.problem = f"{self.name}: {_common(reasons)}"
        self._next_try_s = time.monotonic() + RETRY_S
        self.is_other = any(
            isinstance(error, GrpcError) and error.code == UNIMPLEMENTED for _, error in reasons
        )
        return None


class KernelPods:
    """Without a runtime: processes behind the node's interfaces, and routes to those where none is seen."""

    def __init__(self, kernel: Kernel) -> None:
        self.name = "processes, routes and neighbours"
        self.problem = ""
        self._kernel = kernel
        self._processes = ProcessPods(kernel.links, kernel.nsid_of)
        self._routes = RoutePods(kernel.behind)

    def pods(self) -> Sequence[LocalPod]:
        """Without names: of each the interface, addresses, and the uid if its cgroup has one."""
        try:
            links = self._kernel.links()
        except OSError as error:
            self.problem = f"interfaces: {error.strerror or error}"
            return ()
        found = [
            pod
            for pod in with_interfaces(self._processes.pods(), links, self._kernel.nsid_of)
            if pod.interface
        ]
        owned = {pod.interface for pod in found}
        others = [pod for pod in self._routes.pods() if pod.interface not in owned]
        self.problem = self._processes.problem or self._routes.problem
        return (*found, *others)

    def close(self) -> None:
        """Nothing to let go of."""


class AutoPods:
    """Every runtime whose usual socket is there, CRI before Docker; where there is none, the kernel."""

    def __init__(
        self,
        kernel: Kernel,
        cri_sockets: Sequence[str] = SOCKETS,
        docker_sockets: Sequence[str] = DOCKER_SOCKETS,
    ) -> None:
        self.name = "no container runtime"
        self.problem = ""
        self._places = (cri_sockets, docker_sockets)
        self._open: dict[str, SocketPods] = {}
        self._kernel = KernelPods(kernel)

    def pods(self) -> Sequence[LocalPod]:
        """What a runtime does not know is asked of the next one; a pod that two know is the first one's."""
        runtimes = self._runtimes()
        found: dict[str, LocalPod] = {}
        for runtime in runtimes:
            for pod in runtime.pods():
                found.setdefault(pod.sandbox, pod)
        speaking = [each for each in runtimes if not each.is_other]
        if not speaking:
            return self._of_the_kernel()
        self.name = " and ".join(each.name for each in speaking)
        self.problem = next(filter(None, (each.problem for each in speaking)), "")
        return tuple(found.values())

    def close(self) -> None:
        """Close the connections."""
        for each in self._open.values():
            each.close()

    def versions(self) -> str:
        """Names of those that answered, with their versions."""
        said = [
            f"{each.name} ({each.version})" if each.version else each.name
            for each in self._open.values()
            if not each.is_other
        ]
        return " and ".join(said) or self.name

    def _of_the_kernel(self) -> Sequence[LocalPod]:
        found = self._kernel.pods()
        self.name, self.problem = f"no container runtime: {self._kernel.name}", self._kernel.problem
        return found

    def _runtimes(self) -> list[SocketPods]:
        """Of each kind the first that is there now; it may have come or gone."""
        present = [path for path in map(_first_present, self._places) if path]
        for gone in self._open.keys() - set(present):
            self._open.pop(gone).close()
        self._open = {path: self._open.get(path) or SocketPods(path) for path in present}
        return list(self._open.values())


def open_source(wanted: str, kernel: Kernel) -> PodSource:
    """`wanted`: the path of a runtime's socket; auto: whoever is there; none: nobody is asked."""
    if wanted == NONE:
        return NoPods("nobody is asked for the pods of this node (--cri none)")
    return AutoPods(kernel) if wanted == AUTO else SocketPods(wanted)


def described(source: PodSource) -> str:
    """The source with the runtime's version, for people, once it was asked for pods."""
    if isinstance(source, AutoPods):
        return source.versions()
    if isinstance(source, SocketPods) and source.version:
        return f"{source.name} ({source.version})"
    return source.name


def _first_present(paths: Iterable[str]) -> str:
    return next((path for path in paths if os.path.exists(path)), "")


def _common(reasons: Sequence[tuple[CriPods | DockerPods, GrpcError | EngineError]]) -> str:
    """One reason where both were the same, as for a socket that is not there."""
    texts = {str(error) for _, error in reasons}
    if len(texts) == 1:
        return texts.pop()
    kinds = {CriPods: "CRI", DockerPods: "Docker"}
    return "; ".join(f"{kinds[type(each)]}: {error}" for each, error in reasons)
