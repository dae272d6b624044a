# SPDX-License-Identifier: Apache-2.0
"""Network labs in namespaces, for the demo, the tests and the bench; nothing is made in the host's own.

    with Lab.make("vxlan", nodes=2) as lab:                                  # or vxlan6, ipip: docs/lab.md
        n1, n2 = lab.nodes
        client = n1.pod("client", namespace="shop")
        server = n2.pod("server", namespace="shop", workload="web")
        server.serve_http(port=80)
        vip = lab.service("web", port=80, backends=[server], node_port=30080)

        client.http(server, requests=1000, connections=16).require_ok()      # pod to pod, over the overlay
        client.http(vip, context="b3-multi")                                 # through DNAT
        n1.http(server)                                                      # from the host's network
        lab.external.http(n1, port=30080)                                    # node port
        running = client.start_http(vip, requests=5000, rate_hz=500)         # in the background
        n2.keep_plan(directory / "n2.yaml")                                  # for `overhop agent --plan`
        result = running.wait()                                              # trace_ids, status, errors

Each of nodes, pods and `lab.external` is a Host: `serve_http`, `http`, `start_http`, `popen`, `run`, and
`netns.entered()` to be inside with the calling thread. The options of `http` are the fields of
`http_client.Load`. `address` of a Host and `vip` of a Service are what to call, in every CNI's own family.
Everything vanishes when the `with` ends: normally, by an exception, Ctrl-C or SIGTERM. What a killed owner
left, the next lab (or `sweep()`) removes. Addresses: pods 10.244.N.0/24 and fd00:10:244:N::/64, services
10.96.0.0/16, nodes 172.18.0.10 + N, external 172.18.0.250.
"""

from overhop.lab.hosts import Host, Node, Pod, Service
from overhop.lab.http import HttpResult, RunningLoad
from overhop.lab.http_client import Load
from overhop.lab.lab import Lab
from overhop.lab.netns import LabError, Netns
from overhop.lab.options import CNIS, Cni
from overhop.lab.ownership import sweep

__all__ = [
    "CNIS",
    "Cni",
    "Host",
    "HttpResult",
    "Lab",
    "LabError",
    "Load",
    "Netns",
    "Node",
    "Pod",
    "RunningLoad",
    "Service",
    "sweep",
]
