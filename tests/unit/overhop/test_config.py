# SPDX-License-Identifier: Apache-2.0
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from overhop import cli
from overhop.config import SETTINGS, Listen
from overhop.sources import ConfigError, Resolved, Source, logging_before, resolve
from store.influxdb.target import Target

NOWHERE = Path("/nonexistent/overhop.yaml")
GUIDE = (Path(__file__).parents[3] / "docs" / "config.md").read_text()


def problems(text: str, tmp_path: Path, **environment: str) -> list[str]:
    file = tmp_path / "overhop.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve({}, file, environment)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def resolved(text: str, tmp_path: Path, options: dict[str, object] | None = None, **env: str) -> Resolved:
    file = tmp_path / "overhop.yaml"
    file.write_text(text)
    return resolve(options or {}, file, env)


def test_resolve_nothing_given_is_the_defaults() -> None:
    found = resolve({}, None, {}, NOWHERE)
    assert found.file is None
    assert found.config.cluster == "local"
    assert found.config.node == os.uname().nodename
    assert found.config.agent.plan is None
    assert found.config.agent.nic is None
    assert found.config.agent.attach == "auto"
    assert found.config.store.url == Path("/var/lib/overhop/store")
    assert found.config.metrics.listen == Listen("127.0.0.1", 9464)
    assert found.config.logging.level == "info"
    assert not found.config.logging.as_json
    assert set(found.sources.values()) == {Source("default")}


def test_resolve_option_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    text = "cluster: of-file\nnode: of-file\nagent: {attach: clsact}\n"
    found = resolved(
        text, tmp_path, {"--cluster": "of-option"}, OVERHOP_CLUSTER="of-env", OVERHOP_NODE="of-env"
    )
    assert (found.config.cluster, found.config.node, found.config.agent.attach) == (
        "of-option",
        "of-env",
        "clsact",
    )
    assert found.sources["cluster"] == Source("option", "--cluster")
    assert found.sources["node"] == Source("environment", "OVERHOP_NODE")
    assert found.sources["agent.attach"] == Source("file", f"{tmp_path}/overhop.yaml:3")
    assert found.sources["store.url"] == Source("default")


@pytest.mark.parametrize("none", ["none", "null", "~"])
def test_resolve_none_switches_off(none: str, tmp_path: Path) -> None:
    text = f"store: {{url: {none}}}\nmetrics: {{listen: {none}}}\nagent: {{nic: {none}, plan: {none}}}"
    found = resolved(text, tmp_path).config
    assert (found.store.url, found.metrics.listen, found.agent.nic, found.agent.plan) == (None,) * 4


def test_resolve_environment_none_beats_a_file(tmp_path: Path) -> None:
    found = resolved("store: {url: /s}", tmp_path, OVERHOP_STORE="none", OVERHOP_METRICS_LISTEN="none")
    assert found.config.store.url is None
    assert found.config.metrics.listen is None


def test_resolve_empty_variable_is_not_set(tmp_path: Path) -> None:
    assert resolved("cluster: c", tmp_path, OVERHOP_CLUSTER="").config.cluster == "c"


def test_resolve_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert resolved("# nothing\n", tmp_path).config == resolve({}, None, {}, NOWHERE).config


def test_resolve_paths_of_a_file_are_relative_to_it(tmp_path: Path) -> None:
    found = resolved("agent: {plan: plan.yaml}\nstore: {url: s}", tmp_path, {"--store": "of-option"})
    assert found.config.agent.plan == tmp_path / "plan.yaml"
    assert found.config.store.url == Path("of-option")


def test_resolve_file_is_option_then_variable_then_default(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    for file in (one, two, three):
        file.write_text(f"cluster: {file.name}")
    assert resolve({}, one, {"OVERHOP_CONFIG": str(two)}, three).config.cluster == "one"
    assert resolve({}, None, {"OVERHOP_CONFIG": str(two)}, three).config.cluster == "two"
    assert resolve({}, None, {}, three).config.cluster == "three"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("1", True), ("yes", True), ("ON", True), ("false", False), ("0", False)],
)
def test_resolve_switch_from_the_environment(text: str, expected: bool) -> None:
    assert logging_before({}, {"OVERHOP_LOG_JSON": text}).as_json is expected


