# SPDX-License-Identifier: Apache-2.0
"""`python -m overhop.lab`: a lab to look around in, up until Ctrl-C."""

import argparse
import contextlib
import json
import signal
import sys

from overhop.lab import CNIS, Host, Lab, LabError
from overhop.lab.mesh import bookinfo
from overhop.lab.tracers import TRACERS
from overhop.lab.underlay import url_host
from overhop.sidecar.filters import MODES
from overhop.signals import ENDING, FirstOf


def main() -> int:
    """Build a lab, tell what is in it, wait for Ctrl-C or SIGTERM, remove it; return the exit code."""
    arguments = _arguments()
    try:
        lab = Lab.make(
            arguments.cni,
            arguments.nodes,
            ipv6=arguments.ipv6,
            offloads=not arguments.no_offloads,
            bridge_ageing=not arguments.flood,
        )
        with contextlib.suppress(KeyboardInterrupt), FirstOf(ENDING), lab:
            if arguments.mesh:
                bookinfo(lab, arguments.relocation, arguments.tracer)
            else:
                _populate(lab)
            sys.stdout.write(json.dumps(lab.topology()) + "\n" if arguments.json else _describe(lab))
            sys.stdout.flush()
            while True:
                signal.pause()
    except ValueError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 2
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev lab", description=__doc__)
    parser.add_argument("--cni", choices=CNIS, default="vxlan", help="docs/lab.md (default vxlan)")
    parser.add_argument("--nodes", type=int, default=2, help="number of nodes (default 2)")
    parser.add_argument("--ipv6", action="store_true", help="IPv6 addresses as well (vxlan)")
    parser.add_argument("--no-offloads", action="store_true", help="GRO, TSO and GSO off on all devices")
    parser.add_argument("--flood", action="store_true", help="bridge ageing 0: cni0 floods every packet")
    parser.add_argument("--mesh", action="store_true", help="Bookinfo behind sidecars in place of web")
    parser.add_argument("--relocation", choices=MODES, default="lua", help="of --mesh (default lua)")
    parser.add_argument("--tracer", choices=TRACERS, default="opentelemetry", help="of --mesh")
    parser.add_argument("--json", action="store_true", help="print the topology as one JSON object")
    return parser.parse_args()


def _populate(lab: Lab) -> None:
    """A client on each node, and a web service whose servers are on each node."""
    servers = []
    for node in lab.nodes:
        node.pod(f"client-{node.number}", namespace="shop", workload="client")
        server = node.pod(f"web-{node.number}", namespace="shop", workload="web")
        server.serve_http(80)
        servers.append(server)
    lab.service("web", port=80, backends=servers, node_port=30080)


def _describe(lab: Lab) -> str:
    lines = [f"lab {lab.name} is up"]
    for node in lab.nodes:
        lines.append(_line(node, "  "))
        lines += [_line(pod, "    ") for pod in node.pods]
    lines.append(_line(lab.external, "  "))
    for service in lab.services:
        backends = ", ".join(host.name for host in service.backends)
        ports = f"{url_host(service.vip)}:{service.port}, node port {service.node_port}"
        lines.append(f"  service {service.name}: {ports}, back ends {backends}")
    client = lab.nodes[0].pods[0]
    lines += [
        f"a shell in a pod:   nsenter --net={client.netns.path}",
        f"a request:          nsenter --net={client.netns.path} curl -s {_url(lab)}",
        f"a shell on a node:  nsenter --net={lab.nodes[0].netns.path}",
        "Ctrl-C ends the lab and everything in it.",
    ]
    return "\n".join(lines) + "\n"


def _url(lab: Lab) -> str:
    service = lab.services[0]
    port = "" if service.port == 80 else f":{service.port}"
    return f"http://{url_host(service.vip)}{port}/"


def _line(host: Host, indent: str) -> str:
    return f"{indent}{host.name:10} {', '.join(host.addresses):32} {host.netns.path}"


if __name__ == "__main__":
    sys.exit(main())
