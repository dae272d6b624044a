# SPDX-License-Identifier: Apache-2.0
"""Heads out of segments: order, repetition, loss, pipelining, bodies, bounds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from overhop.sidecar import streams
from overhop.sidecar.head import Head, Whole
from overhop.sidecar.packets import Segment, Why
from overhop.sidecar.streams import Streams

SRC, DST = b"\x0a\1\0\1", b"\x0a\2\0\2"
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"  # 27 bytes
POST = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"  # 38 bytes
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def segment(seq: int, data: bytes, length: int | None = None, ack: int = 7, is_syn: bool = False) -> Segment:
    return Segment(SRC, DST, 40000, 80, seq, ack, is_syn, data, len(data) if length is None else length)


def heads(*segments: Segment) -> tuple[list[Head], list[Why]]:
    found: list[Head] = []
    under_test = Streams(found.append)
    whys = [under_test.add(each) for each in segments]
    under_test.end()
    return found, whys


def brief(*segments: Segment) -> list[tuple[bytes, Whole, int, bool]]:
    return [(head.data, head.whole, head.first_bytes, head.is_seen) for head in heads(*segments)[0]]


def test_add_one_packet_is_one_head_with_its_numbers() -> None:
    assert heads(segment(100, GET)) == (
        [Head(SRC, DST, 100, 7, GET, Whole.WHOLE, 27, True)],
        [Why.REQUEST],
    )


def test_add_packets_of_a_connection_are_a_head_each() -> None:
    assert (
        brief(segment(100, GET), segment(127, GET), segment(154, GET)) == [(GET, Whole.WHOLE, 27, True)] * 3
    )


def test_add_split_head_is_put_together_and_knows_its_first_packet() -> None:
    assert brief(segment(100, GET[:20]), segment(120, GET[20:])) == [(GET, Whole.WHOLE, 20, True)]


def test_add_split_within_the_empty_line_is_one_head() -> None:
    for at in range(4, 27):
        assert brief(segment(0, GET[:at]), segment(at, GET[at:])) == [(GET, Whole.WHOLE, at, True)]


def test_add_parts_out_of_order_are_put_in_order() -> None:
    parts = [segment(100, GET[:9]), segment(115, GET[15:]), segment(109, GET[9:15]), segment(127, GET)]
    assert brief(*parts) == [(GET, Whole.WHOLE, 9, True), (GET, Whole.WHOLE, 27, True)]


def test_add_requests_out_of_order_behind_a_part_are_all_there() -> None:
    parts = [segment(100, GET[:9]), segment(127, GET), segment(154, GET[:5]), segment(109, GET[9:])]
    assert brief(*parts) == [
        (GET, Whole.WHOLE, 9, True),
        (GET, Whole.WHOLE, 27, True),
        (GET[:5], Whole.INCOMPLETE, 5, True),
    ]


def test_add_sequence_numbers_wrap() -> None:
    assert brief(segment(0xFFFFFFF0, GET[:16]), segment(0, GET[16:]), segment(11, GET)) == [
        (GET, Whole.WHOLE, 16, True),
        (GET, Whole.WHOLE, 27, True),
    ]


def test_add_repetitions_are_left_out() -> None:
    found, whys = heads(segment(100, GET), segment(100, GET), segment(127, GET), segment(100, GET))
    assert len(found) == 2
    assert whys == [Why.REQUEST, Why.REPEATED, Why.REQUEST, Why.REPEATED]


def test_add_repetition_with_more_behind_it_adds_what_is_new() -> None:
    assert brief(segment(100, GET[:10]), segment(100, GET)) == [(GET, Whole.WHOLE, 10, True)]


def test_add_request_behind_a_repetition_in_one_packet_is_not_seen() -> None:
    assert brief(segment(100, GET), segment(100, GET + GET)) == [
        (GET, Whole.WHOLE, 27, True),
        (GET, Whole.WHOLE, 27, False),
    ]


def test_add_pipelined_requests_in_one_packet_are_told_apart() -> None:
    assert brief(segment(100, GET * 3)) == [
        (GET, Whole.WHOLE, 81, True),
        (GET, Whole.WHOLE, 54, False),
        (GET, Whole.WHOLE, 27, False),
    ]


def test_add_pipelined_request_that_goes_on_in_the_next_packet() -> None:
    assert brief(segment(100, GET + GET[:8]), segment(135, GET[8:])) == [
        (GET, Whole.WHOLE, 35, True),
        (GET, Whole.WHOLE, 8, False),
    ]


def test_add_pipelined_request_that_is_cut_within_its_method_is_one() -> None:
    assert brief(segment(100, GET + GET[:1]), segment(128, GET[1:])) == [
        (GET, Whole.WHOLE, 28, True),
        (GET, Whole.WHOLE, 1, False),
    ]


def test_add_request_behind_a_body_that_is_cut_within_its_method_is_one() -> None:
    at = len(POST)
    assert brief(segment(0, POST), segment(at, b"12345G"), segment(at + 6, GET[1:])) == [
        (POST, Whole.WHOLE, at, True),
        (GET, Whole.WHOLE, 1, False),
    ]


def test_add_thousands_of_pipelined_requests_in_one_packet_are_counted() -> None:
    assert len(brief(segment(0, GET * 2400))) == 2400


def test_add_body_of_known_length_is_skipped_whatever_it_holds() -> None:
    long = POST.replace(b": 5", b": 64")
    found, whys = heads(segment(0, long), segment(39, GET), segment(66, b"x" * 37 + GET))
    assert [(head.data, head.is_seen) for head in found] == [(long, True), (GET, False)]
    assert whys == [Why.REQUEST, Why.BODY, Why.REQUEST]


def test_add_request_behind_a_body_in_the_same_packet_is_not_seen() -> None:
    assert brief(segment(0, POST + b"12345" + GET)) == [
        (POST, Whole.WHOLE, 70, True),
        (GET, Whole.WHOLE, 27, False),
    ]


def test_add_body_of_unknown_length_ends_where_a_packet_begins_with_a_method() -> None:
    found, whys = heads(segment(0, CHUNKED + b"3\r\nGET"), segment(53, b"\r\n0\r\n\r\n"), segment(60, GET))
    assert [head.data for head in found] == [CHUNKED, GET]
    assert whys == [Why.REQUEST, Why.NO_REQUEST, Why.REQUEST]


def test_add_lost_packet_leaves_the_head_incomplete() -> None:
    found, _ = heads(segment(0, GET[:9]), segment(27, GET, ack=8))
    assert [(head.data, head.whole) for head in found] == [(GET[:9], Whole.INCOMPLETE), (GET, Whole.WHOLE)]


def test_add_many_packets_behind_a_lost_one_are_looked_at_in_the_end() -> None:
    later = [segment(27 * number, GET) for number in range(1, 80)]
    found, _ = heads(segment(0, GET[:9]), *later)
    assert [head.whole for head in found] == [Whole.INCOMPLETE] + [Whole.WHOLE] * 79


def test_add_head_without_the_right_end_is_over_when_an_answered_request_comes() -> None:
    unix = GET.replace(b"\r\n", b"\n")
    found, _ = heads(segment(0, unix), segment(24, GET, ack=90))
    assert [(head.data, head.whole) for head in found] == [(unix, Whole.INCOMPLETE), (GET, Whole.WHOLE)]


def test_add_head_without_end_is_bounded() -> None:
    parts = [segment(0, b"GET / ")] + [segment(6 + 9000 * number, b"x" * 9000) for number in range(20)]
    found, _ = heads(*parts)
    assert [head.whole for head in found] == [Whole.INCOMPLETE]
    assert 65536 < len(found[0].data) < 75000


def test_add_cut_packet_gives_what_there_is_and_goes_on_behind_it() -> None:
    assert brief(segment(0, GET[:12], 27), segment(27, GET)) == [
        (GET[:12], Whole.CUT, 27, True),
        (GET, Whole.WHOLE, 27, True),
    ]


def test_add_cut_within_a_body_does_not_matter() -> None:
    assert brief(segment(0, POST + b"12", len(POST) + 5), segment(len(POST) + 5, GET)) == [
        (POST, Whole.WHOLE, 43, True),
        (GET, Whole.WHOLE, 27, True),
    ]


def test_add_cut_within_the_method_is_said() -> None:
    assert heads(segment(0, b"GE", 27), segment(27, b"", 27)) == ([], [Why.CUT, Why.CUT])


def test_add_connection_with_the_same_ports_begins_anew() -> None:
    syn = segment(5000, b"", is_syn=True)
    assert len(brief(segment(9000, GET), syn, segment(5001, GET))) == 2
    assert len(brief(segment(2_000_000_000, GET), segment(1, GET))) == 2


def test_add_what_is_no_request_is_named() -> None:
    _, whys = heads(
        segment(0, b"\x16\x03\x01\x02\0"),
        segment(0, b"PRI * HTTP/2.0\r\n"),
        segment(0, b"HTTP/1.1 200 OK\r\n"),
        segment(0, b"*3\r\n$3\r\nSET\r\n"),
        segment(0, b""),
    )
    assert whys == [Why.TLS, Why.HTTP2, Why.RESPONSE, Why.NO_REQUEST, Why.EMPTY]


def test_add_streams_are_bounded_and_the_oldest_goes_first() -> None:
    found: list[Head] = []
    under_test = Streams(found.append)
    for number in range(streams.MOST_STREAMS + 3):
        under_test.add(segment(0, GET[:9])._replace(sport=number & 0xFFFF, dport=number >> 16))
    assert len(found) == 3
    under_test.end()
    assert len(found) == streams.MOST_STREAMS + 3


def test_add_bytes_that_are_held_are_bounded() -> None:
    found: list[Head] = []
    under_test = Streams(found.append)
    part = b"GET / HTTP/1.1\r\nx: " + b"y" * 60_000
    for number in range(1000):
        under_test.add(segment(0, part)._replace(sport=number))
    assert len(found) == 1000 - (streams.MOST_HELD_BYTES // len(part) + 1)


REQUEST = b"PUT /a HTTP/1.1\r\nhost: b\r\ncontent-length: 9\r\n\r\n123456789"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_add_any_order_with_repetitions_gives_each_head_once(data: st.DataObject) -> None:
    """The first packet first, everything else as the network likes; no answers come."""
    stream = b"".join(
        data.draw(st.lists(st.sampled_from([GET, REQUEST, POST + b"abcde"]), min_size=1, max_size=6))
    )
    cuts = sorted(data.draw(st.sets(st.integers(8, len(stream) - 1), max_size=20)))
    ends = [*cuts, len(stream)]
    parts = [segment(at, stream[at:end]) for at, end in zip([0, *cuts], ends, strict=True)]
    rest = data.draw(st.permutations(parts[1:] + data.draw(st.lists(st.sampled_from(parts), max_size=5))))
    found, whys = heads(parts[0], *rest)
    if rest == sorted(rest, key=lambda each: each.seq):
        expected, _ = heads(segment(0, stream))
        assert [head.data for head in found] == [head.data for head in expected]
    assert len(whys) == 1 + len(rest)
    # What begins in the last byte of a packet that came too late has no more bytes than that.
    assert all(b"GET PUT POST".find(head.data[:3]) in (0, 4, 8) for head in found)


@settings(max_examples=200, deadline=None)
@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=4))
def test_add_requests_that_overtake_each_other_are_counted_once_each(
    order: list[int], repeated: list[int]
) -> None:
    """Whole requests in any order; each packet that is repeated came before."""
    found, _ = heads(*(segment(1000 + 27 * at, GET) for at in order))
    seqs = [head.seq for head in found]
    assert len(seqs) == len(set(seqs))
    again, _ = heads(*(segment(1000 + 27 * at, GET) for at in (*range(6), *repeated)))
    assert len(again) == 6


def test_add_request_that_was_overtaken_is_counted() -> None:
    assert [head.seq for head in heads(segment(127, GET), segment(100, GET))[0]] == [127, 100]
    parts = [segment(100, GET), segment(154, GET), segment(127, GET), segment(127, GET), segment(100, GET)]
    found, whys = heads(*parts)
    assert [head.seq for head in found] == [100, 154, 127]
    assert whys[3:] == [Why.REPEATED, Why.REPEATED]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 400),
            st.sampled_from([GET, POST, CHUNKED, b"GET /", b"\r\n\r\n", b"x" * 30, GET * 3, b""]),
            st.integers(0, 20),
            st.integers(0, 2),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_add_any_segments_are_counted_and_leave_nothing_held(
    chosen: list[tuple[int, bytes, int, int, bool]],
) -> None:
    found: list[Head] = []
    under_test = Streams(found.append)
    for seq, data, more, ack, is_syn in chosen:
        under_test.add(segment(seq, data, len(data) + more, ack, is_syn=is_syn))
    under_test.end()
    assert under_test.held_bytes == 0
