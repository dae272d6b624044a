# SPDX-License-Identifier: Apache-2.0
"""A request by hand in the lab that `overhop demo --serve` keeps up, and its trace in the store (issue 4)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

from tests.accept.lines import ROOT
from tests.accept.verdict import Verdict, until

REQUESTS = 5
KINDS = ["tx", "rx", "local"]
VISIBLE_S = 2.0
PATIENCE_S = 15.0
START_TIMEOUT_S = 120.0


@contextmanager
def served(directory: Path) -> Iterator[dict[str, Any]]:
    """The demo's JSON, while its lab is up; at the end Ctrl-C, which must end it well."""
    argv = (sys.executable, "-m", "overhop", "demo", "--json", "--serve", "--requests", "20")
    with subprocess.Popen(
        (*argv, "--store", str(directory / "store")), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as demo:
        try:
            yield json.loads(demo.stdout.readline() if demo.stdout else "")
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(START_TIMEOUT_S)


def overhop(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """One command of this checkout, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "overhop", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | (env or {}),
        check=False,
        timeout=START_TIMEOUT_S,
    )


def by_hand() -> Verdict:
    """curl from a pod with a trace context of one's own, then `overhop trace` until the hops are there."""
    verdict = Verdict("a request by hand is in overhop trace")
    with TemporaryDirectory(prefix="overhop-accept-") as name, served(Path(name)) as said:
        invitation = said["invitation"]
        for _ in range(REQUESTS):
            took_s = _one(verdict, invitation)
            worst_s = max(verdict.numbers.get("visible_after_s", 0.0), took_s)
            verdict.at_most("visible_after_s", worst_s, VISIBLE_S)
    return verdict


def _one(verdict: Verdict, invitation: dict[str, Any]) -> float:
    """Seconds from the request to the command that shows all of its hops, that command's time with it.

    From productpage's pod on n1 to reviews on n2, which asks ratings there.
    """
    trace_id = token_hex(16)
    command = invitation["inside"].replace(invitation["trace_id"], trace_id)
    begun_s = time.monotonic()
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=30)
    verdict.equal("curl", done.returncode, 0)
    hops = until(
        lambda: _hops(trace_id, invitation["store"]), lambda found: len(found) >= len(KINDS), PATIENCE_S
    )
    took_s = time.monotonic() - begun_s
    verdict.equal("kinds", [hop["kind"] for hop in hops], KINDS)
    for hop in hops[:1]:
        before, after = hop["destination_before_nat"], hop["destination"]
        verdict.equal("addresses differ by NAT", before != after, True)
        verdict.equal("offset", hop["context_offset_bytes"] > 0, True)
        verdict.numbers["shown"] = f"{hop['source']} to {before}, after NAT {after}, context at byte " + str(
            hop["context_offset_bytes"]
        )
    return took_s


def _hops(trace_id: str, store: str) -> list[dict[str, Any]]:
    done = overhop("trace", trace_id, "--json", "--store", store)
    hops: list[dict[str, Any]] = json.loads(done.stdout)["hops"] if done.returncode == 0 else []
    return hops
