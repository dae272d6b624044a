# SPDX-License-Identifier: Apache-2.0
import numpy as np

from agent.naming.names import COLUMNS, Names, labels

WEB = ("rx", "request", "shop", "far-0", "far", "shop", "web-1", "web", "shop/web", "vxlan", "w3c")
WEB_2 = ("rx", "request", "shop", "far-1", "far", "shop", "web-2", "web", "shop/web", "vxlan", "w3c")
OUT = ("tx", "request", "shop", "web-1", "web", "", "", "external", "", "none", "none")


def known(*rows: tuple[str, ...]) -> Names:
    names = Names()
    for row in rows:
        names.code(row)
    return names


def test_code_of_the_same_names_is_the_same() -> None:
    names = Names()
    assert [names.code(row) for row in (WEB, OUT, WEB, WEB_2)] == [0, 1, 0, 2]
    assert names.rows == [WEB, OUT, WEB_2]


def test_series_leaves_pods_out() -> None:
    names = known(WEB, OUT, WEB_2)
    assert names.series_of(np.array([0, 1, 2, 2])).tolist() == [0, 1, 0, 0]
    assert names.series == [
        ("rx", "request", "shop", "far", "shop", "web", "shop/web", "vxlan", "w3c"),
        ("tx", "request", "shop", "web", "", "external", "", "none", "none"),
    ]


def test_labels_are_the_names_of_each_record_and_no_others() -> None:
    found = known(WEB, OUT, WEB_2).labels(np.array([2, 0, 2]))
    assert tuple(found) == COLUMNS
    assert found["src_pod"].texts().tolist() == ["far-1", "far-0", "far-1"]
    assert found["kind"].values == ["rx"]


def test_labels_of_parts_are_in_their_order() -> None:
    parts = [
        (known(WEB, OUT), np.array([1, 0])),
        (known(WEB_2), np.array([0, 0])),
        (known(OUT), np.array([0])),
    ]
    found = labels(parts)
    assert found["kind"].texts().tolist() == ["tx", "rx", "rx", "rx", "tx"]
    assert found["dst_pod"].texts().tolist() == ["", "web-1", "web-2", "web-2", ""]


def test_labels_of_nothing_have_no_rows() -> None:
    assert {len(column) for column in labels([]).values()} == {0}
    assert {len(column) for column in known(WEB).labels(np.zeros(0, np.intp)).values()} == {0}


def test_more_names_than_at_first_are_kept() -> None:
    rows = [(*WEB[:3], f"far-{number}", *WEB[4:]) for number in range(200)]
    names = known(*rows)
    assert names.labels(np.array([199, 3]))["src_pod"].texts().tolist() == ["far-199", "far-3"]
    assert len(names.series) == 1
