# SPDX-License-Identifier: Apache-2.0
"""The demo without sidecars: plain clients and servers, four routes, four kinds of context."""

from bpf.record import ContextKind
from overhop.demo.found import Route
from overhop.demo.scene import Call, Scene, Trip, url
from overhop.lab import Host, Lab

CONNECTIONS = 2
SERVICE_PORT, POD_PORT, NODE_PORT = 80, 8080, 30080
CONTEXTS = (ContextKind.W3C, ContextKind.B3_MULTI, ContextKind.B3_SINGLE, ContextKind.NONE)


def overlay_scene(lab: Lab) -> Scene:
    """A client and a server on n1, a server with a service on n2. Raises LabError."""
    n1, n2 = lab.nodes
    client = n1.pod("client", namespace="shop")
    cache = n1.pod("cache", namespace="shop")
    web = n2.pod("web", namespace="shop")
    for pod in (cache, web):
        pod.serve_http(POD_PORT)
    service = lab.service(
        "web",
        port=SERVICE_PORT,
        backends=[web],
        target_port=POD_PORT,
        node_port=NODE_PORT,
        namespace="shop",
    )
    routes = _routes(lab, client, cache, web)
    trips = tuple(Trip(host, route, context) for context in CONTEXTS for host, route in routes)
    return Scene(
        lab,
        trips,
        CONNECTIONS,
        rate_hz=None,
        outside=Call(lab.external, url(n1.address, NODE_PORT, "/")),
        inside=Call(client, url(service.vip, SERVICE_PORT, "/")),
    )


def _routes(lab: Lab, client: Host, cache: Host, web: Host) -> list[tuple[Host, Route]]:
    n1, n2 = (node.name for node in lab.nodes)
    vip, entry = lab.services[0].vip, lab.nodes[0].address
    overlay = ((n1, "tx"), (n2, "rx"))
    through = ((n1, "forward"), (n2, "rx"))
    return [
        (client, Route("service", "client", "service web", vip, SERVICE_PORT, overlay)),
        (client, Route("pod to pod", "client", "web", web.address, POD_PORT, overlay)),
        (client, Route("same node", "client", "cache", cache.address, POD_PORT, ((n1, "local"),))),
        (lab.external, Route("node port", "external", f"{n1}:{NODE_PORT}", entry, NODE_PORT, through)),
    ]
