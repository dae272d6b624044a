# SPDX-License-Identifier: Apache-2.0
"""What overhop must show in a real Kubernetes cluster (issue 6).

`./dev accept cluster [--only PART]...` prints PASS or FAIL with the number for each line and exits with 1 if
one failed. Clusters are real ones of two nodes on this machine; overhop is installed by its manifests.
"""

import argparse
import json
import os
import re
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.accept.lines import ROOT, Line, Part, last_json, output, show
from tests.cluster import objects
from tests.cluster.installation import NAMESPACE, Installation, installation, unique
from tests.kubernetes import Kubernetes, KubernetesError, kubernetes, run, until

CONVERGED_S = 30.0
SETTLED_S = 45.0
TRACED_S = 1.0
CHURN_PODS, CHURN_S = 300, 300.0
RSS_GROWTH_MB = 8.0
BUDGETS = {
    "plan_all_s": 60.0,
    "plan_one_change_ms": 50.0,
    "controller_rss_mb": 2000.0,
    "controller_cpu_share": 0.5,
    "agents_converged_s": 30.0,
}
SCHEMATHESIS = "schemathesis==4.32.5"
TOKEN = "0123456789abcdef0123"
LOST_BY_KILL_S = 27.0
"""Rows of an open interval and those that wait for names are in the agent's memory (docs/controller.md)."""
_PASSED = re.compile(r"(\d+) passed")


def installed(_given: argparse.Namespace) -> Iterator[Line]:
    """The tests of an installed cluster, with kube-proxy in either mode."""
    for mode in ("iptables", "nftables"):
        os.environ["OVERHOP_TEST_PROXY_MODE"] = mode
        said = output("pytest", "-q", "tests/cluster/test_installed.py", check=False)
        yield _tests_line(f"installed, kube-proxy in {mode} mode", said)


def security(_given: argparse.Namespace) -> Iterator[Line]:
    """Tokens, limits, bad input, by tests on a real API server."""
    said = output("pytest", "-q", "tests/cluster/test_controller.py", check=False)
    yield _tests_line(
        "tokens of others, unbound, for somebody else, of dead pods; limits; wrong questions", said
    )


def conformance(_given: argparse.Namespace) -> Iterator[Line]:
    """Schemathesis, which is installed for this alone, against the controller's OpenAPI description."""
    with (
        tempfile.TemporaryDirectory(prefix="overhop-schemathesis-") as text,
        kubernetes("--api-only") as cluster,
    ):
        directory = Path(text)
        (directory / "schemathesis.toml").write_text('[parameters]\nnode = "n1"\n')
        venv = directory / "venv"
        run([sys.executable, "-m", "venv", str(venv)])
        run([str(venv / "bin" / "pip"), "install", "-q", SCHEMATHESIS], timeout_s=300)
        cluster.apply(objects.node("n1", "10.0.0.1"), objects.namespace("overhop"))
        with _unlimited_controller(cluster) as port:
            command = [str(venv / "bin" / "st"), "--config-file", str(directory / "schemathesis.toml"), "run"]
            command += [f"http://127.0.0.1:{port}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}"]
            said = run([*command, "--max-examples", "200"], timeout_s=600, allowed=(0, 1), cwd=directory)
    cases = re.search(r"(\d+) generated, [^\n]*", said)
    number = cases[0] if cases else said.strip().splitlines()[-1]
    yield Line(f"{SCHEMATHESIS} finds nothing", "No issues found" in said, number)


@contextmanager
def _unlimited_controller(cluster: Kubernetes) -> Iterator[int]:
    """One that does not mind how often it is asked; its port."""
    from collector.cluster.api import connect
    from dispatcher import gate
    from dispatcher.controller import Controller, ControllerConfig
    from dispatcher.identity import TokenFile

    gate.RATE_PER_S = gate.BURST = 1e9  # type: ignore[misc]  # of this process only
    api = connect(str(cluster.kubeconfig))
    config = ControllerConfig("127.0.0.1", 0, identities=TokenFile(f"n1 {TOKEN}"), people=lambda: TOKEN)
    one = Controller(api, config)
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        until("it leads", lambda: one.port and one.is_ready, 30)
        yield one.port
    finally:
        one.ask_end()
        thread.join(timeout=20)
        api.close()


def budgets(_given: argparse.Namespace) -> Iterator[Line]:
    """The control plane at its full size."""
    found = last_json("bench.control_plane", "--json")
    for name, most in BUDGETS.items():
        yield Line(f"{name} at most {most:g}", found[name] <= most, f"{found[name]:g}")


def faults(_given: argparse.Namespace) -> Iterator[Line]:
    """Things that happen to clusters, one after the other, under requests that go on."""
    with installation() as one:
        yield from Faults(one).lines()


def churn(given: argparse.Namespace) -> Iterator[Line]:
    """Pods that come and go."""
    with installation() as one:
        yield from Churn(one, given.pods, given.seconds).lines()


