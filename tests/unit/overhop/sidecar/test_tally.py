# SPDX-License-Identifier: Apache-2.0
"""What becomes of requests, and the share at a window against the model of the kernel program."""

from collections import Counter
from io import BytesIO
from random import Random

import pytest

from bpf.record import Point
from bpf.spec import ProgramSpec
from overhop.sidecar.packets import Why
from overhop.sidecar.pcap import CaptureFile
from overhop.sidecar.tally import OTHERS, Counts, Outcome, Tally
from tests.oracle.context import names_of
from tests.oracle.context import search as model_search
from tests.oracle.expect import Model, Step, Vports
from tests.oracle.generate import Generator
from tests.oracle.requests import METHODS, Requests
from tests.unit.overhop.sidecar.captures import (
    AGENT,
    HOST,
    LINE,
    NO_CONTEXT,
    RELOCATED,
    STOCK,
    W3C,
    mixed,
    packet,
    pcap,
)
from tests.unit.overhop.sidecar.test_search import SEED

ONE, TWO = bytes((10, 1, 0, 1)), bytes((10, 1, 0, 2))


def counts_of(capture: bytes, window: int = 200) -> Counts:
    tally = Tally(window)
    for frame in CaptureFile(BytesIO(capture), "x").frames():
        tally.take(frame)
    return tally.end()


def outcomes(*packets: bytes, snap_length: int = 1 << 16) -> dict[Outcome, int]:
    return dict(counts_of(pcap(*packets, snap_length=snap_length)).requests)


def test_tally_of_a_mixed_capture_counts_every_packet_and_request_once() -> None:
    counts = counts_of(mixed())
    assert counts.packets == {Why.REQUEST: 5, Why.NOT_TCP: 1}
    assert counts.requests == {Outcome.CONTEXT: 4, Outcome.NO_CONTEXT: 1}
    assert counts.windows == {105: 3, 430: 1}
    assert counts.offsets == {36: 3, 361: 1}
    assert [counts.found(window) for window in (104, 105, 429, 430)] == [0, 3, 3, 4]


def test_tally_senders_know_what_stands_before_their_contexts() -> None:
    senders = counts_of(mixed()).senders
    assert set(senders) == {ONE, TWO}
    assert (senders[ONE].requests, senders[ONE].relocated, senders[ONE].found) == (3, 3, 3)
    assert (senders[TWO].requests, senders[TWO].relocated, senders[TWO].found) == (1, 0, 0)
    assert (senders[TWO].offsets, senders[TWO].before) == ({361: 1}, {"user-agent": 1})


@pytest.mark.parametrize("before", [b"", b"Tracestate: a=b\r\n", b"X-B3-Sampled: 1\r\nb3: 0\r\n"])
def test_tally_other_context_headers_in_front_are_relocated_too(before: bytes) -> None:
    counts = counts_of(pcap(packet(1, 0, LINE + HOST + before + W3C + b"\r\n")))
    assert counts.senders[ONE].relocated == 1


@pytest.mark.parametrize("line", [b"password in no header\r\n", b"pass word: 1\r\n", b"\xff\xfe: 1\r\n"])
def test_tally_what_is_no_header_name_is_never_kept(line: bytes) -> None:
    counts = counts_of(pcap(packet(1, 0, LINE + line + W3C + b"\r\n")))
    assert counts.senders[ONE].before == {"(no name)": 1}


def test_tally_context_behind_the_first_packet_is_found_by_no_window() -> None:
    counts = counts_of(pcap(packet(1, 0, STOCK[:400]), packet(1, 400, STOCK[400:])))
    assert (counts.with_context, counts.split, counts.found(8192)) == (1, 1, 0)
    assert counts.offsets == {361: 1}


def test_tally_context_within_the_first_packet_of_a_split_head_is_found() -> None:
    counts = counts_of(pcap(packet(1, 0, RELOCATED[:105]), packet(1, 105, RELOCATED[105:])))
    assert (counts.split, counts.windows) == (0, {105: 1})


def test_tally_request_behind_another_is_apart() -> None:
    assert outcomes(packet(1, 0, RELOCATED * 2)) == {Outcome.CONTEXT: 1, Outcome.BEHIND_ANOTHER: 1}


def test_tally_second_copy_with_other_addresses_is_apart() -> None:
    twice = (packet(1, 0, RELOCATED), packet(7, 0, RELOCATED, sport=555))
    assert outcomes(*twice) == {Outcome.CONTEXT: 1, Outcome.COPY: 1}


def test_tally_bad_context_is_apart() -> None:
    bad = LINE + b"traceparent: what\r\n\r\n"
    assert outcomes(packet(1, 0, bad)) == {Outcome.BAD_CONTEXT: 1}


