# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from agent.hooks.qdiscs import Records


def test_records_know_what_was_added(tmp_path: Path) -> None:
    records = Records(tmp_path / "clsact")
    records.prepare()
    records.add(3, "eth0")
    assert records.has(3, "eth0")
    assert not records.has(3, "eth1")
    assert not records.has(4, "eth0")
    assert [(record.ifindex, record.name) for record in Records(tmp_path / "clsact").all()] == [(3, "eth0")]


def test_records_forget_what_was_removed(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add(3, "eth0")
    records.remove(3)
    records.remove(3)
    assert records.all() == []


def test_records_of_another_namespace_are_not_ours_and_stay(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add(3, "eth0")
    [own] = tmp_path.iterdir()
    text = own.read_text()
    boot_id = text.split('"boot_id": "')[1].split('"')[0]
    other = tmp_path / "18446744073709551615-3.json"
    other.write_text(
        f'{{"boot_id": "{boot_id}", "netns_cookie": 18446744073709551615, "ifindex": 3, "name": "eth0"}}'
    )
    records.remove(3)
    assert not records.has(3, "eth0")
    assert records.drop_outdated() == []
    assert other.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot_id": "x"}', '{"ifindex": 1, "more": 2}'])
def test_records_that_cannot_be_read_are_dropped(tmp_path: Path, text: str) -> None:
    (tmp_path / "1-2.json").write_text(text)
    assert Records(tmp_path).drop_outdated() == ["1-2.json"]
    assert list(tmp_path.iterdir()) == []


def test_records_prepare_of_a_place_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Records(tmp_path / "file" / "clsact").prepare()
