# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from agent.naming.history import FOREVER_NS, Answer, History

S = 1_000_000_000


def history() -> History[str, str]:
    return History("ambiguous")


def owner(one: History[str, str], time_s: float) -> str | None:
    return one.at("a", int(time_s * S)).owner


def test_history_of_nothing_is_nobodys() -> None:
    assert history().at("a", 5) == Answer(None, 0, FOREVER_NS)


def test_history_of_one_owner_is_the_owners_for_ever() -> None:
    one = history()
    assert one.update({"a": "web"}, 100 * S) == {"a"}
    assert one.update({"a": "web"}, 200 * S) == set()
    assert one.at("a", 1) == Answer("web", 0, FOREVER_NS)


def test_history_of_a_removed_owner_lasts_ten_minutes() -> None:
    one = history()
    one.update({"a": "web"}, 0)
    assert one.update({}, 100 * S) == {"a"}
    assert one.at("a", 90 * S) == Answer("web", 0, 105 * S)
    assert one.at("a", 699 * S) == Answer("web", 105 * S, 700 * S)
    assert one.at("a", 700 * S) == Answer(None, 700 * S, FOREVER_NS)


def test_history_of_two_owners_is_ambiguous_within_five_seconds() -> None:
    one = history()
    one.update({"a": "web"}, 0)
    one.update({}, 100 * S)
    assert one.update({"a": "db"}, 102 * S) == {"a"}
    assert [owner(one, at) for at in (96.9, 97, 101, 104.9, 105, 900)] == [
        "web", "ambiguous", "ambiguous", "ambiguous", "db", "db",
    ]  # fmt: skip
    assert one.at("a", 101 * S) == Answer("ambiguous", 97 * S, 105 * S)


def test_history_of_two_owners_far_apart_is_never_ambiguous() -> None:
    one = history()
    one.update({"a": "web"}, 0)
    one.update({}, 100 * S)
    one.update({"a": "db"}, 300 * S)
    assert [owner(one, at) for at in (100, 200, 294.9, 295, 300, 400)] == [
        "web", "web", "web", "db", "db", "db",
    ]  # fmt: skip


def test_history_of_an_owner_that_comes_back_is_not_ambiguous() -> None:
    one = history()
    for owners, at in (({"a": "web"}, 0), ({}, 100 * S), ({"a": "web"}, 101 * S)):
        one.update(owners, at)
    assert [owner(one, at) for at in (99, 100.5, 103)] == ["web", "web", "web"]


def test_history_of_an_owner_replaced_at_once_is_ambiguous_around_that_moment() -> None:
    one = history()
    one.update({"a": "web"}, 0)
    one.update({"a": "db"}, 100 * S)
    assert [owner(one, at) for at in (94, 95, 104.9, 105)] == ["web", "ambiguous", "ambiguous", "db"]


def test_history_forgets_what_is_gone_for_longer_than_it_is_kept() -> None:
    one = history()
    one.update({"a": "web", "b": "db"}, 0)
    one.update({"b": "db"}, 100 * S)
    one.update({"b": "db"}, 701 * S)
    assert len(one) == 1


def test_history_change_leaves_other_keys_alone() -> None:
    one = history()
    one.update({"a": "web", "b": "db"}, 0)
    assert one.change({"b": None, "c": "new", "a": "web", "d": None}, 100 * S) == {"b", "c"}
    assert [one.present(key) for key in "abcd"] == ["web", None, "new", None]
    assert one.change({"b": "db"}, 101 * S) == {"b"}
    assert one.at("b", 100 * S).owner == "db"


def test_history_rename_changes_the_owner_without_ambiguity() -> None:
    one = history()
    one.update({"a": "veth1"}, 0)
    one.rename("a", "web")
    assert one.update({"a": "web"}, 100 * S) == set()
    assert owner(one, 99) == "web"


@given(
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from(["web", "db", None])), min_size=1, max_size=8),
    st.integers(0, 1500),
)
def test_history_answer_holds_for_all_of_its_time(changes: list[tuple[int, str | None]], at_s: int) -> None:
    one, now_s = history(), 0
    for pause_s, now_owner in changes:
        now_s += pause_s
        one.update({"a": now_owner} if now_owner else {}, now_s * S)
    answer = one.at("a", at_s * S)
    assert answer.since_ns <= at_s * S < answer.until_ns
    for time_ns in (answer.since_ns, (answer.since_ns + at_s * S) // 2, min(answer.until_ns - 1, 2000 * S)):
        assert one.at("a", time_ns) == answer
