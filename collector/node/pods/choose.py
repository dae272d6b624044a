# SPDX-License-Identifier: Apache-2.0
"""Which source of pods this node has."""

import os
from collections.abc import Sequence
from typing import Final

from collector.node.pods.cri import SOCKETS, CriPods
from collector.node.pods.grpc import GrpcError
from collector.node.pods.local import LocalPod, PodSource

AUTO: Final = "auto"
NONE: Final = "none"


class NoPods:
    """Nobody tells this node's pods: their interfaces are known, whose they are is not."""

    def __init__(self, problem: str) -> None:
        self.name = "no container runtime"
        self.problem = problem

    def pods(self) -> Sequence[LocalPod]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing to let go of."""


def open_source(wanted: str = AUTO) -> PodSource:
    """`wanted`: the path of a CRI socket; auto: the first usual one that is there; none: nobody is asked."""
    if wanted == NONE:
        return NoPods("nobody is asked for the pods of this node (--cri none)")
    paths = SOCKETS if wanted == AUTO else (wanted,)
    present = [path for path in paths if os.path.exists(path)]
    if not present:
        looked = ", ".join(paths)
        return NoPods(f"no container runtime: there is no {looked}")
    return CriPods(present[0])


def described(source: PodSource) -> str:
    """The source with the runtime's version, for people."""
    if not isinstance(source, CriPods):
        return source.name
    try:
        return f"{source.name} ({source.version()})"
    except GrpcError as error:
        return f"{source.name}: {error}"
