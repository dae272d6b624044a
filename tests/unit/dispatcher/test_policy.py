# SPDX-License-Identifier: Apache-2.0
"""Policies in YAML: what is wrong with them, whom they are for, which of several counts."""

import random
import re
from pathlib import Path

import pytest

from agent.plan.yaml_document import parse
from collector.snapshot import Namespace, Node, Pod, Snapshot
from dispatcher.policy import Policies, PolicyError, fits_pod, load_policies, parse_policies

SNAPSHOT = Snapshot(
    "c",
    {"n1": Node("n1", "u1", (), labels={"zone": "a", "gpu": ""}), "n2": Node("n2", "u2", ())},
    {"shop": Namespace("shop", {"team": "red"}), "bank": Namespace("bank", {"team": "blue"})}
    | {name: Namespace(name) for name in ("new", "soup", "shops", "shop-2")},
)


def pod(namespace: str = "shop", node: str = "n1", **labels: str) -> Pod:
    return Pod(f"{namespace}-{labels}", namespace, "p", node, labels=labels)


def test_all_problems_are_reported_with_their_lines() -> None:
    text = """\
policies:
- name: Shop
  namespaces: [""]
  sample_shift: 16
- name: web
  pod_selector:
    matchLabel: {app: web}
    matchExpressions:
    - {key: app, operator: In}
  search: {window: 9, contexts: [w4c]}
- name: web
  directions: [sideways]
"""
    with pytest.raises(PolicyError) as refused:
        parse_policies(text, "p.yaml")
    said = [str(problem) for problem in refused.value.problems]
    assert [re.match(r"p\.yaml:(\d+):", line)[1] for line in said] == (  # type: ignore[index]  # each has one
        ["2", "3", "4", "7", "9", "10", "10", "11", "12"]
    )
    assert "'Shop' is no name" in said[0]
    assert "did you mean `matchLabels`?" in said[3]
    assert "In needs values" in said[4]
    assert "'web' is already policies[1].name" in said[7]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a mapping with `policies`, not nothing"),
        ("- name: a", "must be a mapping with `policies`, not a list"),
        ("policies: {name: a}", "must be a list"),
        ("policies: [", "broken YAML"),
        ("polices: []", "did you mean `policies`?"),
    ],
)
def test_what_is_no_file_of_policies_is_one_problem(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policies(text)
    [problem] = refused.value.problems
    assert said in str(problem)


def test_file_that_is_not_there_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        load_policies(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("policy", "fitting", "others"),
    [
        ("", [pod(), pod("bank", "n2")], []),
        ("namespaces: shop", [pod()], [pod("bank"), pod("shop-2")]),
        ("namespaces: '*'", [pod("shop-2")], [pod("not-known")]),
        ("namespaces: ['s*p', bank]", [pod(), pod("bank"), pod("soup")], [pod("shops")]),
        ("namespace_selector: {matchLabels: {team: red}}", [pod()], [pod("bank"), pod("new")]),
        (
            "namespace_selector: {matchExpressions: [{key: team, operator: DoesNotExist}]}",
            [pod("new")],
            [pod()],
        ),
        ("namespaces: '*', namespace_selector: {matchLabels: {team: blue}}", [pod("bank")], [pod()]),
        (
            "pod_selector: {matchLabels: {app: web, tier: front}}",
            [pod(app="web", tier="front")],
            [pod(app="web")],
        ),
        (
            "pod_selector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}",
            [pod(), pod(app="x")],
            [pod(app="web")],
        ),
        (
            "node_selector: {matchExpressions: [{key: gpu, operator: Exists}]}",
            [pod()],
            [pod(node="n2"), pod(node="gone")],
        ),
    ],
)
def test_policy_is_for_these_pods_and_no_others(policy: str, fitting: list[Pod], others: list[Pod]) -> None:
    given = f", {policy}" if policy else ""
    [found] = parse_policies(f"policies: [{{name: p{given}}}]").policies
    assert [fits_pod(found, each, SNAPSHOT) for each in fitting] == [True] * len(fitting)
    assert [fits_pod(found, each, SNAPSHOT) for each in others] == [False] * len(others)


PRECEDENCE = """\
policies:
- {name: z-two-labels, pod_selector: {matchLabels: {a: "1", b: "2"}}}
- {name: b-label-and-name, pod_selector: {matchLabels: {a: "1"}}, namespaces: [shop]}
- {name: a-label-and-pattern, pod_selector: {matchLabels: {a: "1"}}, namespaces: [shop, "ba*"]}
- {name: c-label-and-ns, pod_selector: {matchLabels: {a: "1"}}, namespace_selector: {matchLabels: {t: r}}}
- {name: a-label, pod_selector: {matchLabels: {a: "1"}}}
- {name: d-name, namespaces: [shop, bank]}
- {name: d-pattern, namespaces: ["?hop"]}
- {name: a-any}
- {name: b-any}
"""
"""In the order in which they count."""


def test_more_specific_policies_count_first_whatever_the_order_of_the_file() -> None:
    lines = PRECEDENCE.splitlines()[1:]
    names = [line.split(",")[0].split(":")[1].strip(" }") for line in lines]
    for seed in range(20):
        random.Random(seed).shuffle(lines)
        found = parse_policies("\n".join(["policies:", *lines]))
        assert [policy.name for policy in found.policies] == names


def test_unmatched_policies_are_named_with_their_line() -> None:
    text = "policies:\n- {name: everything}\n- name: wrong\n  namespaces: shopp\n"
    snapshot = Snapshot("c", SNAPSHOT.nodes, SNAPSHOT.namespaces, {"1": pod()})
    policies = parse_policies(text, "p.yaml")
    assert [str(each) for each in policies.unmatched(snapshot)] == [
        "p.yaml:3:3: policies[1]: policy 'wrong' fits no pod that there is"
    ]
    assert Policies().unmatched(snapshot) == []


def test_policies_in_the_documentation_are_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
    [text] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert parse(text, "docs").problems == []
    assert [policy.name for policy in parse_policies(text).policies]
