# SPDX-License-Identifier: Apache-2.0
"""The demo with sidecars: one kind of request, from outside through the four services of Bookinfo."""

from bpf.record import ContextKind
from overhop.demo.found import Route
from overhop.demo.scene import Call, Scene, Trip, url
from overhop.lab import Lab
from overhop.lab.mesh import STOPS, bookinfo
from overhop.lab.tracers import Tracer
from overhop.sidecar.filters import Mode

CONNECTIONS = 4
RATE_HZ = 100.0
"""Requests per second: 300 hops/s on the busier node, of which an agent keeps every one."""


def bookinfo_scene(lab: Lab, relocation: Mode, tracer: Tracer) -> Scene:
    """Bookinfo, called through the node port of its productpage. Raises LabError, EnvoyMissingError."""
    mesh = bookinfo(lab, relocation, tracer)
    route = Route("bookinfo", "external", f"{lab.nodes[0].name}:{mesh.port}", mesh.address, mesh.port, STOPS)
    trip = Trip(lab.external, route, ContextKind.W3C, mesh.path)
    reviews = mesh.services["reviews"]
    return Scene(
        lab,
        (trip,),
        CONNECTIONS,
        RATE_HZ,
        outside=Call(lab.external, url(mesh.address, mesh.port, mesh.path)),
        inside=Call(mesh.pods["productpage"], url(reviews.vip, reviews.port, "/reviews/0")),
        sidecar_offset_bytes=mesh.context_offset_bytes,
        relocation=mesh.relocation,
    )