def test_resolve_many_problems_are_all_reported_with_place(tmp_path: Path) -> None:
    text = """\
cluster: "a b"
nod: n1
agent:
  plan: 7
  nick: eth0
  attach: xdp
store: /var/store
metrics: {listen: 127.0.0.1}
logging:
  json: 5
  level: loud
"""
    assert problems(text, tmp_path, OVERHOP_METRICS_LISTEN="nowhere", OVERHOP_LOG_JSON="maybe") == [
        "overhop.yaml:1:10: cluster: 'a b' is no name (1 to 63 bytes, printable, no space)",
        "overhop.yaml:2:1: nod: unknown key, did you mean `node`?",
        "overhop.yaml:4:9: agent.plan: 7 is no path",
        "overhop.yaml:5:3: agent.nick: unknown key, did you mean `nic`?",
        "overhop.yaml:6:11: agent.attach: must be 'auto', 'tcx' or 'clsact', not 'xdp'",
        "overhop.yaml:7:8: store: must be a mapping, not '/var/store'",
        "overhop.yaml:8:19: metrics.listen: '127.0.0.1' is not an IP address and a port, such as "
        "127.0.0.1:9464 or [::1]:9464, or none",
        "overhop.yaml:10:9: logging.json: must be true or false, not 5",
        "overhop.yaml:11:10: logging.level: must be 'debug', 'info', 'warning' or 'error', not 'loud'",
        "OVERHOP_METRICS_LISTEN: 'nowhere' is not an IP address and a port, such as "
        "127.0.0.1:9464 or [::1]:9464, or none",
        "OVERHOP_LOG_JSON: must be true or false, not 'maybe'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- 1", "overhop.yaml:1:1: must be a mapping of settings, not a list"),
        ("cluster: [", "overhop.yaml:1:11: broken YAML: while parsing a flow node expected the node content,"
         " but found '<stream end>'"),
        ("cluster: a\ncluster: b", "overhop.yaml:2:1: cluster: is given twice, first in line 1"),
        ("loging: {}", "overhop.yaml:1:1: loging: unknown key, did you mean `logging`?"),
        ("logging: {jsn: true}", "overhop.yaml:1:11: logging.jsn: unknown key, did you mean `json`?"),
        ("agent: {nic: a/b}", "overhop.yaml:1:14: agent.nic: 'a/b' is no interface name (1 to 15 bytes,"
         " no slash, no space)"),
    ],
)  # fmt: skip
def test_resolve_one_problem_is_one_clear_line(text: str, problem: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path) == [problem]


def test_resolve_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read: No such file or directory"):
        resolve({}, tmp_path / "no.yaml", {})


def test_resolve_plan_and_nic_conflict_wherever_they_are_from(tmp_path: Path) -> None:
    file = tmp_path / "overhop.yaml"
    file.write_text("agent: {plan: /p}")
    with pytest.raises(ConfigError) as caught:
        resolve({"--nic": "eth0"}, file, {})
    assert str(caught.value) == (
        f"{file}:1 and --nic: the plan names the NIC: give one of them, or none for the other"
    )
    assert resolve({"--nic": "eth0", "--plan": "none"}, file, {}).config.agent.nic == "eth0"


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:0", Listen("127.0.0.1", 0)),
        ("[::1]:9464", Listen("::1", 9464)),
        ("0.0.0.0:80", Listen("0.0.0.0", 80)),
    ],
)
def test_listen_reads_and_shows_addresses(text: str, listen: Listen) -> None:
    found = resolve({"--metrics-listen": text}, None, {}, NOWHERE).config.metrics.listen
    assert found == listen
    assert str(found) == text