HEADERS = 14 + 20 + 20


@pytest.mark.parametrize(
    ("captured", "outcome"),
    [(104, Outcome.CUT), (105, Outcome.CUT), (106, Outcome.CONTEXT), (len(RELOCATED) - 1, Outcome.CONTEXT)],
)
def test_tally_cut_request_counts_only_with_its_context_and_the_end_of_that(
    captured: int, outcome: Outcome
) -> None:
    """A CR in the last byte that was captured may end a line, or not: nobody knows."""
    assert outcomes(packet(1, 0, RELOCATED), snap_length=HEADERS + captured) == {outcome: 1}


def test_tally_cut_request_without_context_is_not_said_to_have_none() -> None:
    assert outcomes(packet(1, 0, NO_CONTEXT), snap_length=HEADERS + 60) == {Outcome.CUT: 1}


def test_tally_lost_packet_before_the_context_is_incomplete() -> None:
    assert outcomes(packet(1, 0, STOCK[:300])) == {Outcome.INCOMPLETE: 1}


def test_tally_senders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overhop.sidecar.tally.MOST_SENDERS", 2)
    counts = counts_of(pcap(*(packet(number, number, RELOCATED) for number in range(1, 6))))
    assert {address: sender.requests for address, sender in counts.senders.items()} == {
        ONE: 1,
        TWO: 1,
        OTHERS: 3,
    }


WINDOWS = (64, 85, 128, 200, 333, 512, 1024, 4096, 8192)


def test_tally_share_at_each_window_is_what_the_model_finds() -> None:
    """Payloads that mislead a search, one connection each: the same as the model of the kernel's search."""
    print(f"seed {SEED}: set OVERHOP_FUZZ_SEED={SEED} to repeat")
    requests = Requests(Random(SEED), window=200, max_bytes=3000)
    drawn = [requests.draw() for _ in range(6000)]
    payloads = list(
        dict.fromkeys(each for each in drawn if each.startswith(tuple(m + b" " for m in METHODS)))
    )
    names = names_of(ProgramSpec())
    whole = [each for each in payloads if model_search(each, len(each), names).kind]
    packets = [packet(1, at, each, ack=at, sport=at) for at, each in enumerate(whole)]
    counts = counts_of(pcap(*packets))
    assert counts.with_context == len(whole) > 1000
    for window in WINDOWS:
        expected = sum(bool(model_search(each, window, names).kind) for each in whole)
        assert counts.found(window) == expected, window


def test_tally_share_of_a_capture_is_that_of_the_tracers_records() -> None:
    """Packets through the model of the four programs: its records with a context, at three windows."""
    pads = (0, 10, 60, 90, 150, 300, 700, 1300)
    payloads = [LINE + HOST + AGENT + b"x: " + b"y" * pad + b"\r\n" + W3C + b"\r\n" for pad in pads]
    packets = [packet(1, at, each, ack=5, sport=at) for at, each in enumerate(payloads)]
    counts = counts_of(pcap(*packets))
    found = {}
    for window in (150, 200, 1024):
        model = Model(ProgramSpec(window=window), Vports(), has_socket=False)
        for each in packets:
            model.run(Step(Point.NIC_IN, each))
            model.run(Step(Point.VPORT_OUT, each))
        found[window] = sum(record[125] >> 4 != 0 for record in model.records)
        assert len(model.records) == len(pads)
    assert found == {150: 2, 200: 3, 1024: 7}
    assert {window: counts.found(window) for window in found} == found


def test_tally_of_any_packets_counts_each_once_at_every_cut() -> None:
    """All that the fuzz of the kernel program makes: tunnels, damage, repetitions, misleading payload."""
    print(f"seed {SEED}: set OVERHOP_FUZZ_SEED={SEED} to repeat")
    generator = Generator(SEED, ProgramSpec(), 2000)
    rng = Random(SEED)
    for number in range(12):
        packets = [step.packet for step in generator.batch(number, 256)]
        counts = counts_of(pcap(*packets, snap_length=rng.choice((40, 96, 128, 300, 1 << 16))))
        assert counts.packets.total() == len(packets)
        found = counts.windows.total() + counts.split
        assert found == counts.with_context == counts.offsets.total() == counts.kinds.total()
        assert found == sum(sender.requests for sender in counts.senders.values())


def test_counts_found_of_a_window_by_chance_is_only_there() -> None:
    counts = Counts(requests=Counter({Outcome.CONTEXT: 2}), windows=Counter({300: 2}), lucky=Counter({85: 1}))
    assert [counts.found(window) for window in (84, 85, 86, 300)] == [0, 1, 0, 2]
