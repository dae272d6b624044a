# SPDX-License-Identifier: Apache-2.0
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.layout import (
    Entry,
    check_store,
    create_store,
    decode_node,
    encode_node,
    listing,
    node_directory,
    parquet_name,
    parse_name,
    segment_name,
    visible,
)
from store.query import StoreError

NODES = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=300)


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("n1", "n1"),
        ("ip-10-0-0-1.eu", "ip-10-0-0-1.eu"),
        ("", "%"),
        (".", "%2E"),
        ("..", "%2E."),
        (".tmp-1", "%2Etmp-1"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        ("a b\n%", "a%20b%0A%25"),
        ("é", "%C3%A9"),
        ("\0", "%00"),
        ("\udc80", "%ED%B2%80"),
        ("%", "%25"),
    ],
)
def test_encode_node_is_reversible(node: str, name: str) -> None:
    assert (encode_node(node), decode_node(name)) == (name, node)


def test_encode_node_of_255_bytes_is_cut_and_hashed() -> None:
    name = encode_node("n" * 255)
    assert name == "n" * 120 + "%~3bb555e4ed3e8c6e1818a52c8917ddaa25e9333eeb43a22a9890047c3ded92cc"
    assert decode_node(name) is None


def test_encode_node_long_names_that_begin_alike_differ() -> None:
    assert encode_node("n" * 300) != encode_node("n" * 299)


@pytest.mark.parametrize("name", ["a b", "%2e", "%2", "%FF", "é", "", ".", "%~"])
def test_decode_node_of_what_we_do_not_write_is_none(name: str) -> None:
    assert decode_node(name) is None


@given(NODES)
def test_encode_node_any_name_is_one_component(node: str) -> None:
    name = encode_node(node)
    assert name.isascii()
    assert 0 < len(name) <= 200
    assert "/" not in name
    assert not name.startswith(".")
    assert decode_node(name) in (node, None)


def test_names_have_eight_digits_or_more() -> None:
    assert segment_name(7) == "00000007.seg"
    assert parquet_name(1, 6) == "00000001-00000006.parquet"
    assert segment_name(123_456_789) == "123456789.seg"


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("00000007.seg", Entry(7, 7, False)),
        ("123456789.seg", Entry(123456789, 123456789, False)),
        ("00000001-00000006.parquet", Entry(1, 6, True)),
        ("00000006-00000006.parquet", Entry(6, 6, True)),
        ("00000006-00000001.parquet", None),
        ("00000000.seg", None),
        ("000000007.seg", None),
        ("7.seg", None),
        (".tmp-12-00000007.seg", None),
        ("00000001-00000006.seg", None),
        ("00000007.parquet", None),
        ("00000007.seg\n", None),
        ("٠٠٠٠٠٠٠٧.seg", None),
        ("", None),
    ],
)
def test_parse_name(name: str, entry: Entry | None) -> None:
    assert parse_name(name) == entry


@pytest.mark.parametrize(
    ("listed", "read"),
    [
        ([], []),
        (["00000002.seg", "00000001.seg"], ["00000001.seg", "00000002.seg"]),
        (["00000001.seg", "00000001-00000001.parquet"], ["00000001-00000001.parquet"]),
        (
            [
                "00000001.seg",
                "00000003.seg",
                "00000004.seg",
                "00000001-00000003.parquet",
                ".tmp-9-00000005.seg",
            ],
            ["00000001-00000003.parquet", "00000004.seg"],
        ),
        (
            [
                "00000001-00000003.parquet",
                "00000004-00000006.parquet",
                "00000001-00000006.parquet",
                "00000005.seg",
            ],
            ["00000001-00000006.parquet"],
        ),
        (
            ["00000002-00000003.parquet", "00000001-00000009.parquet", "00000009.seg", "00000010.seg"],
            ["00000001-00000009.parquet", "00000010.seg"],
        ),
        (
            ["00000004.seg", "00000005-00000006.parquet", "00000001-00000003.parquet"],
            ["00000001-00000003.parquet", "00000004.seg", "00000005-00000006.parquet"],
        ),
        (["999999999.seg", "1000000000.seg", "notes.txt"], ["999999999.seg", "1000000000.seg"]),
    ],
)
def test_visible_leaves_out_what_is_covered(listed: list[str], read: list[str]) -> None:
    assert [entry.name for entry in visible(listed)] == read


@given(st.permutations(["00000001.seg", "00000002.seg", "00000001-00000002.parquet", "00000003.seg"]))
def test_visible_does_not_depend_on_the_order_of_the_listing(listed: list[str]) -> None:
    assert [entry.name for entry in visible(listed)] == ["00000001-00000002.parquet", "00000003.seg"]


def test_listing_of_a_missing_directory_is_empty(tmp_path: Path) -> None:
    assert listing(node_directory(tmp_path, "event", "n1")) == []


def test_create_store_makes_a_private_directory_with_a_version(tmp_path: Path) -> None:
    store = tmp_path / "store"
    create_store(store)
    create_store(store)
    assert store.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in store.iterdir()] == ["version"]
    assert json.loads((store / "version").read_text()) == {"format": 1, "schema": 1}


def test_create_store_by_many_at_once_is_one_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(create_store, [store] * 32)] == [None] * 32
    check_store(store)


def test_create_store_where_something_else_is_refuses(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(StoreError, match=r"the directory is not empty and no store \('thesis.txt' is in it"):
        create_store(tmp_path)
    assert not (tmp_path / "version").exists()


def test_create_store_on_a_fresh_file_system_ignores_lost_and_found(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    create_store(tmp_path)
    check_store(tmp_path)


@pytest.mark.parametrize("version", ['{"format": 2, "schema": 1}', '{"format": 1, "schema": 2}'])
@pytest.mark.parametrize("look", [check_store, create_store])
def test_store_of_a_newer_version_is_refused(tmp_path: Path, version: str, look: object) -> None:
    (tmp_path / "version").write_text(version)
    assert callable(look)
    with pytest.raises(StoreError) as refused:
        look(tmp_path)
    newer = "format 2, schema 1" if "2," in version else "format 1, schema 2"
    assert str(refused.value) == (
        f"store {tmp_path}: it has {newer}; this overhop knows up to "
        "format 1, schema 1: use the overhop that wrote it, or give another directory"
    )


@pytest.mark.parametrize(
    "version", ["", "{", "[]", "{}", '{"format": "x", "schema": 1}', "[" * 4000, "\xff", "1"]
)
def test_store_of_a_damaged_version_is_refused(tmp_path: Path, version: str) -> None:
    (tmp_path / "version").write_bytes(version.encode("latin-1"))
    with pytest.raises(StoreError, match="version is damaged: restore it or give another directory"):
        check_store(tmp_path)


def test_check_store_of_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store is here"):
        check_store(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="no store is here"):
        check_store(tmp_path / "file")
