# SPDX-License-Identifier: Apache-2.0
"""Things that happen to clusters, one after the other, under requests that go on."""

import json
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.accept.lines import Line
from tests.cluster import objects
from tests.cluster.installation import NAMESPACE, Installation, unique
from tests.kubernetes import Kubernetes, KubernetesError, until

CONVERGED_S = 30.0
SETTLED_S = 45.0
LOST_BY_KILL_S = 27.0
"""Rows of an open interval and those that wait for names are in the agent's memory (docs/controller.md)."""
LOST_BY_SWITCH = 2
"""Requests, ten a second, by kube-proxy's change of mode."""
INSTALLED_CONTRACT = "/opt/overhop/lib/python3.11/site-packages/agent/plan/contract.py"
"""In the image."""


_SWITCHED = """set -e
if [ ! -e /run/kube ]; then
    mkdir /run/kube
    cp -L {program} /run/kube/all
    cat >/run/kube.sh <<'END'
#!/bin/sh
name=$(basename "$0")
[ -e /run/kube/$name ] || ln -s all /run/kube/$name
[ $name != kube-proxy ] || set -- "$@" --proxy-mode "$(cat /run/proxy-mode)"
exec /run/kube/$name "$@"
END
    chmod +x /run/kube.sh
    mount --bind /run/kube.sh {program}
fi
echo {mode} >/run/proxy-mode
pkill -x kube-proxy"""
"""The program may be one for all of Kubernetes' parts, which goes by its name."""


