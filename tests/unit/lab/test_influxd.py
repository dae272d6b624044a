# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from overhop.lab.influxd import InfluxdMissingError, Server, find_influxd, version_of

TWO = "InfluxDB v2.7.12 (git: ec9dcde5d6) build_date: 2025-05-20T22:48:33Z"
ONE = "InfluxDB v1.6.7~rc0 (git: unknown unknown)"


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Directories with an `influxd` each that says its version; in `other` one that is none."""
    found = {}
    for name, line in (("one", ONE), ("two", TWO), ("other", "what?")):
        found[name] = tmp_path / name
        found[name].mkdir()
        program = found[name] / "influxd"
        program.write_text(f"#!/bin/sh\necho '{line}'\n")
        program.chmod(0o755)
    return found


@pytest.mark.parametrize(("server", "place"), [("influxdb2", "two"), ("influxdb1", "one")])
@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_find_influxd_takes_the_first_of_its_version_in_path(
    server: Server, place: str, order: tuple[str, str], places: dict[str, Path]
) -> None:
    path = ":".join(["/nonexistent", str(places["other"]), *(str(places[each]) for each in order)])
    assert find_influxd(server, {"PATH": path}) == str(places[place] / "influxd")


def test_find_influxd_by_its_variable_does_not_look_at_path(places: dict[str, Path]) -> None:
    named = places["two"] / "influxd"
    assert find_influxd("influxdb2", {"OVERHOP_INFLUXD2": str(named), "PATH": "/nonexistent"}) == str(named)


def test_find_influxd_empty_variable_is_not_set(places: dict[str, Path]) -> None:
    environment = {"OVERHOP_INFLUXD1": "", "PATH": str(places["one"])}
    assert find_influxd("influxdb1", environment) == str(places["one"] / "influxd")


@pytest.mark.parametrize(
    ("server", "path", "said"),
    [
        (
            "influxdb2",
            [],
            "influxd 2.x: not found in PATH: install InfluxData's influxdb2, or name the program by "
            "OVERHOP_INFLUXD2",
        ),
        (
            "influxdb2",
            ["one"],
            "influxd 2.x: not found in PATH (PLACE/one/influxd is version 1): install InfluxData's "
            "influxdb2, or name the program by OVERHOP_INFLUXD2",
        ),
        (
            "influxdb1",
            ["two", "other"],
            "influxd 1.x: not found in PATH (PLACE/two/influxd is version 2, PLACE/other/influxd is no "
            "influxd): install Debian's influxdb, or name the program by OVERHOP_INFLUXD1",
        ),
    ],
)
def test_find_influxd_in_vain_says_what_to_do(
    server: Server, path: list[str], said: str, places: dict[str, Path], tmp_path: Path
) -> None:
    environment = {"PATH": ":".join(str(places[each]) for each in path) or "/nonexistent"}
    with pytest.raises(InfluxdMissingError) as caught:
        find_influxd(server, environment)
    assert str(caught.value).replace(str(tmp_path), "PLACE") == said


@pytest.mark.parametrize(("place", "kind"), [("one", "version 1"), ("other", "no influxd")])
def test_find_influxd_that_is_named_and_another_is_refused(
    place: str, kind: str, places: dict[str, Path]
) -> None:
    named = places[place] / "influxd"
    with pytest.raises(InfluxdMissingError) as caught:
        find_influxd("influxdb2", {"OVERHOP_INFLUXD2": str(named), "PATH": str(places["two"])})
    assert str(caught.value) == f"OVERHOP_INFLUXD2={named}: it is {kind}, not influxd 2.x"


def test_version_of_a_program_that_cannot_be_run_is_none(tmp_path: Path) -> None:
    assert version_of(tmp_path) == ""
    assert version_of(tmp_path / "influxd") == ""
