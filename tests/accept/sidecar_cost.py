# SPDX-License-Identifier: Apache-2.0
"""Latency of requests through meshes with each variant, all there at once, in alternating rounds."""

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from overhop.lab import Lab
from overhop.lab.mesh import Mesh, bookinfo
from overhop.sidecar.filters import Mode
from overhop.sidecar.module import ModuleMissingError, module_directory

CONNECTIONS = 4
PROXIES = 7
"""That a request passes one after the other: in, out to details, in, out to reviews, in, out, in."""


def variants() -> list[Mode]:
    """Those that can be measured here; the original comes first."""
    try:
        module_directory()
    except ModuleMissingError:
        return ["off", "lua"]
    return ["off", "lua", "native"]


def latencies_us(
    measured: Sequence[Mode], rounds: int, requests: int, rate_hz: float
) -> dict[Mode, list[float]]:
    """Medians, one for each round, of requests through a mesh at that rate."""
    with ExitStack() as stack:
        meshes = {variant: _mesh(stack, variant) for variant in measured}
        found: dict[Mode, list[float]] = {variant: [] for variant in measured}
        for number in range(rounds + 1):
            for variant in _turned(measured, number):
                lab, mesh = meshes[variant]
                result = lab.external.http(
                    str(mesh.address),
                    mesh.port,
                    path=mesh.path,
                    requests=requests,
                    connections=CONNECTIONS,
                    rate_hz=rate_hz,
                    timeout_s=60.0 + requests / rate_hz,
                ).require_ok()
                if number:  # the first round warms up
                    found[variant].append(float(np.median(result.latency_ns)) / 1000)
        return found


def _turned(measured: Sequence[Mode], number: int) -> list[Mode]:
    """Each comes first in turn."""
    at = number % len(measured)
    return [*measured[at:], *measured[:at]]


def _mesh(stack: ExitStack, variant: Mode) -> tuple[Lab, Mesh]:
    lab = stack.enter_context(Lab.make(nodes=2))
    return lab, bookinfo(lab, variant)