@pytest.mark.parametrize("text", ["127.0.0.1:65536", "127.0.0.1:-1", ":9464", "localhost:9464", "1.2.3.4:"])
def test_listen_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an IP address and a port"):
        resolve({"--metrics-listen": text}, None, {}, NOWHERE)


def test_settings_have_a_meaning_and_names_of_their_own() -> None:
    assert all(each.doc.endswith(".") for each in SETTINGS)
    assert len({each.option.flag for each in SETTINGS}) == len(SETTINGS)
    assert {each.name: each.variable for each in SETTINGS}["metrics.listen"] == "OVERHOP_METRICS_LISTEN"


def check(*arguments: str) -> int:
    return cli.main(["config", "check", *arguments])


def test_config_check_shows_values_and_where_they_are_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "plan.yaml").write_text("nic: eth0\nvports: [{match: v}]")
    (tmp_path / "c.yaml").write_text("cluster: shop\nagent: {plan: plan.yaml}")
    assert check(str(tmp_path / "c.yaml")) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = [line.split() for line in said.out.splitlines()]
    assert ["cluster", "shop", f"{tmp_path}/c.yaml:1"] in lines
    assert ["store.url", "none", "OVERHOP_STORE"] in lines
    assert ["logging.level", "info", "default"] in lines
    assert "the plan is right: nic eth0, 1 entries for vports" in said.out


def test_config_check_of_a_wrong_plan_is_code_2_with_its_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.yaml").write_text("nik: eth0\nvports: 3")
    (tmp_path / "c.yaml").write_text("agent: {plan: plan.yaml}")
    assert check(str(tmp_path / "c.yaml")) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"overhop: {tmp_path}/plan.yaml:1:1: nik: unknown key, did you mean `nic`?\n"
        f"overhop: {tmp_path}/plan.yaml:2:9: vports: must be a list, not 3\n"
    )


def test_config_check_json_has_problems_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("clutser: a\nnode: 3")
    assert check(str(tmp_path / "c.yaml"), "--json") == 2
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out)["problems"] == [
        {
            "file": f"{tmp_path}/c.yaml",
            "line": 1,
            "column": 1,
            "path": "clutser",
            "message": "unknown key, did you mean `cluster`?",
        },
        {
            "file": f"{tmp_path}/c.yaml",
            "line": 2,
            "column": 7,
            "path": "node",
            "message": "must be text (quotes help), not 3",
        },
    ]


def test_config_check_json_of_a_right_file_has_every_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("logging: {json: true}")
    assert check(str(tmp_path / "c.yaml"), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["problems"] == []
    assert said["file"] == f"{tmp_path}/c.yaml"
    rows = {row["name"]: row for row in said["settings"]}
    assert rows["logging.json"] == {
        "name": "logging.json",
        "value": True,
        "from": "file",
        "source": f"{tmp_path}/c.yaml:1",
        "option": "--log-json",
        "variable": "OVERHOP_LOG_JSON",
        "default": False,
        "doc": "One JSON object a line instead of key=value.",
    }


def test_config_check_says_what_is_wrong_with_logging_with_all_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "overhop.yaml").write_text("nod: n1")
    monkeypatch.setenv("OVERHOP_LOG_LEVEL", "loud")
    monkeypatch.setenv("OVERHOP_NODE", "\udcff")
    assert check(str(tmp_path / "overhop.yaml"), "--json") == 2
    said = json.loads(capsys.readouterr().out)
    assert [each["message"] for each in said["problems"]] == [
        "unknown key, did you mean `node`?",
        "'\\udcff' is no name (1 to 63 bytes, printable, no space)",
        "must be 'debug', 'info', 'warning' or 'error', not 'loud'",
    ]


def test_guide_example_is_complete_and_right(tmp_path: Path) -> None:
    text = GUIDE.split("```yaml\n")[1].split("```")[0]
    found = resolved(text, tmp_path)
    assert {name for name, source in found.sources.items() if source.kind == "file"} == {
        each.name for each in SETTINGS
    }


