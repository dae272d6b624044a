# SPDX-License-Identifier: Apache-2.0
"""What is seen in a cluster, what is not and why: what doctor says on every node, put together."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from collector.cluster.api import Api
from overhop.cluster.manifests import CONTROLLER, PEOPLE_SECRET, path_of, secret

_ORDER: Final = ("fail", "warn", "note", "ok")
_SILENT: Final = {
    "subject": "agent",
    "verdict": "fail",
    "fact": "the controller has heard nothing of this node",
    "advice": "overhop cluster status",
}
_SHOWN: Final = 3
Finding = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ClusterFinding:
    """A finding and the nodes that have it."""

    verdict: str
    subject: str
    fact: str
    advice: str
    nodes: tuple[str, ...]


def ask(api: Api, namespace: str, path: str) -> dict[str, Any]:
    """What the controller that leads says to people, by way of the API server. Raises ApiError."""
    found = api.get(path_of(secret(PEOPLE_SECRET, namespace, {})))
    token = base64.b64decode(found["data"]["token"]).decode("ascii").strip()
    proxy = f"/api/v1/namespaces/{namespace}/services/https:{CONTROLLER}:9443/proxy"
    return api.send("GET", proxy + path, more={"X-Overhop-Token": token})


def together(nodes: Mapping[str, Sequence[Finding] | None]) -> list[ClusterFinding]:
    """The same of several nodes once; what is most in the way first."""
    same: dict[tuple[str, str, str, str], list[str]] = {}
    for node, findings in sorted(nodes.items()):
        for each in findings or [_SILENT]:
            key = each["verdict"], each["subject"], each.get("fact", ""), each.get("advice", "")
            same.setdefault(key, []).append(node)
    found = [ClusterFinding(*key, tuple(names)) for key, names in same.items()]
    return sorted(found, key=lambda each: (_rank(each.verdict), -len(each.nodes), each.subject))


def rows(findings: Sequence[ClusterFinding], total: int) -> Iterator[tuple[str, ...]]:
    """Verdict, nodes, subject, fact, advice; what is good everywhere is left out."""
    for each in findings:
        if each.verdict != "ok":
            yield each.verdict, _nodes(each.nodes, total), each.subject, each.fact, each.advice


def blind(nodes: Mapping[str, Sequence[Finding] | None]) -> list[str]:
    """Nodes that are not traced: nothing is known of them, or something fails."""
    return sorted(
        name
        for name, findings in nodes.items()
        if not findings or any(each["verdict"] == "fail" for each in findings)
    )


def _rank(verdict: str) -> int:
    return _ORDER.index(verdict) if verdict in _ORDER else 0


def _nodes(names: Sequence[str], total: int) -> str:
    if len(names) == total:
        return f"all {total}" if total > 1 else names[0]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
