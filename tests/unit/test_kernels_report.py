# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.kernels.report import problems


def line(cni: str, hops: dict[str, int]) -> dict[str, object]:
    return {"step": "pairing", "cni": cni, "node": "n1", "requests": 300, "hops": hops}


@pytest.mark.parametrize(
    ("cni", "hops"),
    [
        ("vxlan", {"tx vxlan with context": 300}),
        ("ipip", {"tx ipip with context": 300}),
        ("vxlan6", {"tx vxlan with context": 300, "tx vxlan with context again": 4}),
    ],
)
def test_problems_of_pairing_with_each_request_once_are_none(cni: str, hops: dict[str, int]) -> None:
    assert problems({"6.1": [line(cni, hops)]}) == []


@pytest.mark.parametrize(
    ("cni", "hops"),
    [
        ("vxlan", {"tx vxlan with context": 304}),
        ("vxlan", {"tx vxlan with context": 299, "tx vxlan with context again": 1}),
        ("ipip", {"tx none with context": 300}),
        ("ipip", {"tx ipip with context": 290, "tx ipip": 10}),
    ],
)
def test_problems_of_pairing_with_other_hops_name_node_and_hops(cni: str, hops: dict[str, int]) -> None:
    (problem,) = problems({"6.1": [line(cni, hops)]})
    assert problem.startswith("6.1: pairing on n1: ")
    assert str(hops) in problem
