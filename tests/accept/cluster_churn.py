# SPDX-License-Identifier: Apache-2.0
"""Pods that come and go, each sending requests as soon as it runs."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.accept.lines import Line
from tests.cluster import objects
from tests.cluster.installation import Installation, unique
from tests.kubernetes import KubernetesError

SETTLED_S = 45.0
TRACED_S = 1.0
RSS_GROWTH_MB = 8.0
WARM_PODS = 20
PAUSE_S = 0.1
REQUESTS = 40


@dataclass(frozen=True, slots=True)
class Held:
    """BPF links of a node's agent, veths of the node (its NIC is one here), descriptors of the agent."""

    links: int
    veths: int
    files: int

    @property
    def is_exact(self) -> bool:
        """In and out of each, and no more."""
        return self.links == 2 * self.veths


class Churn:
    """Short-lived pods that each send requests as soon as they run."""

    def __init__(self, one: Installation, pods: int, seconds: float) -> None:
        self._one, self._cluster = one, one.cluster
        self._pods, self._seconds = pods, seconds

    def lines(self) -> Iterator[Line]:
        """All of it."""
        cluster = self._cluster
        cluster.apply(*objects.web("web", 2))
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        address = cluster.get("service", "web")["spec"]["clusterIP"]
        self._churn(address, WARM_PODS, WARM_PODS * 1.0)
        before, held = self._memory(), self._held()
        since_s = time.time()
        sent = self._churn(address, self._pods, self._seconds)
        time.sleep(SETTLED_S)
        after = self._memory()
        found: dict[str, list[dict[str, Any]]] = self._one.hops_of(
            [each for ids in sent.values() for each in ids], since_s
        )
        late, untraced, wrong, first = [], [], [], 0
        for name, ids in sent.items():
            missed = [at for at, each in enumerate(ids) if not found[each]]
            first = max(first, next((at for at, each in enumerate(ids) if found[each]), 0))
            if len(missed) == len(ids):
                untraced.append(name)
            elif missed and missed[-1] >= len(missed):
                late.append(f"{name}: {missed}")
            elif len(missed) > TRACED_S / PAUSE_S:
                late.append(f"{name}: first {len(missed)}")
            hops = [hop for each in ids for hop in found[each] if hop["kind"] in ("tx", "local")]
            wrong += [f"{name} called {hop['src_pod']}" for hop in hops if hop["src_pod"] not in (name, "")]
        total = len(sent)
        yield Line(
            f"{total} pods, each traced within {TRACED_S:g} s",
            not late and not untraced,
            f"{len(untraced)} not traced, {len(late)} late {late[:3]}; the latest missed its first {first} "
            f"requests ({PAUSE_S:g} s each, from the moment it ran)",
        )
        yield Line("no wrong name", not wrong, f"{len(wrong)} wrong {wrong[:3]}")
        grown = {name: round(after[name] - before[name], 1) for name in before if name in after}
        yield Line(
            f"memory flat (+{RSS_GROWTH_MB:g} MB at most)",
            all(each <= RSS_GROWTH_MB for each in grown.values()),
            f"MB: {after}, grown {grown}",
        )
        now = self._held()
        yield Line(
            "nothing is left of pods that are gone",
            all(each.is_exact and each.files <= held[node].files for node, each in now.items()),
            f"before {held}, after {now}",
        )

    def _churn(self, address: str, pods: int, seconds: float) -> dict[str, list[str]]:
        """Trace ids by pod. A pod sends for some four seconds."""
        sent: dict[str, list[str]] = {}
        began_s = time.monotonic()
        for at in range(pods):
            due_s = began_s + at * seconds / pods
            time.sleep(max(0.0, due_s - time.monotonic()))
            name = unique("short")
            sent[name] = [secrets.token_hex(16) for _ in range(REQUESTS)]
            self._cluster.apply(objects.sender(name, address, sent[name], f"n{at % 2 + 1}", pause_s=PAUSE_S))
            if at % 20 == 19:
                self._cluster.kubectl(
                    "delete", "pod", "--field-selector=status.phase=Succeeded", "--wait=false"
                )
        time.sleep(15)
        self._cluster.kubectl("delete", "pod", "--field-selector=status.phase=Succeeded", "--wait=false")
        return sent

    def _memory(self) -> dict[str, float]:
        """RSS in MB of agents and of the controller that leads."""
        found = {}
        for node in self._cluster.nodes:
            for what in ("overhop agent", "overhop --log-json controller"):
                for pid in self._pids(node, what):
                    status = self._cluster.exec(node, "cat", f"/proc/{pid}/status")
                    kib = int(
                        next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
                    )
                    found[f"{node} {what.split()[-1]}"] = round(kib / 1000, 1)
        return found

    def _pids(self, node: str, what: str) -> list[str]:
        try:
            return self._cluster.exec(node, "pgrep", "-o", "-f", what).split()
        except KubernetesError:
            return []

    def _held(self) -> dict[str, Held]:
        """Of each node, after pods that ended are gone."""
        return {node: self._held_by(node) for node in self._cluster.nodes}

    def _held_by(self, node: str) -> Held:
        (pid,) = self._pids(node, "overhop agent")
        links = self._cluster.exec(node, "sh", "-c", f"cat /proc/{pid}/fdinfo/* | grep -c ^link_id")
        files = self._cluster.exec(node, "sh", "-c", f"ls /proc/{pid}/fd | wc -l")
        veths = self._cluster.exec(node, "ip", "-br", "link", "show", "type", "veth")
        return Held(int(links), len(veths.splitlines()), int(files))
