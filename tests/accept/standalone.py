# SPDX-License-Identifier: Apache-2.0
"""Everything that overhop on one machine must show (issue 4), in full.

`./dev accept standalone [--soak SECONDS] [--hops N] [--only PART]...` prints PASS or FAIL with the number for
each line and exits with 1 if one failed; what the parts say meanwhile goes to standard error.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.store_data import Shape, fill
from store import histogram
from tests.accept.by_hand import by_hand, overhop
from tests.accept.demo import Run, demo_s, fresh_clone, problems, run
from tests.accept.lines import Line, Part, last_json, show
from tests.accept.oddities import oddities
from tests.accept.store_cost import store_cost, writer_memory
from tests.accept.store_disk import store_disk
from tests.accept.store_soak import soak

REQUESTS = 400
FRESH_S_MAX = 300.0
AFTERWARDS_S_MAX = 40.0
SINCE_S_MAX = 1.0
SINCE_RUNS = 7
OLDER_HOPS = 1.15
"""Filling takes minutes, by which the first hops are older than an hour when they are asked for."""
AGGREGATE_HOPS_PER_S = 200_000
HISTOGRAM_ERROR_MAX = 0.02
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


def demo(_given: argparse.Namespace) -> Iterator[Line]:
    """The sidecar mesh from a fresh clone: each overlay, and a window that is too small."""
    with fresh_clone() as clone:
        first = run(clone, REQUESTS)
        yield _demo_line("demo, fresh clone, vxlan", first, FRESH_S_MAX)
        for cni in ("ipip", "vxlan6"):
            done = run(clone, REQUESTS, "--cni", cni)
            yield _demo_line(f"demo, {cni}", done, AFTERWARDS_S_MAX, encap=cni.removesuffix("6"))
        yield _small_window(run(clone, REQUESTS, "--window", "200"))
        yield _demo_line("demo, without sidecars", run(clone, REQUESTS, "--no-sidecar"), AFTERWARDS_S_MAX)


def _demo_line(name: str, done: Run, seconds: float, encap: str = "vxlan") -> Line:
    wrong = problems(done, REQUESTS)
    if wrong:
        return Line(name, passed=False, number="; ".join(wrong))
    said: dict[str, Any] = json.loads(done.out)  # parsed JSON
    if done.seconds > seconds:
        wrong.append(f"took {done.seconds:.1f} s, at most {seconds:.0f} s")
    nics = {(sight["kind"], *sight["encaps"]) for sight in said["sights"] if _crosses(sight)}
    if nics != {("tx", encap), ("rx", encap)} and nics != {("tx", encap), ("rx", encap), ("forward", encap)}:
        wrong.append(f"encapsulation at the NICs: {sorted(nics)}")
    number = (
        f"{said['traces_found']} of {said['requests']} requests found, {sum(said['hops_recorded'].values())}"
        f" of {said['hops_expected']} hops, {encap} at both NICs, demo {demo_s(said):.1f} s, all in all"
        f" {done.seconds:.1f} s"
    )
    return Line(name, not wrong, "; ".join([*wrong, number]))


def _crosses(sight: Mapping[str, Any]) -> bool:
    """Whether those hops were between two nodes; requests from outside are not encapsulated."""
    return sight["kind"] != "local" and list(sight["encaps"]) != ["none"]


def _small_window(done: Run) -> Line:
    said: dict[str, Any] = json.loads(done.out)  # parsed JSON
    behind = [s for s in said["sights"] if (s["node"], s["kind"]) != ("n1", "rx")]
    found = sum(sight["with_context"] for sight in behind)
    told = "200 bytes searched" in done.err
    traces, says = said["traces_found"], done.err.splitlines()[-1]
    number = f"{found} contexts in stock order found, {traces} traces; it says: {says}"
    return Line("demo, window 200", found == 0 and said["traces_found"] == 0 and told, number)


def request_by_hand(_given: argparse.Namespace) -> Iterator[Line]:
    """curl with a trace context of one's own."""
    yield Line.of(by_hand())


def since(given: argparse.Namespace) -> Iterator[Line]:
    """Ten million hops of the last hour, asked by the command line, process start with it."""
    with TemporaryDirectory(prefix="overhop-accept-") as name:
        store = Path(name) / "store"
        more = int(given.hops * OLDER_HOPS)
        for _ in fill(store, Shape(hops=more)):
            pass
        yield _since(store, given.hops, ())
        yield _since(store, None, ("--min-latency", "50"))
        yield _since(store, None, ("--workload", "workload-7"))


