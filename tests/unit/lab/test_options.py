# SPDX-License-Identifier: Apache-2.0
import pytest

from overhop.lab.options import Options


@pytest.mark.parametrize(
    ("nodes", "mtu", "message"),
    [(0, 1500, "nodes: 0"), (201, 1500, "nodes: 201"), (2, 1399, "mtu: 1399")],
)
def test_options_out_of_range_are_refused_by_name(nodes: int, mtu: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(nodes=nodes, mtu=mtu)


def test_options_of_an_unknown_cni_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="cni: 'weave' is unknown, known: vxlan, vxlan6, ipip"):
        Options(cni="weave")  # type: ignore[arg-type]


@pytest.mark.parametrize("cni", ["vxlan6", "ipip"])
def test_options_of_a_second_family_are_refused_where_there_is_one(cni: str) -> None:
    with pytest.raises(ValueError, match="ipv6"):
        Options(cni=cni, ipv6=True)  # type: ignore[arg-type]


def test_options_of_flooding_are_refused_without_a_bridge() -> None:
    with pytest.raises(ValueError, match="bridge_ageing: ipip has no bridge"):
        Options(cni="ipip", bridge_ageing=False)
