# SPDX-License-Identifier: Apache-2.0
"""`overhop hops` and `overhop trace` as they are typed, on a real store of a few rows."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from overhop import cli
from store.appender import Appender
from store.batch import APPENDED, Batch, Labels
from store.schema import HOP_10S, HOP_SAMPLE, TEXT, Table
from tests.unit.memory_store import Row, sample, summary

TRACE = "0af7651916cd43dd8448eb211c80319c"
HOSTILE = "\x1b[2J\u202e[bold]\n" + "x" * 253
ONE_OF_10_US = "iAIB"


def batch_of(table: Table, rows: Sequence[Row]) -> Batch:
    columns = table.columns[len(APPENDED) :]
    return Batch(
        table,
        {
            each.name: Labels.of([str(row[each.name]) for row in rows])
            if each.dtype == TEXT
            else np.array([row[each.name] for row in rows], each.dtype)
            for each in columns
        },
    )


def samples(*rows: Row) -> Batch:
    return batch_of(HOP_SAMPLE, rows)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two hops of one trace, from a pod with a hostile name; one more hop in the summaries of n2."""
    now_ns = time.time_ns()
    directory = tmp_path / "store"
    with Appender(directory, "local", "n1") as one:
        one.append(samples(sample(at_ns=now_ns, src_ns="shop", src_pod=HOSTILE, src_workload=HOSTILE)))
        one.append(samples(sample(at_ns=now_ns + 900_000, kind="local", seq=2, mono_ns=5_000_900_000)))
    with Appender(directory, "local", HOSTILE) as other:
        other.append(batch_of(HOP_10S, [summary(HOP_10S, hist=ONE_OF_10_US, src_workload=HOSTILE)]))
        other.append(samples(sample(trace_lo=7, kept_shift=6)))
    return directory


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OVERHOP_STORE", "OVERHOP_CONFIG", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str) -> int:
    return cli.main(arguments)