def _since(store: Path, hops: int | None, more: tuple[str, ...]) -> Line:
    took_s = []
    said: dict[str, Any] = {}  # parsed JSON
    for _ in range(SINCE_RUNS):
        begun_s = time.monotonic()
        done = overhop("hops", "--since", "1h", "--json", "--store", str(store), *more)
        took_s.append(time.monotonic() - begun_s)
        if done.returncode != 0:
            return Line("hops --since 1h", passed=False, number=done.stderr.strip())
        said = json.loads(done.stdout)
    counted = sum(row["count"] for row in said["rows"])
    number = (
        f"{statistics.median(took_s):.2f} s (median of {SINCE_RUNS}, {min(took_s):.2f} to {max(took_s):.2f}),"
        f" {counted:,} hops in {len(said['rows'])} rows"
    )
    passed = statistics.median(took_s) <= SINCE_S_MAX and counted > 0 and (hops is None or counted >= hops)
    return Line(" ".join(["hops --since 1h", *more]), passed, number)


def histograms(_given: argparse.Namespace) -> Iterator[Line]:
    """Quantiles of merged histograms against numpy on the raw values."""
    random = np.random.default_rng(20261120)
    shapes = {
        "lognormal": random.lognormal(np.log(8_000), 0.7, 1_000_000),
        "two humps": np.concatenate(
            [random.normal(4_000, 300, 700_000), random.normal(90_000, 9_000, 300_000)]
        ),
        "long tail": 1_000 + random.pareto(1.2, 1_000_000) * 2_000,
    }
    for name, values in shapes.items():
        raw = np.clip(values, 100, 1.9e9).astype(np.uint32)
        parts = [
            np.bincount(histogram.bucket_of(part), minlength=histogram.BUCKETS)
            for part in np.array_split(raw, 60)
        ]
        whole = np.sum(parts, axis=0)[None, :]
        merged = histogram.quantiles(whole, QUANTILES, raw.min(keepdims=True), raw.max(keepdims=True))[0]
        exact = np.quantile(raw, QUANTILES, method="inverted_cdf")
        worst = float(np.max(np.abs(merged / exact - 1)))
        number = f"{worst:.2%} at most off (p50 to p99.9 of 1,000,000 hops in 60 histograms)"
        yield Line(f"histograms, {name}", worst <= HISTOGRAM_ERROR_MAX, number)


def speed(_given: argparse.Namespace) -> Iterator[Line]:
    """Naming, aggregation and sampling on one core."""
    found = last_json("bench.aggregate", "--json")
    rate = found["aggregate_hops_per_s"]
    number = f"{rate:,.0f} hops/s, at least {AGGREGATE_HOPS_PER_S:,}"
    yield Line("naming and aggregation", rate >= AGGREGATE_HOPS_PER_S, number)


def killed(given: argparse.Namespace) -> Iterator[Line]:
    """kill -9 in turn, under load."""
    yield Line.of(soak(given.soak))


def full(_given: argparse.Namespace) -> Iterator[Line]:
    """A disk that fills up."""
    yield Line.of(store_disk())


def cost(_given: argparse.Namespace) -> Iterator[Line]:
    """What an agent needs."""
    yield Line.of(store_cost())


def writer(_given: argparse.Namespace) -> Iterator[Line]:
    """What the writer needs."""
    yield Line.of(writer_memory())


def odd(_given: argparse.Namespace) -> Iterator[Line]:
    """Mistakes and malice."""
    yield from map(Line.of, oddities())


PARTS: Mapping[str, Part] = {
    "demo": demo,
    "by-hand": request_by_hand,
    "since": since,
    "histograms": histograms,
    "speed": speed,
    "oddities": odd,
    "full-disk": full,
    "cost": cost,
    "writer": writer,
    "killed": killed,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts named on the command line, or all; the exit code."""
    parser = argparse.ArgumentParser(prog="./dev accept standalone", description=__doc__)
    parser.add_argument("--soak", type=float, default=600.0, help="seconds (default %(default)s)")
    parser.add_argument("--hops", type=int, default=10_000_000, help="stored hops (default %(default)s)")
    return show(parser, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
