# SPDX-License-Identifier: Apache-2.0
"""What overhop must show in a real Kubernetes cluster (issue 6).

`./dev accept cluster [--only PART]...` prints PASS or FAIL with the number for each line and exits with 1 if
one failed. Clusters are real ones of two nodes on this machine; overhop is installed by its manifests.
"""

import argparse
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.accept import cluster_no_cri
from tests.accept.cluster_churn import Churn
from tests.accept.cluster_faults import Faults
from tests.accept.lines import ROOT, Line, Part, last_json, output, show
from tests.cluster import objects
from tests.cluster.installation import installation
from tests.kubernetes import Kubernetes, kubernetes, run, until

CHURN_PODS, CHURN_S = 300, 300.0
BUDGETS = {
    "plan_all_s": 60.0,
    "plan_one_change_ms": 50.0,
    "controller_rss_mb": 2000.0,
    "controller_cpu_share": 0.5,
    "agents_converged_s": 30.0,
    "inventory_250_pods_ms": 300.0,
}
SCHEMATHESIS = "schemathesis==4.32.5"
TOKEN = "0123456789abcdef0123"
_PASSED = re.compile(r"(\d+) passed")


def installed(_given: argparse.Namespace) -> Iterator[Line]:
    """The tests of an installed cluster, with kube-proxy in either mode, and without an overlay."""
    for mode, cni in (("iptables", "flannel"), ("nftables", "flannel"), ("iptables", "host-gw")):
        os.environ |= {"OVERHOP_TEST_PROXY_MODE": mode, "OVERHOP_TEST_CNI": cni}
        said = output("pytest", "-q", "tests/cluster/test_installed.py", check=False)
        yield _tests_line(f"installed, kube-proxy in {mode} mode, network {cni}", said)


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


def no_cri(_given: argparse.Namespace) -> Iterator[Line]:
    """Agents without the runtime's socket."""
    with installation(install=("--no-cri",)) as one:
        yield from cluster_no_cri.lines(one)


def _tests_line(name: str, said: str) -> Line:
    passed = _PASSED.search(said)
    failed = re.search(r"\d+ (failed|error)", said)
    last = said.strip().splitlines()[-1] if said.strip() else "no output"
    return Line(name, bool(passed) and not failed, last)


PARTS: dict[str, Part] = {
    "installed": installed,
    "security": security,
    "conformance": conformance,
    "budgets": budgets,
    "faults": faults,
    "churn": churn,
    "no-cri": no_cri,
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
