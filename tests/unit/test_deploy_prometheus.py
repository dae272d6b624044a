# SPDX-License-Identifier: Apache-2.0
"""deploy/prometheus: Prometheus accepts it, each rule is tested, and asks for metrics that agents tell."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.hops.totals import HopFacts
from agent.metrics.snapshot import MetricsSnapshot, text
from agent.reading.counters import LOSSES
from agent.storing.output import OutputFacts, Totals
from agent.storing.store import StoreFacts
from bpf.counters import NAMES
from store.spool.facts import REASONS, SpoolFacts
from tests.promtool import program

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "deploy" / "prometheus"
PAGE = (ROOT / "docs" / "metrics.md").read_text()
RULES = DIRECTORY / "overhop-rules.yaml"
TESTS = DIRECTORY / "overhop-rules.test.yaml"
OF_PROMETHEUS = {"up"}
SUFFIXES = ("_bucket", "_sum", "_count")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def exported() -> set[str]:
    """Names of everything that an agent with a server as store tells; empty families are there too."""
    count = {"hop_10s": 1}
    spool = SpoolFacts(sent=count, waiting=count, rejected=count)
    store = StoreFacts("influxdb2://h/", appended=count, waiting=count, dropped=count, spool=spool)
    output = OutputFacts(store, Totals(), {"unknown": 1})
    said = text(MetricsSnapshot("1", "s", "c", HopFacts(), {"ring_full": 1}, output=output)).decode()
    families = set(re.findall(r"^# TYPE (\S+) ", said, re.MULTILINE))
    return families | {name + suffix for name in families for suffix in SUFFIXES}


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "overhop-rules.yaml"),
        ("test", "rules", "overhop-rules.test.yaml"),
        ("check", "config", "prometheus.yml"),
    ],
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    argv = [program("promtool"), *arguments]
    done = subprocess.run(argv, cwd=DIRECTORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_ask_for_metrics_that_agents_tell() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    known = exported() | recorded | OF_PROMETHEUS
    asked = {
        name
        for rule in rules()
        for name in re.findall(r"\b(?:overhop[:_][\w:]+|up)\b", re.sub(r'"[^"]*"', "", rule["expr"]))
    }
    assert asked - known == set()
    assert len(asked) >= 15


def test_rules_ask_for_counters_of_the_kernel_and_all_that_stand_for_a_loss() -> None:
    said = " ".join(rule["expr"] for rule in rules())
    asked = {name for each in re.findall(r'counter=~?"([^"]+)"', said) for name in each.split("|")}
    assert asked - set(NAMES) == set()
    assert set(LOSSES) - asked == set()


def test_each_rule_has_a_test_that_it_fires_and_one_that_it_does_not_and_says_what_to_do() -> None:
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    alerts = [each for test in tests for each in test.get("alert_rule_test", ())]
    fired = {each["alertname"] for each in alerts if each.get("exp_alerts")}
    silent = {each["alertname"] for each in alerts if not each.get("exp_alerts")}
    asked = " ".join(each["expr"] for test in tests for each in test.get("promql_expr_test", ()))
    for rule in rules():
        if "alert" in rule:
            assert rule["alert"] in fired & silent
            assert re.fullmatch(r"[1-9]\d*m", rule["for"])
            assert {"summary", "description"} == set(rule["annotations"])
            assert f"`{rule['alert']}`" in PAGE
            assert rule["labels"]["severity"] in ("info", "warning", "critical")
        else:
            assert rule["record"] in asked
            assert f"`{rule['record']}`" in PAGE
    names = [rule.get("alert") or rule["record"] for rule in rules()]
    assert sorted(names) == sorted(set(names))
    assert {each["alertname"] for each in alerts} - set(names) == set()


def test_rule_about_lost_rows_explains_each_reason() -> None:
    (said,) = (rule["annotations"] for rule in rules() if rule.get("alert") == "OverhopSpoolRowsLost")
    assert {reason for reason in REASONS if reason not in said["description"]} == set()


def test_config_names_our_rules_and_job_and_lets_in_all_that_an_agent_may_have() -> None:
    config = yaml.safe_load((DIRECTORY / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert (config["rule_files"], job["job_name"]) == ([RULES.name], "overhop")
    assert job["sample_limit"] > (200 + 1) * 4 * (21 + 2) + 500


def test_no_metric_has_a_node_or_a_pod_as_label() -> None:
    spool = SpoolFacts(sent={"hop_10s": 1})
    output = OutputFacts(StoreFacts("/s", spool=spool), Totals(), {})
    said = text(MetricsSnapshot("1", "s", "c", output=output)).decode()
    labels = set(re.findall(r'[{,](\w+)="', said))
    assert labels & {"node", "pod", "instance", "trace_id"} == set()
