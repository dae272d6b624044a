# SPDX-License-Identifier: Apache-2.0
"""Takes overhop out of a cluster: cleans every node, then removes every object.

Cleaning is a DaemonSet of its own and not an exec into the agents: `overhop clean` wants the agent gone, and
must not depend on one that still runs well.
"""

import copy
from typing import Final

from collector.cluster.api import Api
from overhop.cluster.install import Say, apply
from overhop.cluster.manifests import AGENT, Object, Wish, path_of, shown, wished, workload_path
from overhop.cluster.present import delete, find, is_ready, linux_nodes, pods, until

CLEANER: Final = "overhop-clean"
_LABELS: Final = {"app.kubernetes.io/name": "overhop", "app.kubernetes.io/component": "clean"}
_COMMAND: Final = "/usr/local/bin/overhop clean && touch /tmp/cleaned && exec sleep 86400"


def uninstall(api: Api, namespace: str, timeout_s: float, say: Say) -> list[str]:
    """Clean every node, then remove everything. Returns nodes that were not reached. Raises ApiError.

    One that was interrupted is taken up again: the cleaners that it left know what agents were like.
    """
    path = workload_path("DaemonSet", namespace, AGENT)
    agents = find(api, path) or find(api, workload_path("DaemonSet", namespace, CLEANER))
    left: list[str] = []
    if agents is None:
        say("there are no agents: nothing is cleaned")
    else:
        delete(api, path)
        left = _clean(api, namespace, agents, timeout_s, say)
    for each in reversed(wished(Wish(image="", namespace=namespace, has_influxdb=True))):
        if delete(api, path_of(each)):
            say(f"{shown(each)}: removed")
    gone = until(lambda: find(api, f"/api/v1/namespaces/{namespace}") is None, timeout_s)
    say(f"namespace {namespace}: {'gone' if gone else 'still ending'}")
    return left


def _clean(api: Api, namespace: str, agents: Object, timeout_s: float, say: Say) -> list[str]:
    """Nodes that were not reached."""
    nodes = {each["metadata"]["name"] for each in linux_nodes(api)}
    if until(lambda: not pods(api, namespace, "agent"), timeout_s):
        say("agents: gone")
    else:
        names = sorted(each["spec"].get("nodeName", "no node") for each in pods(api, namespace, "agent"))
        say(f"agents: still ending on {', '.join(names)}")
    cleaner = cleaner_of(agents)
    apply(api, [cleaner], lambda _: None)
    done: set[str] = set()

    def is_done() -> bool:
        done.update(each["spec"]["nodeName"] for each in pods(api, namespace, "clean") if is_ready(each))
        return done >= nodes

    until(is_done, timeout_s)
    delete(api, path_of(cleaner))
    say(f"nodes: {len(nodes & done)} of {len(nodes)} cleaned")
    return sorted(nodes - done)


def cleaner_of(agents: Object) -> Object:
    """A DaemonSet that runs `overhop clean` where and as the agents run, and is ready once that is done."""
    spec = copy.deepcopy(agents["spec"])
    spec["selector"] = {"matchLabels": _LABELS}
    spec["template"]["metadata"] = {"labels": _LABELS}
    [container] = spec["template"]["spec"]["containers"]
    container |= {"name": "clean", "command": ["sh", "-c", _COMMAND]}
    container["readinessProbe"] = {"exec": {"command": ["test", "-f", "/tmp/cleaned"]}, "periodSeconds": 1}
    for key in ("args", "ports", "livenessProbe"):
        container.pop(key, None)
    spec["template"]["spec"]["terminationGracePeriodSeconds"] = 0
    spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}
    meta = {"name": CLEANER, "namespace": agents["metadata"]["namespace"], "labels": _LABELS}
    wanted = {key: spec[key] for key in ("selector", "template", "updateStrategy")}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta, "spec": wanted}
