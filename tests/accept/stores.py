# SPDX-License-Identifier: Apache-2.0
"""Everything that servers as store must show (issue 5), in full.

`./dev accept stores [--seconds N] [--only PART]...` prints PASS or FAIL with the number for each line and
exits with 1 if one failed; what the parts say meanwhile goes to standard error.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.accept.demo import Run, fresh_clone, problems, run
from tests.accept.lines import ROOT, Line, Part, last_json, show
from tests.accept.server_soak import RATE_HZ, SECONDS, agent_soak, server_soak
from tests.servers import influxd1, influxd2

REQUESTS = 400
AGGREGATE_MIN, HOUR_S_MAX, DAY_S_MAX = 200_000, 1.0, 3.0
BAD_INPUT = {
    "wrong URL, nobody there, a server that hangs": "check_of_nobody or never_answers or cannot_be_is_one",
    "wrong token, which nothing ever shows": "never_show_the_token or wrong_token or new_token or token_file",
    "missing bucket": "without_buckets or missing_bucket",
    "read-only and write-only token": "half_of_the_rights",
    "unsupported version, newer schema": "another_version or newer_schema",
    "clock off by an hour": "hour_behind or clocks_are_an_hour_apart or clock_check",
    "a point that the server rejects": "row_aside or bad_rows_aside or good_rows or refuses_everything",
    "an answer cut off, silent, or not InfluxDB's": "answer_that_is or falls_silent",
}
"""What goes wrong, and the tests that show it."""
_PASSED = re.compile(r"(\d+) passed")


def demo(_given: argparse.Namespace) -> Iterator[Line]:
    """The same JSON from each kind of store; counts are what the agents counted."""
    os.environ |= {"OVERHOP_INFLUXD2": influxd2(), "OVERHOP_INFLUXD1": influxd1()}
    with fresh_clone() as clone:
        embedded = _said(run(clone, REQUESTS, "--no-serve"))
        yield _demo_line("demo, embedded", embedded, embedded)
        for kind in ("influxdb2", "influxdb1"):
            yield _demo_line(f"demo --store {kind}", _said(run(clone, REQUESTS, "--store", kind)), embedded)


def _said(done: Run) -> dict[str, Any]:
    wrong = problems(done, REQUESTS)
    return {"problems": wrong} if wrong else dict(json.loads(done.out)) | {"problems": []}


def _demo_line(name: str, said: dict[str, Any], embedded: dict[str, Any]) -> Line:
    if said["problems"]:
        return Line(name, passed=False, number="; ".join(said["problems"]))
    wrong = sorted(_other_keys(said, embedded))
    agents, back = said["stored"]["agents"], said["stored"]["read_back"]
    for node, counted in agents.items():
        put = {"hops": counted["hops"] + counted["retransmitted"], "samples": counted["samples"]}
        if put != back[node]:
            wrong.append(f"{node}: {back[node]} read back of {put}")
    numbers = ", ".join(
        f"{node} {each['hops']} hops, {each['samples']} samples" for node, each in back.items()
    )
    requests = f"{said['traces_found']} of {said['requests']} requests found"
    found = f"{requests}, read back as counted: {numbers}"
    return Line(name, not wrong, "; ".join([*wrong, found]))


def _other_keys(one: object, other: object, above: str = "") -> Iterator[str]:
    """Keys that only one of them has, at any level where both have objects.

    An embedded store has no spool (null), and the times of steps differ by what was started.
    """
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return
    yield from (f"{above}{key}" for key in one.keys() ^ other.keys())
    for key in (one.keys() & other.keys()) - {"steps_s"}:
        yield from _other_keys(one[key], other[key], f"{above}{key}.")


def soak(given: argparse.Namespace) -> Iterator[Line]:
    """The server, then the agent, is hurt while 5,000 hops a second come."""
    yield Line.of(server_soak("influxdb2", given.seconds, RATE_HZ))
    yield Line.of(agent_soak("influxdb2", given.seconds, RATE_HZ))


def soak1(given: argparse.Namespace) -> Iterator[Line]:
    """InfluxDB 1, in a fifth of the time."""
    yield Line.of(server_soak("influxdb1", given.seconds / 5, RATE_HZ))


def bench(_given: argparse.Namespace) -> Iterator[Line]:
    """A thousand series."""
    found = last_json("bench.store", "--json")
    aggregate = found["aggregate_hops_per_s"]
    yield Line("aggregate", aggregate >= AGGREGATE_MIN, f"{aggregate:,.0f} hops/s")
    for name, each in found["stores"].items():
        yield _bench_line(name, each)


def _bench_line(name: str, each: Mapping[str, float]) -> Line:
    numbers = ", ".join(f"{key} {value:,}" for key, value in each.items())
    hour_s, day_s = each.get("last_hour_s", 0.0), each.get("last_day_s", 0.0)
    return Line(f"store {name}", hour_s <= HOUR_S_MAX and day_s <= DAY_S_MAX, numbers)


def bad_input(_given: argparse.Namespace) -> Iterator[Line]:
    """Each by the tests that show it, against real servers."""
    places = ("tests/stores", "tests/unit/store/spool", "tests/unit/overhop/test_config.py")
    for name, chosen in BAD_INPUT.items():
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *places, "-k", chosen]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        passed = _PASSED.search(done.stdout)
        said = f"{passed[1]} tests passed" if passed else "no test"
        yield Line(name, done.returncode == 0 and passed is not None, said)


PARTS: Mapping[str, Part] = {
    "demo": demo,
    "soak": soak,
    "soak1": soak1,
    "bench": bench,
    "bad-input": bad_input,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and print their lines."""
    parser = argparse.ArgumentParser(prog="./dev accept stores", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each soak, default %(default)s")
    return show(parser, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