@pytest.mark.parametrize(
    "text", [TRACE, TRACE.upper(), f"00-{TRACE}-b7ad6b7169203331-01", f"{TRACE}-b7ad6b7169203331-1"]
)
def test_trace_in_any_form_is_found(store: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", text, "--store", str(store)) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"trace {TRACE}\n")
    assert "2 hops on n1" in said.out
    assert said.err == ""


def test_trace_of_hostile_names_is_plain_lines(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", TRACE, "--store", str(store)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert max(len(line) for line in lines) <= 120


def test_trace_json_has_everything_as_it_is(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", TRACE, "--store", str(store), "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["trace_id"] == TRACE
    assert [(hop["kind"], hop["begin_ns"]) for hop in data["hops"]] == [("rx", 0), ("local", 900_000)]
    assert data["hops"][0]["source_end"] == {"namespace": "shop", "pod": HOSTILE, "workload": HOSTILE}
    assert data["nodes"] == [
        {"node": "n1", "state": "seen", "hops": 2, "kept_shift": 0},
        {"node": HOSTILE, "state": "not sampled", "hops": 0, "kept_shift": 6},
    ]


def test_trace_that_is_not_there_is_one_line_about_what_was_searched(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = "ffffffffffffffffffffffffffffffff"
    assert run("trace", unknown, "--store", str(store)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    where = f"trace {unknown}: not found in the store {re.escape(str(store))}"
    searched = rf"searched \S+ \(1/64 kept\), n1 \(all kept\), {when} to {when}"
    sampling = ", where it may have been left out by sampling"
    assert re.fullmatch(f"overhop: {where}: {searched}{sampling}\n", said.err)


@pytest.mark.parametrize("text", ["", "nonsense", TRACE[:-1], "0" * 32, HOSTILE])
def test_trace_of_no_id_is_wrong_usage(store: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", text, "--store", str(store)) == 2
    assert re.fullmatch(r"overhop: [^\n\x1b\u202e]+\n", capsys.readouterr().err)


@pytest.mark.parametrize("command", [["trace", TRACE], ["hops"]])
def test_store_that_cannot_be_read_is_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "version").write_text('{"format": 99, "schema": 99}')
    for directory, expected in ((tmp_path / "nope", "no store is here"), (newer, "format 99")):
        assert run(*command, "--store", str(directory)) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert re.fullmatch(r"overhop: [^\n]+\n", said.err)
        assert expected in said.err


def test_trace_and_hops_of_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Appender(tmp_path / "s", "local", "n1").close()
    assert run("trace", TRACE, "--store", str(tmp_path / "s")) == 1
    assert "it has no samples yet: does an agent write there?" in capsys.readouterr().err
    assert run("hops", "--store", str(tmp_path / "s")) == 0
    assert "no hop in that time in the store" in capsys.readouterr().out


def test_trace_with_wait_waits_until_it_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    appender = Appender(tmp_path, "local", "n1")
    later = threading.Timer(0.5, lambda: appender.append(samples(sample())))
    later.start()
    begin_s = time.monotonic()
    assert run("trace", TRACE, "--store", str(tmp_path), "--wait", "30") == 0
    assert time.monotonic() - begin_s < 20
    later.join()
    appender.close()
    assert "1 hop on n1" in capsys.readouterr().out


def test_trace_without_a_configured_store_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", TRACE, "--store", "none") == 2
    assert (
        capsys.readouterr().err
        == "overhop: store: the configuration says none: give --store DIR or a server's URL\n"
    )


def test_hops_of_the_store_are_printable_lines(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hops", "--since", "1h", "--store", str(store)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "1 hop in 1 series · quantiles ±1 %"
    assert all(line.isprintable() for line in lines)
    assert max(len(line) for line in lines) <= 120


def test_hops_of_row_times_ahead_of_the_clock_are_shown_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "store"
    ahead_ns = time.time_ns() + 7_260_000_000_000
    with Appender(directory, "local", "n1", clock=lambda: ahead_ns) as early:
        early.append(batch_of(HOP_10S, [summary(HOP_10S, hist=ONE_OF_10_US)]))
    assert run("hops", "--since", "1h", "--store", str(directory), "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["hops"] == 1
    assert 7_200 < data["ahead_s"]["n1"] <= 7_260
    assert run("hops", "--since", "1h", "--store", str(directory)) == 0
    assert "\nrow times ahead of the clock: n1 by 7,2" in capsys.readouterr().out
    assert run("hops", "--since", "1h", "--until", "now", "--store", str(directory), "--json") == 0
    assert json.loads(capsys.readouterr().out)["hops"] == 0


def test_hops_json_of_the_store_is_one_object(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hops", "--since", "1h", "--store", str(store), "--json") == 0
    data = json.loads(capsys.readouterr().out)
    (row,) = data["rows"]
    assert (row["node"], row["source_workload"], row["count"], row["p50_us"]) == (HOSTILE, HOSTILE, 1, 10.0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--namespace", "nobody"], 0),
        (["--namespace", "shop", "--workload", "cart"], 1),
        (["--node", "n1"], 0),
        (["--kind", "tx"], 0),
        (["--min-latency", "49"], 3),
        (["--min-latency", "51"], 0),
        (["--until", "1m"], 0),
    ],
)
def test_hops_filters(
    store: Path, arguments: list[str], expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("hops", "--store", str(store), "--json", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["hops"] == expected


@pytest.mark.parametrize(
    "arguments", [["--since", "tomorrow"], ["--since", "1h", "--until", "2h"], ["--since", "1h", "--once"]]
)
def test_hops_with_times_that_cannot_be_are_wrong_usage(
    store: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("hops", "--store", str(store), *arguments) == 2
    assert re.fullmatch(r"overhop: [^\n]+\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--since", "1h", "--until", "2h"], "--since 1h is not before --until 2h"),
        (["--since", "2100-01-01"], "--since 2100-01-01 is not before now"),
        (["--since", "2100-01-01", "--until", "2101-01-01"], "--since 2100-01-01 is not before now"),
    ],
)
def test_hops_of_no_time_say_why(
    store: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("hops", "--store", str(store), *arguments) == 2
    assert capsys.readouterr().err == f"overhop: {reason}\n"


def test_hops_until_a_time_to_come_have_their_rate_up_to_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "two rows"
    now_ns = time.time_ns()
    for at_ns in (now_ns - 4_000_000_000, now_ns):
        with Appender(store, "local", "n1", clock=partial(int, at_ns)) as one:
            one.append(batch_of(HOP_10S, [summary(HOP_10S, hist=ONE_OF_10_US)]))
    assert run("hops", "--store", str(store), "--since", "1h", "--until", "2190-01-01", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["until"] < "2190"
    (rate,) = [row["per_s"] for row in said["rows"]]
    assert 0.1 < rate <= 0.25


def test_hops_of_ends_without_a_namespace_say_so(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hops", "--store", str(store), "--namespace", "") == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(" · namespace ''")


def test_closed_standard_output_is_one_line(store: Path) -> None:
    command = f"{sys.executable} -m overhop hops --store {store} >&-"
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "overhop: standard output is closed\n")


def test_closed_standard_error_is_no_defect(store: Path) -> None:
    command = f"{sys.executable} -m overhop hops --store {store} --json 2>&-"
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["series"] == 1


@pytest.mark.parametrize(
    ("words", "number", "expected"),
    [
        ("overhop hops --kind ", "3", ["rx", "tx", "local", "forward"]),
        ("overhop hops --so", "2", ["--sort"]),
        ("overhop inv", "1", ["inventory"]),
        ("overhop trace --w", "2", ["--wait"]),
    ],
)
def test_completion_knows_commands_options_and_values(words: str, number: str, expected: list[str]) -> None:
    variables = {"_OVERHOP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": number}
    done = subprocess.run(
        [sys.executable, "-m", "overhop"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == expected


def test_hops_where_the_locale_is_ascii_has_question_marks(store: Path) -> None:
    command = [sys.executable, "-m", "overhop", "hops", "--store", str(store)]
    variables = {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    assert "1 hop in 1 series ? quantiles ?1 %" in done.stdout
    assert done.stderr == ""


def test_hops_whose_reader_goes_away_says_nothing(store: Path) -> None:
    command = [sys.executable, "-m", "overhop", "hops", "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
