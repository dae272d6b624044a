# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address, IPv6Address

import pytest

from overhop.cli import main
from overhop.demo.scene import JOINED_BY, endpoint, url
from overhop.lab.options import CNIS


def test_url_of_either_family_is_what_curl_takes() -> None:
    assert url(IPv4Address("172.18.0.11"), 30080, "/a") == "http://172.18.0.11:30080/a"
    assert url(IPv6Address("fd00:18::b"), 30080, "/") == "http://[fd00:18::b]:30080/"
    assert endpoint(IPv6Address("::1"), 1) == "[::1]:1"


def test_demo_knows_every_cni_of_the_lab(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(JOINED_BY) == CNIS == ("vxlan", "vxlan6", "ipip")
    assert main(["demo", "--cni", "calico"]) == 2
    assert "'vxlan', 'vxlan6', 'ipip'" in capsys.readouterr().err
