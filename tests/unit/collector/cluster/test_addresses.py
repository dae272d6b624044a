# SPDX-License-Identifier: Apache-2.0
import pytest

from collector.cluster.addresses import AddressBook

S = 1_000_000_000
A = "10.0.0.1"


def _said(book: AddressBook, second: float) -> str:
    found = book.whose(A, int(second * S), int(second * S))
    return found.interval.uid if found.interval else found.said


@pytest.fixture
def book() -> AddressBook:
    """`old` had the address from 100 to 200, `new` has it since 220."""
    book = AddressBook()
    book.has("old", (A,), 100 * S, 101 * S)
    book.ended("old", 200 * S, 200 * S)
    book.has("new", (A,), 220 * S, 221 * S)
    return book


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (99, "unknown"),
        (100, "old"),
        (199, "old"),
        (204, "old"),
        (206, "unknown"),
        (216, "unknown"),
        (220, "new"),
        (1000, "new"),
    ],
)
def test_whose_of_two_owners_far_apart_is_the_one_of_that_time(
    book: AddressBook, second: float, said: str
) -> None:
    assert _said(book, second) == said


@pytest.mark.parametrize(
    ("second", "said"), [(194, "old"), (196, "ambiguous"), (207, "ambiguous"), (208, "new")]
)
def test_whose_near_two_owners_is_ambiguous(second: float, said: str) -> None:
    book = AddressBook()
    book.has("old", (A,), 100 * S, 101 * S)
    book.ended("old", 203 * S, 203 * S)
    book.has("new", (A,), 201 * S, 202 * S)
    assert _said(book, second) == said


@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        (90, 99, "unknown"),
        (90, 110, "old"),
        (150, 203, "old"),
        (150, 214, "old"),
        (150, 216, "ambiguous"),
        (206, 214, "unknown"),
        (206, 230, "new"),
        (204, 230, "ambiguous"),
    ],
)
def test_whose_in_a_time_is_the_only_one_that_can_be_meant(
    book: AddressBook, begin: int, end: int, said: str
) -> None:
    found = book.whose(A, begin * S, end * S)
    assert (found.interval.uid if found.interval else found.said) == said


def test_whose_after_ten_minutes_is_forgotten_but_not_before(book: AddressBook) -> None:
    book.tidy(799 * S)
    assert _said(book, 150) == "old"
    book.tidy(801 * S)
    assert _said(book, 150) == "unknown"
    assert _said(book, 300) == "new"


def test_whose_in_a_gap_is_told_only_for_who_was_there_on_both_sides() -> None:
    book = AddressBook()
    book.has("lasting", ("10.0.0.2",), 100 * S, 101 * S)
    book.has("old", (A,), 100 * S, 101 * S)
    book.gap(200 * S, 260 * S)
    book.ended("old", 200 * S, 260 * S)
    book.has("new", (A,), 230 * S, 260 * S)
    assert [_said(book, second) for second in (199, 201, 229, 231, 236, 259)] == [
        "old", "unknown", "unknown", "unknown", "new", "new",
    ]  # fmt: skip
    found = book.whose("10.0.0.2", 230 * S, 230 * S)
    assert found.interval is not None
    assert found.interval.uid == "lasting"


def test_shared_names_addresses_of_two_live_pods() -> None:
    book = AddressBook()
    book.has("one", (A,), 100 * S, 100 * S)
    book.has("two", (A, "10.0.0.3"), 100 * S, 100 * S)
    assert book.shared == {A: ("one", "two")}
    assert _said(book, 500) == "ambiguous"


def test_pod_whose_address_changes_has_the_old_one_until_then() -> None:
    book = AddressBook()
    book.has("one", (A,), 100 * S, 100 * S)
    book.has("one", ("10.0.0.2",), 300 * S, 300 * S)
    assert [_said(book, second) for second in (299, 310)] == ["one", "unknown"]


def test_tidy_leaves_nothing_of_pods_that_are_gone() -> None:
    book = AddressBook()
    for each in range(1000):
        book.has(f"uid{each}", (f"10.0.{each // 250}.{each % 250}",), each * S, each * S)
        book.ended(f"uid{each}", (each + 1) * S, (each + 1) * S)
    assert len(book) == 1000
    book.tidy(3000 * S)
    assert len(book) == 0
