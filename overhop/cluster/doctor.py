# SPDX-License-Identifier: Apache-2.0
"""What is seen in a cluster, what is not and why: what doctor says on every node, put together."""

import base64
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from collector.cluster.api import Api, ApiError
from overhop.cluster.install import controllers
from overhop.cluster.manifests import CA_CONFIG, CONTROLLER, PEOPLE_SECRET, config_map, path_of, secret

PORT: Final = 9443
_TIMEOUT_S: Final = 20.0

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
    """What the controller that leads says to people, by port-forward. Raises ApiError."""
    leader = next((name for name, leads in controllers(api, namespace) if leads), None)
    if leader is None:
        raise ApiError(0, "no controller leads", f"namespace {namespace}")
    people = api.get(path_of(secret(PEOPLE_SECRET, namespace, {})))
    token = base64.b64decode(people["data"]["token"]).decode("ascii").strip()
    trusted = api.get(path_of(config_map(CA_CONFIG, namespace, {})))["data"]["ca.crt"]
    context = ssl.create_default_context(cadata=trusted)
    with api.forwarded(namespace, leader, PORT) as plain:
        connection = http.client.HTTPConnection(CONTROLLER, timeout=_TIMEOUT_S)
        connection.sock = context.wrap_socket(plain, server_hostname=CONTROLLER)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            found = json.loads(answer.read())
        except (http.client.HTTPException, ValueError) as error:
            raise ApiError(0, f"the controller's answer: {error}", path) from None
        finally:
            connection.close()
    if answer.status != 200:
        raise ApiError(answer.status, str(found.get("detail", "refused")), f"controller: {path}")
    return dict(found)


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


def drift_lines(nodes: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    """A line for each difference, and for each node whose rules are not known or not compared."""
    for name, each in nodes.items():
        if each is None:
            yield f"{name}: its agent has not sent its rules yet"
            continue
        for one in each["drift"]:
            since = datetime.fromtimestamp(one["since_s"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            place = f"{one['address'] or 'node port'}:{one['port']}/{one['protocol']}"
            yield f"{name}: {one['service']} {place}: {one['what']} {one['backend']} since {since}".replace(
                "  ", " "
            )
        yield from (f"{name}: {family}: not compared: {why}" for family, why in each["not_compared"].items())
        if each["not_understood"]:
            yield f"{name}: {each['not_understood']} rules were not understood"
    known = [each for each in nodes.values() if each]
    count = sum(len(each["drift"]) for each in known)
    yield f"{count} differences on {len(known)} of {len(nodes)} nodes"