@pytest.mark.parametrize("line", GUIDE.split("```yaml\n")[2].split("```")[0].splitlines())
def test_guide_stores_in_one_line_are_right(line: str, tmp_path: Path) -> None:
    assert isinstance(resolved(line, tmp_path).config.store.url, Target)


def test_guide_table_names_every_setting_with_option_variable_and_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w-]+)` \| `(\w+)` \| ([^|]+) \|", GUIDE, re.MULTILINE)
    assert [row[:3] for row in rows] == [(each.name, each.option.flag, each.variable) for each in SETTINGS]
    defaults = {name: default.strip("`") for name, _, _, default in rows}
    assert defaults == {
        "cluster": "local",
        "node": "the host name",
        "agent.plan": "none",
        "agent.nic": "none",
        "agent.attach": "auto",
        "agent.controller": "none",
        "agent.controller_token_file": "none",
        "agent.controller_ca_file": "none",
        "agent.controller_name": "none",
        "agent.cri": "auto",
        "agent.state": "/var/lib/overhop/agent",
        "store.url": "/var/lib/overhop/store",
        "store.token_file": "none",
        "store.ca_file": "none",
        "store.spool": "/var/lib/overhop/spool",
        "store.spool_bytes": "1073741824",
        "store.spool_age_s": "259200.0",
        "store.send_rows_per_s": "10000.0",
        "controller.listen": "127.0.0.1:9443",
        "controller.certificate": "none",
        "controller.key": "none",
        "controller.policies": "none",
        "controller.agent_tokens": "none",
        "controller.people_token_file": "none",
        "controller.namespace": "overhop",
        "controller.kubeconfig": "none",
        "metrics.listen": "127.0.0.1:9464",
        "logging.level": "info",
        "logging.json": "false",
    }


SERVER = "influxdb2://influx.example:8086/team"


def test_resolve_store_may_be_a_server_in_one_line(tmp_path: Path) -> None:
    found = resolved(f"store: {{url: '{SERVER}', token_file: token}}", tmp_path).config.store
    assert str(found.url) == SERVER
    assert found.token_file == tmp_path / "token"
    other = resolved("store: {token_file: p}", tmp_path, {"--store": "influxdb1://u@h/"})
    assert str(other.config.store.url) == "influxdb1://u@h:8086/"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"store: {{url: '{SERVER}'}}", "influxdb2 needs a token: name its file with store.token_file"),
        (
            f"store: {{url: '{SERVER}', token_file: none}}",
            "influxdb2 needs a token: name its file with store.token_file",
        ),
        (
            "store: {url: 'influxdb1://u@h/'}",
            "a user needs a password: name its file with store.token_file",
        ),
        ("store: {url: influxdb2}", "such as influxdb2://HOST/ (a directory: ./influxdb2)"),
        ("store: {url: 'influxdb1:/u:hunter2@h'}", "such as influxdb1://HOST/ (a directory: ./influxdb1)"),
        (
            f"store: {{url: '{SERVER}', token_file: t, spool: none}}",
            "rows that go to a server wait in a spool",
        ),
        ("store: {url: 'influxdb2://u:hunter2@h/'}", "it has a password in it: put that into a file"),
        ("store: {url: 'influxdb3://h/'}", "influxdb3:// is none of influxdb2://, influxdb1://"),
        ("store: {url: 'influxdb1://h/org'}", "influxdb1 has no organisations"),
        ("store: {url: 'influxdb2:///'}", "it names no host"),
        ("store: {url: 'influxdb2://h:99999/'}", "it is no address of a server"),
        ("store: {url: 'influxdb2://h/?bucket=x'}", "'bucket' is unknown: there is prefix only"),
        ("store: {spool_bytes: 5MiB}", "'5MiB' is no size such as 512MiB or 2GiB, at least 16MiB"),
        ("store: {spool_bytes: 16777215}", "16777215 is no size such as 512MiB or 2GiB, at least 16MiB"),
        ("store: {spool_bytes: 1.5GiB}", "'1.5GiB' is no size such as 512MiB or 2GiB, at least 16MiB"),
        ("store: {spool_bytes: true}", "True is no size such as 512MiB or 2GiB, at least 16MiB"),
        ("store: {spool_age_s: soon}", "'soon' is no number from 1 to 1,000,000,000"),
        ("store: {spool_age_s: .nan}", "nan is no number from 1 to 1,000,000,000"),
        ("store: {send_rows_per_s: 0}", "0 is no number from 1 to 1,000,000,000"),
    ],
)
def test_resolve_store_that_cannot_be_is_one_clear_line(text: str, problem: str, tmp_path: Path) -> None:
    [said] = problems(text, tmp_path)
    assert problem in said
    assert "hunter2" not in said


