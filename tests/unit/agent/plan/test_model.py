# SPDX-License-Identifier: Apache-2.0
import contextlib
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.plan.model import Plan, PlanError, VportPlan, load_plan, parse_plan
from bpf.spec import ProgramSpec

GOOD = """\
nic: eth0
vports:
  - match: "veth-web*"
    namespace: shop
    pod: web-1
    workload: web
    addresses: [10.244.1.5, "fd00::5"]
  - {match: veth-db, directions: in, sample_shift: 3, require_sampled: true}
  - match: "veth*"
    traced: false
program:
  window: 8192
  vxlan_ports: [4789, 4790]
  encapsulations: [vxlan]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(PlanError) as caught:
        parse_plan(text, "plan.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_plan_with_everything_is_typed() -> None:
    plan = parse_plan(GOOD)
    assert plan.nic == ("eth0",)
    assert plan.vports[0] == VportPlan(
        match="veth-web*",
        namespace="shop",
        pod="web-1",
        workload="web",
        addresses=(ip_address("10.244.1.5"), ip_address("fd00::5")),
    )
    assert plan.spec() == ProgramSpec(
        window=8192, vxlan_ports=(4789, 4790), encapsulations=frozenset({"vxlan"}), filter=True
    )


def test_plan_with_one_nic_only_leaves_the_rest_to_defaults() -> None:
    plan = parse_plan("nic: [bond0, eth2]")
    assert plan.nic == ("bond0", "eth2")
    assert plan.vports == ()
    assert plan.spec() == ProgramSpec()


def test_vport_for_takes_the_first_pattern_that_fits() -> None:
    plan = parse_plan(GOOD)
    web = plan.vport_for("veth-web7")
    other = plan.vport_for("veth9")
    assert web is not None
    assert web.pod == "web-1"
    assert other is not None
    assert not other.traced
    assert plan.vport_for("eth0") is None
    assert plan.vport_for("VETH9") is None


def test_plan_as_json_has_names_in_order() -> None:
    plan = parse_plan("nic: eth0\nvports: [{match: v}]\nprogram: {contexts: [w3c, b3-single, b3-multi]}")
    data = plan.model_dump(mode="json")
    assert data["vports"][0]["directions"] == ["in", "out"]
    assert data["program"]["contexts"] == ["b3-multi", "b3-single", "w3c"]
    assert data["program"]["encapsulations"] is None
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_filter_value_is_directions_shift_and_sampling() -> None:
    web, db, rest = parse_plan(GOOD).vports
    assert web.filter_value() == b"\x03\x00\x00\x00"
    assert db.filter_value() == b"\x01\x03\x01\x00"
    assert rest.filter_value() is None


def test_plan_with_many_problems_reports_all_with_place() -> None:
    text = """\
nic: [eth0, "a b"]
nik: 3
vports:
  - match: "veth*"
    addresses: [10.1.2, 10.1.2.3]
    sample_shift: 99
    namespce: x
  - pod: a
    directions: [in, upwards]
    pod: b
  - match: "veth*"
    traced: 5
  - 77
program:
  window: 7
  vxlan_ports: [1]
  encapsulations: [vxlan, foo]
  windov: 5
