# SPDX-License-Identifier: Apache-2.0
"""The short form of `./dev accept sidecar-differential`."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.e2e.envoy import require_envoy
from tests.kernel.leaks import wait_until
from tests.sidecar.differential import Way, compare, town
from tests.sidecar.filtering import Filtering
from tests.sidecar.load import load
from tests.sidecar.recorder import recording_http1
from tests.sidecar.reload import Reloading
from tests.sidecar.soak import soak

SEED = "ci"
REQUEST = (
    b"GET /x HTTP/1.1\r\nhost: shop\r\na: 1\r\nb: 2\r\n"
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
)


@pytest.fixture
def ways(filtering: Filtering) -> Iterator[list[Way]]:
    require_envoy()
    with town(filtering) as (_, made):
        yield made


def test_differential_of_300_header_sets_finds_nothing(filtering: Filtering, ways: list[Way]) -> None:
    found = compare(ways, 300, SEED, moves_empty=filtering.variant == "lua")
    assert found.problems == []
    assert (found.requests, found.compared) == (300, 300)
    assert found.moved > 200
    assert found.largest_bytes > 50_000


def test_differential_finds_that_nothing_was_moved(filtering: Filtering, ways: list[Way]) -> None:
    both_stock = [replace(way, moved=way.stock) for way in ways]
    found = compare(both_stock, 30, SEED, moves_empty=filtering.variant == "lua")
    assert len(found.problems) == found.moved > 10


def test_reload_under_load_fails_no_request(filtering: Filtering) -> None:
    require_envoy()
    with recording_http1() as server:
        reloading = Reloading(filtering, server)
        with reloading.running() as reloaded, load(reloaded.port, [REQUEST], clients=3) as made:
            for _ in range(6):
                answers = made.answers
                wait_until(lambda answers=answers: made.answers > answers + 100, "100 more answers", 30)  # type: ignore[misc]
                reloading.swap(reloaded)
        moved = sum(b"shop\r\ntraceparent: " in head for head in server.heads)
    assert made.failures == []
    assert 200 < moved < made.answers - 200


def test_soak_of_ten_seconds_takes_no_memory_and_fails_no_request(filtering: Filtering) -> None:
    require_envoy()
    found = soak(filtering, 10.0, SEED)
    assert found.failures == []
    assert found.errors == 0
    assert found.leading == found.with_context > 0
    assert found.growth_mb() <= 3.0, found.rss_mb