class Requests:
    """Requests from a pod to a service, ten a second, until stopped; each with a trace id of its own."""

    def __init__(self, cluster: Kubernetes, address: str, on: str) -> None:
        self.name = unique("client")
        self.prefix = secrets.token_hex(12)
        self.began_s = time.time()
        self._cluster = cluster
        script = f"""i=0
while [ ! -f /tmp/stop ]; do
    id=$(printf '%s%08x' {self.prefix} $i)
    at=$(date +%s)
    head='GET / HTTP/1.1\\r\\ntraceparent: 00-%s-00000000000000a1-01\\r\\nHost: x'
    if printf "$head\\r\\nConnection: close\\r\\n\\r\\n" $id | nc -w 5 {address} 80 | grep -q '200 OK'
    then echo "$at $id ok"; else echo "$at $id failed"; fi
    i=$((i + 1))
    sleep 0.08
done"""
        container = {"name": "c", "image": "lab/base:1", "command": ["sh", "-c", script]}
        spec = {
            "nodeName": on,
            "containers": [container],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
        }
        meta = {"name": self.name, "namespace": "default"}
        cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        cluster.kubectl("wait", "--for=condition=ready", "--timeout=60s", f"pod/{self.name}")

    def stop(self) -> list[tuple[float, str, bool]]:
        """When each was sent (s), its trace id, and whether it was answered."""
        self._cluster.kubectl("exec", self.name, "--", "touch", "/tmp/stop")
        until("it stopped", lambda: self._cluster.get("pod", self.name)["status"]["phase"] == "Succeeded", 30)
        said = self._cluster.kubectl("logs", self.name)
        rows = re.findall(r"^(\d+) ([0-9a-f]{32}) (ok|failed)$", said, re.MULTILINE)
        return [(float(at), trace, how == "ok") for at, trace, how in rows]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happened, and from when to when."""

    name: str
    begin_s: float
    end_s: float
    converged_s: float
    blind_s: float | None = None
    """From this long before it requests may have no hops, until it is over; None: all have some."""


class Faults:
    """Faults in one cluster."""

    def __init__(self, one: Installation) -> None:
        self._one, self._cluster = one, one.cluster
        self._faults: list[Fault] = []

    def lines(self) -> Iterator[Line]:
        """All of it."""
        cluster = self._cluster
        cluster.apply(*objects.web("web", 4))
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        requests = Requests(cluster, cluster.get("service", "web")["spec"]["clusterIP"], "n1")
        time.sleep(15)
        self._fault("leader killed", self._kill_leader)
        self._fault(
            "agent of n1 killed -9", lambda: self._kill("n1", "overhop agent"), blind_s=LOST_BY_KILL_S
        )
        self._fault("kubelet of n1 killed", lambda: self._kill("n1", "/kubelet --config"))
        self._fault("containerd of n1 killed", lambda: self._kill("n1", "^containerd -c"))
        self._fault("API server hung for a minute", self._hang_api_server)
        for mode in ("nftables", "iptables"):
            self._fault(f"kube-proxy of n1 in {mode} mode", partial(self._switch_proxy, "n1", mode))
        controller, agents = "deployment/overhop-controller", "daemonset/overhop-agent"
        self._fault("controllers one contract ahead", partial(self._upgrade, controller), is_planned=False)
        self._fault("agents too", partial(self._upgrade, agents), blind_s=2.0)
        self._fault("controllers back, agents ahead", partial(self._roll_back, controller))
        self._fault("agents back", partial(self._roll_back, agents), blind_s=2.0)
        time.sleep(15)
        sent = requests.stop()
        time.sleep(SETTLED_S)
        yield self._failed_line(sent)
        for fault in self._faults:
            yield Line(
                f"{fault.name}: converged within {CONVERGED_S:g} s",
                fault.converged_s <= CONVERGED_S,
                f"{fault.converged_s:.1f} s",
            )
        yield from self._hop_lines(requests, sent)
        logs = self._one.logs()
        yield Line("no traceback in any log", "Traceback" not in logs, f"{len(logs.splitlines())} lines")

    def _failed_line(self, sent: Sequence[tuple[float, str, bool]]) -> Line:
        """kube-proxy removes the rules of its old mode before those of the new one are there."""
        failed = [at_s for at_s, _, is_good in sent if not is_good]
        switches = [each for each in self._faults if each.name.startswith("kube-proxy")]
        by_proxy = [
            at_s for at_s in failed if any(each.begin_s - 2 <= at_s <= each.end_s + 2 for each in switches)
        ]
        number = (
            f"{len(failed)} of {len(sent)} failed, {len(by_proxy)} of them by kube-proxy's change of mode"
        )
        number += " (without overhop each of 16 such changes failed one: docs/acceptance/cluster.md)"
        is_good = len(failed) == len(by_proxy) <= LOST_BY_SWITCH * len(switches)
        return Line("no request of users fails by overhop", is_good, number)

    def _hop_lines(self, requests: Requests, sent: Sequence[tuple[float, str, bool]]) -> Iterator[Line]:
        found = self._one.hops_of([trace for _, trace, _ in sent], requests.began_s)
        missing = [(at_s, trace) for at_s, trace, is_good in sent if is_good and not found[trace]]
        blind = [
            (each.begin_s - each.blind_s, each.end_s + each.converged_s + 2)
            for each in self._faults
            if each.blind_s is not None
        ]
        seen = [trace for at_s, trace in missing if not any(begin <= at_s <= end for begin, end in blind)]
        answered = sum(is_good for _, _, is_good in sent)
        number = f"{answered - len(missing)} of {answered} answered requests have hops"
        number += f", {len(missing) - len(seen)} others were in the memory of the agent that was killed"
        number += ", or sent while it was dead"
        yield Line("hops go on through everything else", not seen, number)
        names = {
            (hop["src_ns"], hop["src_pod"])
            for hops in found.values()
            for hop in hops
            if hop["kind"] in ("tx", "local")
        }
        wrong = names - {("default", requests.name), ("", "")}
        unknown = sum(hop["dst_workload"] != "web" for hops in found.values() for hop in hops)
        yield Line("no wrong name", not wrong, f"sources {sorted(names)}, {unknown} ends without a name")

    def _fault(
        self, name: str, happen: Callable[[], float], blind_s: float | None = None, is_planned: bool = True
    ) -> None:
        """`is_planned`: agents get plans when it is over."""
        begin_s = time.time()
        end_s = happen() or time.time()
        began_s = time.monotonic()
        until(f"{name}: converged", partial(self._is_converged, is_planned), 120)
        self._faults.append(Fault(name, begin_s, end_s, time.monotonic() - began_s, blind_s))
        print(f"{name}: {self._faults[-1].converged_s:.1f} s", file=sys.stderr)
        time.sleep(12)

    def _is_converged(self, is_planned: bool) -> bool:
        """A controller leads, every agent is there and waits for a plan, every agent's pod is ready."""
        try:
            found = self._one.controller()
            agents = all(
                each["has_agent"] and each["is_ready"] and each["waits"] >= is_planned
                for each in found["nodes"].values()
            )
            ready = json.loads(self._one.managed("status", "--json", expect=0))
        except (KubernetesError, ValueError, KeyError, OSError):
            return False
        return agents and not found["problems"] and all(each["is_ready"] for each in ready["nodes"])

    def _kill_leader(self) -> float:
        leader = self._one.controller()["leader"]
        self._cluster.kubectl("-n", NAMESPACE, "delete", "pod", leader, "--force", "--grace-period=0")
        return 0.0

    def _kill(self, node: str, pattern: str) -> float:
        self._cluster.exec(node, "pkill", "-9", "-f", pattern)
        time.sleep(1)
        return 0.0

    def _hang_api_server(self) -> float:
        pid = self._cluster.pid("kube-apiserver")
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(60)
        finally:
            os.kill(pid, signal.SIGCONT)
        return time.time()

    def _switch_proxy(self, node: str, mode: str) -> float:
        """kube-proxy gets another mode by a script in its place, in the node's mount namespace."""
        program = self._cluster.state / "bin" / "kube-proxy"
        self._cluster.exec(node, "sh", "-c", _SWITCHED.format(program=program, mode=mode))
        marks = {"iptables": ("iptables-save", "-t", "nat"), "nftables": ("nft", "list", "tables")}
        names = {"iptables": "KUBE-SVC-", "nftables": "kube-proxy"}
        until(
            f"kube-proxy in {mode} mode",
            lambda: names[mode] in self._cluster.exec(node, *marks[mode]),
            60,
        )
        return 0.0

    def _upgrade(self, what: str) -> float:
        """The next release, as far as it matters here: it speaks contract 3 and still reads 2."""
        import agent.plan.contract

        text = Path(agent.plan.contract.__file__).read_text()
        changes = {
            "CONTRACT: Final = 2": "CONTRACT: Final = 3",
            "contract: Literal[2] =": "contract: Literal[2, 3] =",
            "if contract != CONTRACT:": "if contract not in (2, 3):",
        }
        for old, new in changes.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        meta = {"name": "overhop-next-contract", "namespace": NAMESPACE}
        files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"contract.py": text}}
        self._cluster.apply(files)
        name = what.rsplit("-", maxsplit=1)[-1]
        mounted = {"name": "next-contract", "mountPath": INSTALLED_CONTRACT, "subPath": "contract.py"}
        patch = {
            "volumes": [{"name": "next-contract", "configMap": {"name": meta["name"]}}],
            "containers": [{"name": name, "volumeMounts": [mounted]}],
        }
        self._patched(what, json.dumps({"spec": {"template": {"spec": patch}}}))
        return 0.0

    def _roll_back(self, what: str) -> float:
        self._cluster.kubectl("-n", NAMESPACE, "rollout", "undo", what)
        self._await_rollout(what)
        return 0.0

    def _patched(self, what: str, patch: str) -> None:
        self._cluster.kubectl("-n", NAMESPACE, "patch", what, "-p", patch)
        self._await_rollout(what)

    def _await_rollout(self, what: str) -> None:
        """Not by `kubectl rollout status`: the controller that does not lead is never ready."""
        until(f"{what} is rolled out", lambda: self._is_rolled_out(what), 120)

    def _is_rolled_out(self, what: str) -> bool:
        found = self._cluster.get("-n", NAMESPACE, what)
        status, wanted = found["status"], found["spec"].get("replicas", len(self._cluster.nodes))
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            return False
        if what.startswith("deployment"):
            return bool(status.get("updatedReplicas") == status.get("replicas") == wanted)
        return bool(status.get("updatedNumberScheduled") == status.get("numberReady") == wanted)