"""
    assert problems(text) == [
        "plan.yaml:1:13: nic[1]: 'a b' is no interface name (1 to 15 bytes, no slash, no space)",
        "plan.yaml:2:1: nik: unknown key, did you mean `nic`?",
        "plan.yaml:5:17: vports[0].addresses[0]: '10.1.2' is no IPv4 or IPv6 address",
        "plan.yaml:6:19: vports[0].sample_shift: must be less than or equal to 15, not 99",
        "plan.yaml:7:5: vports[0].namespce: unknown key, did you mean `namespace`?",
        "plan.yaml:8:5: vports[1].match: is missing",
        "plan.yaml:9:22: vports[1].directions[1]: must be 'in' or 'out', not 'upwards'",
        "plan.yaml:10:5: vports[1].pod: is given twice, first in line 8",
        "plan.yaml:11:12: vports[2].match: 'veth*' is already vports[0].match",
        "plan.yaml:12:13: vports[2].traced: must be true or false, not 5",
        "plan.yaml:13:5: vports[3]: must be a mapping, not 77",
        "plan.yaml:15:11: program.window: 7 is not within 64 to 8192 bytes",
        "plan.yaml:16:3: program.vxlan_ports: entry 2 of the list is missing",
        "plan.yaml:17:3: program.encapsulations: 'foo' is unknown, known: vxlan, ipip, geneve, gre",
        "plan.yaml:18:3: program.windov: unknown key, did you mean `window`?",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "plan.yaml: is empty: give at least `nic` or `vports`"),
        ("- 1", "plan.yaml:1:1: must be a mapping with `nic` and `vports`, not a list"),
        ("nic: [", "plan.yaml:1:7: broken YAML: while parsing a flow node expected the node content, but"
         " found '<stream end>'"),
        ("nic: a: b", "plan.yaml:1:7: broken YAML: mapping values are not allowed here"),
        ("nic: \x01", "plan.yaml: broken YAML: unacceptable character #x0001: special characters are not"
         ' allowed in "<unicode string>", position 5'),
        ("--- {}\n--- {}", "plan.yaml:2:1: broken YAML: expected a single document in the stream but found"
         " another document"),
        ("nic: &a [*a]", "plan.yaml: broken YAML: nested too deeply"),
        ("nic: 2020-99-99", "plan.yaml:1:6: nic: cannot be read: month must be in 1..12"),
        ("nic: !!python/name:os.system x", "plan.yaml:1:6: nic: cannot be read: could not determine a"
         " constructor for the tag 'tag:yaml.org,2002:python/name:os.system'"),
        ("nic: eth0\nvports: [{match: v, pod: 7}]",
         "plan.yaml:2:26: vports[0].pod: must be text (quotes help), not 7"),
        ("nic: eth0\nvports: [{match: v, traced: false}]\nprogram: {filter: false}",
         "plan.yaml:2:29: vports[0].traced: needs the filter, which program.filter turns off"),
        ("program: {ring_bytes: 5000}",
         "plan.yaml:1:23: program.ring_bytes: 5000 is not a power of two within 4 KiB to 64 MiB"),
        ("nic: []", "plan.yaml:1:1: nic: must be a list with an entry, not an empty list"),
        ("vports: [{match: v, directions: []}]",
         "plan.yaml:1:21: vports[0].directions: must be a list with an entry, not an empty list"),
        ("? [a]\n: 5", "plan.yaml:1:3: a key must be text"),
    ],
)  # fmt: skip
def test_plan_with_one_problem_is_one_clear_line(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_plan_with_an_alias_bomb_is_refused_quickly() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for name, inner in zip("bcdefgh", "abcdefg", strict=True):
        bomb += f"{name}: &{name} [{','.join(['*' + inner] * 10)}]\n"
    assert problems(bomb) == ["plan.yaml: broken YAML: more than 200000 values"]


@given(st.text(alphabet=" \n:-[]{}&*!#'\"|>?,nicvports0129aé", max_size=60))
def test_parse_of_any_text_gives_a_plan_or_a_plan_error(text: str) -> None:
    with contextlib.suppress(PlanError):
        assert isinstance(parse_plan(text), Plan)


def test_load_of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"no\.yaml: cannot be read: No such file or directory"):
        load_plan(tmp_path / "no.yaml")


def test_load_of_a_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read: Is a directory"):
        load_plan(tmp_path)


def test_load_of_bytes_that_are_no_text_says_where(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(b"nic: \xff")
    with pytest.raises(PlanError, match=r"plan\.yaml: is no UTF-8 text: byte 5"):
        load_plan(tmp_path / "plan.yaml")


def test_load_of_a_file_returns_its_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("nic: eth0")
    assert load_plan(tmp_path / "plan.yaml") == Plan(nic=("eth0",))


def test_plan_in_the_documentation_is_valid() -> None:
    guide = (Path(__file__).parents[4] / "docs" / "plan.md").read_text()
    plan = parse_plan(guide.split("```yaml\n")[1].split("```")[0])
    assert [vport.match for vport in plan.vports] == ["veth-web*", "veth-db", "veth*"]
    assert plan.spec() == ProgramSpec(window=8192, filter=True)
