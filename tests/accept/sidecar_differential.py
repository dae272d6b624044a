# SPDX-License-Identifier: Apache-2.0
"""The filter that moves context, in Lua and native, against a real Envoy without it (issue 7).

`./dev accept sidecar-differential [--variant V] [--sets N] [--seconds S] [--seed S] [--only PART]...` prints
PASS or FAIL with the number for each line and exits with 1 if one failed. A request that differs is named by
its seed: `--seed` gives it again.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from overhop.sidecar.build import build
from overhop.sidecar.filters import VARIANTS, Variant
from tests.accept.lines import Line, Part, show
from tests.sidecar.differential import compare, town
from tests.sidecar.filtering import Filtering
from tests.sidecar.load import load
from tests.sidecar.recorder import recording_http1
from tests.sidecar.reload import Reloading
from tests.sidecar.soak import soak

SETS, SECONDS = 20_000, 600.0
CLIENTS = 4
SWAP_EVERY_S = 1.0
SWAP_S = 60.0
GROWTH_MB = 2.0
"""What an allocator's free lists may differ by; a leak of 16 bytes a request would be more in ten minutes."""
REQUEST = (
    b"GET /x HTTP/1.1\r\nhost: shop\r\na: 1\r\nb: 2\r\n"
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
)
_PART_OF_A_REPORT = 5


@contextmanager
def _filtering(variant: Variant) -> Iterator[Filtering]:
    with tempfile.TemporaryDirectory(prefix="sidecar-differential-") as directory:
        files = Path(directory)
        yield Filtering(variant, build(files / "modules").parent, files)


def differential(given: argparse.Namespace) -> Iterator[Line]:
    """Random header sets, stock and moved."""
    for variant in given.variant or VARIANTS:
        with _filtering(variant) as filtering, town(filtering) as (proxy, ways):
            found = compare(ways, given.sets, given.seed, moves_empty=variant == "lua")
            errors = sum(filtering.errors(proxy, f"{way.upstream}-moved") for way in ways[::3])
        for problem in found.problems[:_PART_OF_A_REPORT]:
            print(problem, file=sys.stderr)
        yield Line(
            f"{variant}: {given.sets} header sets, the same but for the order that is wanted",
            not found.problems and found.requests == given.sets,
            f"{len(found.problems)} differ, {found.compared} forwarded, {found.moved} of them reordered, "
            f"largest {found.largest_bytes} bytes, seed {given.seed}",
        )
        yield Line(f"{variant}: no error in the filter", errors == 0, f"{errors} errors")


def reload(given: argparse.Namespace) -> Iterator[Line]:
    """Listener and cluster swapped every second under load."""
    for variant in given.variant or VARIANTS:
        with _filtering(variant) as filtering, recording_http1() as server:
            reloading = Reloading(filtering, server)
            with reloading.running() as reloaded, load(reloaded.port, [REQUEST], CLIENTS) as made:
                end_s = time.monotonic() + min(given.seconds, SWAP_S)
                while time.monotonic() < end_s:
                    time.sleep(SWAP_EVERY_S)
                    reloading.swap(reloaded)
            moved = sum(b"shop\r\ntraceparent: " in head for head in server.heads)
        for failure in made.failures[:_PART_OF_A_REPORT]:
            print(failure, file=sys.stderr)
        yield Line(
            f"{variant}: no request fails while listener and cluster are swapped",
            not made.failures and 0 < moved < made.answers,
            f"{len(made.failures)} of {made.answers} failed, {reloaded.swaps} swaps, {moved} with the filter",
        )


def soaked(given: argparse.Namespace) -> Iterator[Line]:
    """Memory of Envoy under load."""
    for variant in given.variant or VARIANTS:
        with _filtering(variant) as filtering:
            found = soak(filtering, given.seconds, given.seed)
        yield Line(
            f"{variant}: no request fails in {given.seconds:g} s of load",
            not found.failures and found.errors == 0,
            f"{len(found.failures)} of {found.requests} failed, {found.errors} errors in the filter",
        )
        yield Line(
            f"{variant}: context leads in every request that has one",
            found.leading == found.with_context > 0,
            f"{found.leading} of {found.with_context}",
        )
        yield Line(
            f"{variant}: memory flat (+{GROWTH_MB:g} MB at most)",
            found.growth_mb() <= GROWTH_MB,
            f"{found.growth_mb():+.1f} MB from second to last third, {found.rss_mb[-1]:.0f} MB in all",
        )


PARTS: dict[str, Part] = {"differential": differential, "reload": reload, "soak": soaked}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="./dev accept sidecar-differential", description=__doc__)
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="repeatable; default: both")
    parser.add_argument("--sets", type=int, default=SETS, help="header sets; default %(default)s")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of load; default %(default)s")
    parser.add_argument("--seed", default="1")
    return show(parser, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
