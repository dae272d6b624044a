# SPDX-License-Identifier: Apache-2.0
"""What an agent takes from a controller, and what it refuses."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.plan.contract import CONTRACT, ContractError, NodePlan, PodSelector, Requirement, parse_message
from agent.plan.model import ProgramPlan

GOLDEN = sorted((Path(__file__).parents[3] / "data" / "contracts").glob("plan-*.json"))
PLAN = NodePlan(
    cluster="1f6d02aa",
    node="worker-7",
    nic=("eth0",),
    program=ProgramPlan(window=2048, vxlan_ports=(4789, 8473), contexts=frozenset({"w3c"}), filter=True),
    selectors=(
        PodSelector(
            policy="shop-web",
            namespaces=("shop",),
            labels=(Requirement(key="app", operator="In", values=("web", "cart")),),
            sample_shift=3,
            directions=frozenset({"in"}),
        ),
        PodSelector(policy="quiet", labels=(Requirement(key="noisy", operator="Exists"),), traced=False),
        PodSelector(policy="rest", require_sampled=True),
    ),
    max_series=300,
)


def test_golden_messages_are_still_read() -> None:
    """A file is written once, by the release that sent it, and never changed."""
    assert [path.name for path in GOLDEN] == ["plan-2.json"]
    assert parse_message(GOLDEN[0].read_bytes(), "worker-7") == PLAN


def test_message_says_what_the_plan_is_and_nothing_that_is_default() -> None:
    assert json.loads(PLAN.as_json()) == json.loads(GOLDEN[0].read_text())
    assert json.loads(NodePlan(cluster="c", node="n").as_json()) == {
        "contract": 2,
        "cluster": "c",
        "node": "n",
    }


def test_digest_is_of_what_is_said() -> None:
    one, same = (
        NodePlan(cluster="c", node="n", program=ProgramPlan(contexts=frozenset(names)))
        for names in (["w3c", "b3-single"], ["b3-single", "w3c"])
    )
    assert one.digest == same.digest
    assert one.digest != one.model_copy(update={"node": "m"}).digest


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"[]", "it is no JSON object"),
        (b"{}", "it names no contract, this agent knows contract 2"),
        (b'{"contract":1}', "contract 1, this agent knows contract 2"),
        (b'{"contract":3}', "contract 3, this agent knows contract 2"),
        (b'{"contract":"2"}', "contract '2', this agent knows contract 2"),
        (b'{"contract":2,"cluster":"c"}', "node: is missing"),
        (b'{"contract":2,"cluster":"c","node":"m"}', "it is for node 'm', this is 'n'"),
        (b'{"contract":2,"cluster":"c","node":"n","max_seris":3}', "did you mean `max_series`?"),
        (
            b'{"contract":2,"cluster":"c","node":"n","program":{"window":9}}',
            "program.window: 9 is not within",
        ),
        (b'{"contract":2,"cluster":"c","node":"n","max_series":0}', "max_series: must be greater than"),
        (
            b'{"contract":2,"cluster":"c","node":"n","selectors":[{"policy":"a","sampel":1}]}',
            "selectors[0].sampel: unknown key",
        ),
        (
            b'{"contract":2,"cluster":"c","node":"n","selectors":[{"policy":"a","labels":[{"key":"a",'
            b'"operator":"Gt","values":["1"]}]}]}',
            "selectors[0].labels[0].operator: must be 'In', 'NotIn', 'Exists' or 'DoesNotExist', not 'Gt'",
        ),
    ],
)
def test_message_that_is_not_understood_is_refused_in_one_line(data: bytes, said: str) -> None:
    with pytest.raises(ContractError) as refused:
        parse_message(data, "n")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_message_that_is_too_large_is_not_read() -> None:
    with pytest.raises(ContractError, match="at most 4194304"):
        parse_message(b" " * (4 << 20) + b"{}", "n")


# ---- selectors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "values", "fitting"),
    [
        ("In", ("a", "b"), [{"k": "a"}, {"k": "b", "x": "y"}]),
        ("NotIn", ("a", "b"), [{"k": "c"}, {}, {"x": "a"}]),
        ("Exists", (), [{"k": ""}, {"k": "a"}]),
        ("DoesNotExist", (), [{}, {"x": "k"}]),
    ],
)
def test_requirements_fit_as_in_kubernetes(
    operator: str, values: tuple[str, ...], fitting: list[dict[str, str]]
) -> None:
    everything = [{"k": "a"}, {"k": "b", "x": "y"}, {"k": "c"}, {"k": ""}, {}, {"x": "a"}, {"x": "k"}]
    requirement = Requirement.model_validate({"key": "k", "operator": operator, "values": values})
    assert all(requirement.fits(labels) for labels in fitting)
    others = [labels for labels in everything if not requirement.fits(labels)]
    assert others, "it fits something only"
    assert not [labels for labels in others if labels in fitting]


@pytest.mark.parametrize(("operator", "values"), [("In", ()), ("NotIn", ()), ("Exists", ("a",))])
def test_requirement_with_values_where_they_mean_nothing_is_refused(
    operator: str, values: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError, match="values"):
        Requirement.model_validate({"key": "k", "operator": operator, "values": values})


@pytest.mark.parametrize(
    ("namespace", "labels", "policy"),
    [
        ("shop", {"app": "web"}, "shop-web"),
        ("shop", {"app": "web", "noisy": ""}, "shop-web"),
        ("bank", {"app": "web"}, "rest"),
        ("bank", {"noisy": "yes"}, "quiet"),
        ("", {}, "rest"),
    ],
)
def test_first_selector_that_fits_counts(namespace: str, labels: dict[str, str], policy: str) -> None:
    found = PLAN.selector_for(namespace, labels)
    assert found is not None
    assert found.policy == policy


def test_pod_that_no_selector_fits_has_none() -> None:
    plan = NodePlan(cluster="c", node="n", selectors=(PodSelector(policy="p", namespaces=()),))
    assert plan.selector_for("shop", {}) is None
    assert NodePlan(cluster="c", node="n").selector_for("shop", {}) is None


def test_contract_of_this_release_is_the_newest_golden_one() -> None:
    assert f"plan-{CONTRACT}.json" == GOLDEN[-1].name
