# SPDX-License-Identifier: Apache-2.0
"""What a real API server does rarely, or never."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from collector.cluster import decode, reflector
from collector.cluster.reflector import Kind, Reflector
from collector.snapshot import Namespace
from tests.kubernetes import until
from tests.unit.collector.cluster.fake_api import Answer, Query, event, failure, fake_api, listing

KIND = Kind("namespaces", "/api/v1/namespaces", decode.namespace)


class Kept:
    """A sink that notes what it was told."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.replaced: list[int] = []

    def replace(self, found: Mapping[tuple[str, str], Namespace], gap_from_ns: int) -> None:
        self.names = {name for _, name in found}
        self.replaced.append(gap_from_ns)

    def put(self, key: tuple[str, str], found: Namespace) -> None:
        assert key[1] == found.name
        self.names.add(found.name)

    def drop(self, key: tuple[str, str]) -> None:
        self.names.discard(key[1])


@contextmanager
def _followed(answer: Callable[[str, Query], Answer]) -> Iterator[tuple[Reflector[Namespace], Kept]]:
    kept = Kept()
    with fake_api(answer) as api:
        found = Reflector(api, KIND, kept)
        found.start()
        try:
            yield found, kept
        finally:
            found.end()
            found.join()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(reflector, "MAX_WAIT_S", 0.05)


def _script(watches: list[Answer], lists: list[Answer]) -> Callable[[str, Query], Answer]:
    """Each list and each watch in turn; the last one again and again."""

    def answer(path: str, query: Query) -> Answer:
        own = watches if "watch" in query else lists
        return own.pop(0) if len(own) > 1 else own[0]

    return answer


def test_pages_are_read_to_the_end() -> None:
    asked: list[Query] = []

    def answer(path: str, query: Query) -> Answer:
        if "watch" in query:
            return 200, []
        asked.append(query)
        return listing("b") if query.get("continue") == ["more"] else listing("a", more="more")

    with _followed(answer) as (found, kept):
        assert found.wait(5)
        assert kept.names == {"a", "b"}
        assert [each["limit"] for each in asked] == [["500"], ["500"]]


def test_forgotten_place_is_listed_again_with_the_gap() -> None:
    watches = [(200, [event("ADDED", "b", "2"), failure(410, "too old")]), (200, [])]
    with _followed(_script(watches, [listing("a"), listing("c", version="9")])) as (found, kept):
        until("listed again", lambda: len(kept.replaced) == 2)
        assert kept.names == {"c"}
        assert kept.replaced[0] == 0
        assert kept.replaced[1] > 0
        assert found.counts.gone == 1


def test_410_as_a_status_of_http_is_listed_again() -> None:
    with _followed(_script([(410, [b"{}"]), (200, [])], [listing("a"), listing("b")])) as (found, kept):
        until("listed again", lambda: kept.names == {"b"})
        assert found.counts.gone == 1


def test_storm_of_410_does_not_ask_in_a_tight_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(reflector, "MAX_WAIT_S", 0.4)
    with _followed(_script([(410, [b"{}"])], [listing("a")])) as (found, _):
        until("three times gone", lambda: found.counts.gone >= 3)
        assert found.counts.listed <= 5


def test_watch_goes_on_at_the_last_bookmark() -> None:
    versions: list[str] = []

    def answer(path: str, query: Query) -> Answer:
        if "watch" not in query:
            return listing("a", version="5")
        versions.append(query["resourceVersion"][0])
        return 200, [event("BOOKMARK", "", "70")] if len(versions) == 1 else []

    with _followed(answer) as (found, _):
        until("watched again", lambda: len(versions) >= 2)
        assert versions[:2] == ["5", "70"]
        assert found.counts.listed == 1


@pytest.mark.parametrize(
    "line",
    [
        b"no json\n",
        b"[]\n",
        b'{"type": "ADDED"}\n',
        b"[" * 100_000 + b"\n",
        b'{"type":"ERROR","object":[]}\n',
    ],
)
def test_line_that_is_no_event_ends_the_watch_and_nothing_else(line: bytes) -> None:
    watches = [(200, [line]), (200, [event("ADDED", "after", "3")])]
    with _followed(_script(watches, [listing("a")])) as (found, kept):
        until("went on", lambda: "after" in kept.names)
        assert found.counts.failed == 1


@pytest.mark.parametrize(
    "wrong",
    [[], None, {"metadata": []}, {"metadata": {"name": 5}}, {"metadata": {"name": "x", "labels": [1]}}],
)
def test_object_that_cannot_be_decoded_is_counted_and_left_out(wrong: Any) -> None:  # noqa: ANN401
    import json

    good = {"metadata": {"name": "good"}}
    page = json.dumps({"metadata": {"resourceVersion": "1"}, "items": [wrong, good]}).encode()
    with _followed(_script([(200, [])], [(200, [page])])) as (found, kept):
        assert found.wait(5)
        assert kept.names == {"good"}
        assert found.counts.undecodable == 1


def test_too_long_a_line_is_a_failure_not_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.cluster.api.MAX_LINE_BYTES", 1000)
    with _followed(_script([(200, [b"x" * 5000]), (200, [])], [listing("a")])) as (found, _):
        until("failed", lambda: found.counts.failed == 1)


def test_forbidden_is_the_problem_until_it_is_allowed() -> None:
    body = b'{"kind":"Status","message":"namespaces is forbidden: User \\"x\\" cannot list"}'
    with _followed(_script([(200, [])], [(403, [body]), (403, [body]), listing("a")])) as (found, kept):
        until("a problem", lambda: found.problem)
        assert found.problem == (
            'Kubernetes API: GET /api/v1/namespaces: 403: namespaces is forbidden: User "x" cannot list'
        )
        until("allowed", lambda: kept.names == {"a"})
        until("no problem", lambda: not found.problem)


def test_server_that_is_away_is_asked_again_and_again() -> None:
    with fake_api(lambda *_: listing("a")) as api:
        pass
    found = Reflector(api, KIND, Kept())
    found.start()
    until("three failures", lambda: found.counts.failed >= 3)
    assert "Connection refused" in found.problem
    found.end()
    found.join()
