# SPDX-License-Identifier: Apache-2.0
"""The lab's Bookinfo: what goes through its sidecars, and what it says when one is missing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from overhop.lab import Lab, LabError
from overhop.lab.envoy import EnvoyMissingError, find_envoy
from overhop.lab.mesh import Mesh, bookinfo
from overhop.lab.options import CNIS, Cni
from tests.e2e.envoy import require_envoy
from tests.kernel.leaks import wait_until
from tests.require import require_commands, require_root

SPANS_LATE_S = 15.0


@pytest.fixture(autouse=True)
def tools() -> None:
    require_root()
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool")


@pytest.fixture(params=CNIS)
def mesh(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Mesh]]:
    require_envoy()
    cni: Cni = request.param
    with Lab.make(cni) as lab:
        yield lab, bookinfo(lab)


def test_mesh_every_request_makes_a_span_at_each_listener(mesh: tuple[Lab, Mesh]) -> None:
    lab, town = mesh
    result = lab.external.http(str(town.address), town.port, path=town.path, requests=9).require_ok()
    (body,) = result.bodies
    assert body == '{"service":"productpage","details":{"service":"details"},"review'
    # With the first request, which waits for the mesh: 10 for each listener that a request passes.
    expected = {"productpage": 30, "details": 10, "reviews": 20, "ratings": 10}
    wait_until(lambda: town.spans() == expected, "all spans sent", SPANS_LATE_S)


def test_mesh_sidecar_is_envoy_as_the_user_of_the_rules(mesh: tuple[Lab, Mesh]) -> None:
    _, town = mesh
    sidecar = town.pods["reviews"].processes[-1].pid
    assert os.readlink(f"/proc/{sidecar}/exe") == str(find_envoy())
    status = Path(f"/proc/{sidecar}/status").read_text()
    assert "\nUid:\t1337\t1337\t1337\t1337\n" in status
    assert "\nCapEff:\t0000000000000000\n" in status


def test_mesh_with_zipkin_makes_as_many_spans_and_moves_its_headers() -> None:
    require_envoy()
    with Lab.make(nodes=2) as lab:
        town = bookinfo(lab, tracer="zipkin")
        assert town.context_offset_bytes == len("GET /reviews/0 HTTP/1.1\r\nhost: reviews:9080\r\n")
        expected = {"productpage": 3, "details": 1, "reviews": 2, "ratings": 1}
        wait_until(lambda: town.spans() == expected, "all spans sent", SPANS_LATE_S)


def test_mesh_of_stock_sidecars_has_the_context_behind_all_other_headers() -> None:
    require_envoy()
    with Lab.make(nodes=2) as lab:
        assert bookinfo(lab, "off").context_offset_bytes == 329


def test_bookinfo_without_envoy_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERHOP_ENVOY", "/nonexistent/envoy")
    with Lab.make(nodes=2) as lab:
        with pytest.raises(EnvoyMissingError):
            bookinfo(lab)
        assert [node.pods for node in lab.nodes] == [[], []]


def test_bookinfo_whose_sidecar_ends_says_which_and_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERHOP_ENVOY", "/bin/false")
    with (
        Lab.make(nodes=2) as lab,
        pytest.raises(
            LabError, match=r"^sidecar of productpage: /bin/false ended with exit code 1: it did not say why$"
        ),
    ):
        bookinfo(lab)


def test_bookinfo_whose_envoy_is_no_program_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = tmp_path / "envoy"
    text.write_text("no program")
    text.chmod(0o755)
    monkeypatch.setenv("OVERHOP_ENVOY", str(text))
    with (
        Lab.make(nodes=2) as lab,
        pytest.raises(
            LabError, match=r"^sidecar of productpage: .*/envoy: Exec format error: is it an Envoy"
        ),
    ):
        bookinfo(lab)