def _tests_line(name: str, said: str) -> Line:
    passed = _PASSED.search(said)
    failed = re.search(r"\d+ (failed|error)", said)
    last = said.strip().splitlines()[-1] if said.strip() else "no output"
    return Line(name, bool(passed) and not failed, last)


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
    """What happened, from when to when, and whose hops may be missing meanwhile (empty: nobody's)."""

    name: str
    begin_s: float
    end_s: float
    converged_s: float
    blind: str = ""


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
        self._fault("agent of n1 killed -9", lambda: self._kill("n1", "overhop agent"), blind="n1")
        self._fault("kubelet of n1 killed", lambda: self._kill("n1", "/kubelet --config"))
        self._fault("containerd of n1 killed", lambda: self._kill("n1", "^containerd -c"))
        self._fault("API server hung for a minute", self._hang_api_server)
        time.sleep(15)
        sent = requests.stop()
        time.sleep(SETTLED_S)
        failed = [trace for _, trace, is_good in sent if not is_good]
        yield Line("no request of users fails", not failed, f"{len(failed)} of {len(sent)} failed")
        for fault in self._faults:
            yield Line(
                f"{fault.name}: converged within {CONVERGED_S:g} s",
                fault.converged_s <= CONVERGED_S,
                f"{fault.converged_s:.1f} s",
            )
        yield from self._hop_lines(requests, sent)
        logs = self._one.logs()
        yield Line("no traceback in any log", "Traceback" not in logs, f"{len(logs.splitlines())} lines")

    def _hop_lines(self, requests: Requests, sent: Sequence[tuple[float, str, bool]]) -> Iterator[Line]:
        found = self._one.hops_of([trace for _, trace, _ in sent], requests.began_s)
        missing = [(at_s, trace) for at_s, trace, _ in sent if not found[trace]]
        blind = [
            (each.begin_s - LOST_BY_KILL_S, each.end_s + each.converged_s + 2)
            for each in self._faults
            if each.blind
        ]
        seen = [trace for at_s, trace in missing if not any(begin <= at_s <= end for begin, end in blind)]
        number = f"{len(sent) - len(missing)} of {len(sent)} requests have hops"
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

    def _fault(self, name: str, happen: Callable[[], float], blind: str = "") -> None:
        begin_s = time.time()
        end_s = happen() or time.time()
        began_s = time.monotonic()
        until(f"{name}: converged", self._is_converged, 120)
        self._faults.append(Fault(name, begin_s, end_s, time.monotonic() - began_s, blind))
        print(f"{name}: {self._faults[-1].converged_s:.1f} s", file=sys.stderr)
        time.sleep(12)

    def _is_converged(self) -> bool:
        """A controller leads, every agent waits for a plan there, every agent's pod is ready."""
        try:
            found = self._one.controller()
            agents = all(
                each["has_agent"] and each["waits"] and each["is_ready"] for each in found["nodes"].values()
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
        before = self._memory()
        since_s = time.time()
        sent = self._churn(address)
        time.sleep(SETTLED_S)
        after = self._memory()
        found: dict[str, list[dict[str, Any]]] = self._one.hops_of(
            [each for ids in sent.values() for each in ids], since_s
        )
        late, untraced, wrong = [], [], []
        for name, ids in sent.items():
            missed = [at for at, each in enumerate(ids) if not found[each]]
            if len(missed) == len(ids):
                untraced.append(name)
            elif missed and missed[-1] >= len(missed):
                late.append(f"{name}: {missed}")
            elif len(missed) > TRACED_S / 0.1:
                late.append(f"{name}: first {len(missed)}")
            hops = [hop for each in ids for hop in found[each] if hop["kind"] in ("tx", "local")]
            wrong += [f"{name} called {hop['src_pod']}" for hop in hops if hop["src_pod"] not in (name, "")]
        total = len(sent)
        yield Line(
            f"{total} pods, each traced within {TRACED_S:g} s",
            not late and not untraced,
            f"{len(untraced)} not traced, {len(late)} late {late[:3]}",
        )
        yield Line("no wrong name", not wrong, f"{len(wrong)} wrong {wrong[:3]}")
        grown = {name: round(after[name] - before[name], 1) for name in before if name in after}
        yield Line(
            f"memory flat (+{RSS_GROWTH_MB:g} MB at most)",
            all(each <= RSS_GROWTH_MB for each in grown.values()),
            f"MB: {after}, grown {grown}",
        )
        left = {node: self._filters(node) for node in cluster.nodes}
        yield Line(
            "nothing is left of pods that are gone",
            all(count <= 8 for count in left.values()),
            f"programs attached: {left}",
        )

    def _churn(self, address: str) -> dict[str, list[str]]:
        """Trace ids by pod. A pod sends 40 requests, 0.1 s apart, so that it lives four seconds."""
        sent: dict[str, list[str]] = {}
        began_s = time.monotonic()
        for at in range(self._pods):
            due_s = began_s + at * self._seconds / self._pods
            time.sleep(max(0.0, due_s - time.monotonic()))
            name = unique("short")
            sent[name] = [secrets.token_hex(16) for _ in range(40)]
            self._cluster.apply(objects.sender(name, address, sent[name], f"n{at % 2 + 1}", pause_s=0.1))
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

    def _filters(self, node: str) -> int:
        return self._cluster.exec(node, "bpftool", "net", "show").count("oh_")


PARTS: dict[str, Part] = {
    "installed": installed,
    "security": security,
    "conformance": conformance,
    "budgets": budgets,
    "faults": faults,
    "churn": churn,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="./dev accept cluster", description=__doc__)
    parser.add_argument("--pods", type=int, default=CHURN_PODS, help="of the churn")
    parser.add_argument("--seconds", type=float, default=CHURN_S, help="of the churn")
    assert ROOT.is_dir()
    return show(parser, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
