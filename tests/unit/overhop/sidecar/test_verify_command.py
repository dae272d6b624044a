# SPDX-License-Identifier: Apache-2.0
"""`overhop sidecar verify` on captures: exit codes, messages, files."""

import io
import json
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overhop import cli
from tests.unit.overhop.sidecar.captures import RELOCATED, mixed, packet, pcap

LEAK = b"secret-token-of-a-user"


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    file = tmp_path / "a.pcap"
    file.write_bytes(mixed())
    return file


def verify(*arguments: object) -> int:
    return cli.main(["sidecar", "verify", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 1),
        (("--window", 430), 0),
        (("--window", 429), 1),
        (("--threshold", 0.75), 0),
        (("--threshold", 0.76), 1),
        (("--requests", 3), 0),
    ],
)
def test_verify_exit_code_is_by_window_and_threshold(
    capture: Path, arguments: tuple[object, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("--pcap", capture, *arguments) == code
    assert capsys.readouterr().err == ""


def test_verify_capture_without_contexts_is_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.pcap").write_bytes(pcap())
    assert verify("--pcap", tmp_path / "b.pcap", "--threshold", 0) == 1
    assert capsys.readouterr().out.startswith("no request with a context was seen")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--pcap", "a", "--interface", "b"),
        ("--pcap", "a", "--agent"),
        ("--pcap", "a", "--window", 63),
        ("--pcap", "a", "--window", 8193),
        ("--pcap", "a", "--threshold", 1.1),
        ("--pcap", "a", "--requests", 0),
        ("--pcap", "/nowhere/a.pcap"),
        ("--pcap", __file__),
        ("--pcap", "/"),
        ("--pcap", ""),
        ("--pcap", "/proc/self/mem"),
        ("--interface", ""),
        ("--pcap", "a", "--plan", "/nowhere/plan.yaml"),
    ],
)
def test_verify_wrong_usage_is_one_line_and_code_2(
    arguments: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("overhop: ")
    assert said.err.count("\n") == 1


def test_verify_json_is_one_object(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("--pcap", capture, "--json") == 1
    made = json.loads(capsys.readouterr().out)
    assert (made["source"], made["found"], made["with_context"]) == (str(capture), 3, 4)
    assert made["packets"] == {"request": 5, "not_tcp": 1}
    assert made["requests"] == {"context": 4, "no_context": 1}


def test_verify_plan_names_senders_and_says_what_is_searched(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "names: {pods: [{namespace: shop, pod: cart-0, workload: cart, addresses: [10.1.0.2]}]}\n"
    )
    verify("--pcap", capture, "--plan", plan, "--json")
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["senders"]] == ["shop/cart", ""]
    plan.write_text("program: {contexts: [b3-single]}\n")
    assert verify("--pcap", capture, "--plan", plan, "--json") == 1
    assert json.loads(capsys.readouterr().out)["requests"] == {"no_context": 5}


def test_verify_standard_input_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(mixed())))
    assert verify("--pcap", "-", "--window", 430) == 0
    assert "standard input: 4 requests with a context" in capsys.readouterr().out


def test_verify_closed_standard_input_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert verify("--pcap", "-") == 2
    assert capsys.readouterr().err == "overhop: --pcap -: standard input is closed\n"


def test_verify_svg_is_written(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "a.svg"
    assert verify("--pcap", capture, "--svg", picture) == 1
    assert picture.read_text().startswith("<svg ")
    assert verify("--pcap", capture, "--svg", tmp_path / "no" / "a.svg") == 2
    assert f"there is no directory {tmp_path}/no" in capsys.readouterr().err
    assert verify("--pcap", capture, "--svg", tmp_path) == 2
    assert "Is a directory" in capsys.readouterr().err


def test_verify_damaged_capture_says_so_and_counts_what_comes_before(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture.write_bytes(capture.read_bytes()[:-1])
    assert verify("--pcap", capture, "--window", 430) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "ends within a packet: what comes before that was counted" in said


def test_verify_never_shows_payload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = b"GET /" + LEAK + b" HTTP/1.1\r\nhost: " + LEAK + b"\r\n" + LEAK + b"\r\n " + LEAK + b"\r\n"
    whole = request + RELOCATED[16:]
    (tmp_path / "c.pcap").write_bytes(pcap(packet(1, 0, whole + LEAK), packet(2, 0, whole[:150])))
    for more in ((), ("--json",), ("--svg", tmp_path / "c.svg")):
        verify("--pcap", tmp_path / "c.pcap", *more)
    said = capsys.readouterr()
    assert LEAK.decode() not in said.out + said.err + (tmp_path / "c.svg").read_text()
    assert "(no name)" in said.out


def test_verify_reads_100000_packets_within_5_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A request, its answer and two acknowledgements, 25,000 times over a thousand connections."""
    file, packets = tmp_path / "big.pcap", []
    for number in range(25_000):
        source, turn = number % 250, number // 1000
        seq, sport = turn * len(RELOCATED), 40000 + number // 250 % 4
        packets += [
            packet(source, seq, RELOCATED, ack=number, sport=sport),
            packet(9, turn, b"HTTP/1.1 200 OK\r\n\r\n", ack=seq, sport=80),
            packet(source, seq, b"", sport=sport),
            packet(9, turn, b"", sport=80),
        ]
    file.write_bytes(pcap(*packets))
    begin_s = time.process_time()
    assert verify("--pcap", file, "--json") == 0
    took_s = time.process_time() - begin_s
    with capsys.disabled():
        print(f"100,000 packets: {took_s:.2f} s CPU")
    made = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (made["found"], sum(made["packets"].values())) == (25_000, 100_000)
    assert took_s < 5


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=30), st.integers(0, 3000))
def test_verify_damaged_files_are_never_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(mixed())
    for at, value in changes:
        data[at % len(data)] = value
    (tmp_path / "d.pcap").write_bytes(data[:end])
    assert verify("--pcap", tmp_path / "d.pcap") in (0, 1, 2)
    assert "internal error" not in capsys.readouterr().err
