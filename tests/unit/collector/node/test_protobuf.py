# SPDX-License-Identifier: Apache-2.0
"""Messages written by hand, as the encoding's documentation has them."""

import random

import pytest

from collector.node.pods.protobuf import ProtobufError, flag_field, parse, text_field


def test_documented_examples() -> None:
    assert parse(b"\x08\x96\x01").number(1) == 150
    assert parse(b"\x12\x07testing").text(2) == "testing"
    assert parse(b"\x1a\x03\x08\x96\x01").message(3).number(1) == 150


def test_fields_that_are_not_there_are_zero() -> None:
    empty = parse(b"")
    assert (empty.number(1), empty.text(1), list(empty.messages(1)), empty.texts(1)) == (0, "", [], {})


def test_last_of_several_counts_and_all_are_there() -> None:
    found = parse(b"\x0a\x01a\x0a\x01b")
    assert found.text(1) == "b"
    assert len(found.bytes_[1]) == 2


def test_fixed_sizes_are_passed_over() -> None:
    assert parse(b"\x09" + bytes(8) + b"\x15" + bytes(4) + b"\x18\x05").number(3) == 5


def test_map_of_texts() -> None:
    assert parse(b"\x2a\x06\x0a\x01k\x12\x01v").texts(5) == {"k": "v"}


def test_what_is_written_is_as_documented() -> None:
    assert text_field(2, "testing") + flag_field(1) == b"\x12\x07testing\x08\x01"
    assert text_field(1, "x" * 200) == b"\x0a\xc8\x01" + b"x" * 200


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x08",
        b"\x08\x80",
        b"\x12\x05ab",
        b"\x0b",
        b"\x09\x00",
        b"\x08" + b"\x80" * 11,
        b"\x0a\xff\xff\xff\xff\x7f",
    ],
)
def test_bytes_that_are_no_message(wrong: bytes) -> None:
    with pytest.raises(ProtobufError):
        parse(wrong)


def test_no_bytes_raise_anything_else() -> None:
    rng = random.Random(3)
    for _ in range(5_000):
        data = rng.randbytes(rng.randrange(40))
        try:
            found = parse(data)
            for at in range(1, 4):
                found.text(at)
                list(found.messages(at))
        except ProtobufError:
            pass