def test_resolve_sizes_and_numbers_of_the_spool(tmp_path: Path) -> None:
    found = resolved(
        "store: {spool_bytes: 2GiB}", tmp_path, {"--spool-age": "60"}, OVERHOP_SEND_ROWS_PER_S="500"
    )
    store = found.config.store
    assert (store.spool_bytes, store.spool_age_s, store.send_rows_per_s) == (2 << 30, 60.0, 500.0)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("16777216", 16_777_216), ("16MiB", 16_777_216), ("32768KiB", 33_554_432), ("1TiB", 1_099_511_627_776)],
)
def test_resolve_size_from_the_environment(text: str, size_bytes: int) -> None:
    assert resolve({}, None, {"OVERHOP_SPOOL_BYTES": text}, NOWHERE).config.store.spool_bytes == size_bytes


def test_resolve_store_problems_of_every_source_are_said_together(tmp_path: Path) -> None:
    file = tmp_path / "overhop.yaml"
    file.write_text("store:\n  url: influxdb2://u:hunter2@h/\n  spool_bytes: 1\n")
    with pytest.raises(ConfigError) as caught:
        resolve({"--spool-age": "0"}, file, {"OVERHOP_SEND_ROWS_PER_S": "x"})
    assert [str(problem) for problem in caught.value.problems] == [
        f"{file}:2:8: store.url: it has a password in it: put that into a file and name it with "
        "--store-token-file",
        f"{file}:3:16: store.spool_bytes: 1 is no size such as 512MiB or 2GiB, at least 16MiB",
        "OVERHOP_SEND_ROWS_PER_S: 'x' is no number from 1 to 1,000,000,000",
        "--spool-age: '0' is no number from 1 to 1,000,000,000",
    ]


@pytest.mark.parametrize(
    "server", ["influxdb2://h:8086/overhop", "influxdb2+https://[::1]:9999/a%20b?prefix=x"]
)
def test_resolve_server_of_the_environment_takes_the_token_of_the_file(server: str, tmp_path: Path) -> None:
    found = resolved("store: {token_file: t}", tmp_path, OVERHOP_STORE=server)
    assert str(found.config.store.url) == server
    assert found.sources["store.url"] == Source("environment", "OVERHOP_STORE")


def test_config_check_of_a_server_without_its_token_is_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text(f"store: {{url: '{SERVER}'}}")
    monkeypatch.delenv("OVERHOP_STORE", raising=False)
    assert check(str(tmp_path / "c.yaml")) == 2
    assert capsys.readouterr().err == (
        f"overhop: {tmp_path}/c.yaml:1: influxdb2 needs a token: name its file with store.token_file\n"
    )


def test_config_imports_no_client_of_a_server() -> None:
    script = "import sys, overhop.config, overhop.sources; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    rooms = {module.partition(".")[0] for module in done.stdout.split()}
    assert rooms & {"urllib3", "influxdb_client", "duckdb", "numpy"} == set()
