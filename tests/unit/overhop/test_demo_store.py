# SPDX-License-Identifier: Apache-2.0
"""Where a demo keeps its hops, and how that is passed on."""

from pathlib import Path

import pytest

from overhop import cli
from overhop.demo.keeping import Keeping, in_directory
from overhop.lab.netns import Netns
from overhop.stored import Place
from store.influxdb.target import parse_target


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (
            "influxdb2://u:hunter2@h:8086/x",
            "--store: nodes of the lab do not reach a server outside of it: "
            "give influxdb2 or influxdb1, which the demo starts itself, or a directory",
        ),
        (
            "victoriametrics",
            "--store victoriametrics: it cannot be read back: "
            "give influxdb2 or influxdb1, which the demo starts itself, or a directory (./victoriametrics)",
        ),
    ],
)
def test_demo_with_a_store_that_it_cannot_have_is_one_line_and_code_2(
    store: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--store", store]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"overhop: {said}\n")


def test_keeping_in_a_directory_has_no_spool_and_no_entrance() -> None:
    keeping = in_directory(Path("/d/store"), Path("/d"))
    assert keeping.arguments("n1") == ("--store", "/d/store")
    assert (keeping.entrance, keeping.options) == ("", "")


def test_keeping_in_a_server_has_a_spool_for_each_node_and_says_from_where_it_is_reached() -> None:
    place = Place(parse_target("influxdb2://172.18.0.250/"), Path("/a demo/token"))
    keeping = Keeping(place, Path("/a demo"), Netns("oh12-external"))
    assert keeping.arguments("n2") == (
        *("--store", "influxdb2://172.18.0.250:8086/overhop"),
        *("--store-token-file", "/a demo/token"),
        *("--spool", "/a demo/n2"),
    )
    assert keeping.entrance == "nsenter --net=/run/netns/oh12-external "
    assert keeping.options == "--store-token-file '/a demo/token'"
