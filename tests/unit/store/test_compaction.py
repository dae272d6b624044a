# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from store.compaction import Input, Merge, Rules, is_expired, periods_s, plan
from store.layout import Entry
from store.schema import EVENT, HOP_1M, HOP_10S, HOP_SAMPLE

S = 1_000_000_000
HOUR = 3600 * S
DAY = 24 * HOUR
RULES = Rules(age_s=300, size_bytes=1000, segments=4, at_once=3)


def segment(number: int, first_ns: int, size_bytes: int = 10, is_ready: bool = True) -> Input:
    return Input(Entry(number, number, False), first_ns, first_ns, size_bytes, is_ready)


def parquet(first: int, last: int, first_ns: int, last_ns: int) -> Input:
    return Input(Entry(first, last, True), first_ns, last_ns, 100)


def merged(merges: list[Merge]) -> list[str]:
    return [merge.name for merge in merges]


def test_plan_young_segments_stay() -> None:
    assert plan([segment(1, 0), segment(2, 60 * S)], HOP_SAMPLE, 120 * S, RULES) == []


def test_plan_segments_that_are_old_enough_are_merged() -> None:
    inputs = [segment(1, 0), segment(2, 60 * S), segment(3, 120 * S, is_ready=False)]
    assert merged(plan(inputs, HOP_SAMPLE, 300 * S, RULES)) == ["00000001-00000002.parquet"]


def test_plan_segments_of_enough_bytes_are_merged() -> None:
    inputs = [segment(1, 0, 400), segment(4, 1 * S, 600)]
    assert merged(plan(inputs, HOP_SAMPLE, 2 * S, RULES)) == ["00000001-00000004.parquet"]


def test_plan_many_segments_are_merged_some_at_once() -> None:
    inputs = [segment(number, number * S) for number in range(1, 6)]
    assert merged(plan(inputs, HOP_SAMPLE, 6 * S, RULES)) == ["00000001-00000003.parquet"]


def test_plan_hour_that_is_over_becomes_one_file() -> None:
    inputs = [parquet(1, 5, 0, 300 * S), parquet(6, 9, 301 * S, 600 * S), segment(10, 601 * S)]
    assert merged(plan(inputs, HOP_SAMPLE, HOUR, RULES)) == ["00000001-00000010.parquet"]
    assert plan(inputs, HOP_SAMPLE, HOUR - 1 - 3000 * S, RULES) == []


def test_plan_hour_is_over_too_once_later_rows_exist() -> None:
    inputs = [segment(1, HOUR - 1), segment(2, HOUR + 5, is_ready=False)]
    assert merged(plan(inputs, HOP_SAMPLE, HOUR - S, RULES)) == ["00000001-00000001.parquet"]


def test_plan_hour_of_many_rows_becomes_files_of_bounded_rows_and_they_stay() -> None:
    rules = Rules(age_s=300, groups=2)  # 32,768 samples, 8,192 summaries
    rows = (20_000, 12_768, 1, 32_767, 5)
    inputs = [replace(parquet(at, at, at * S, at * S), rows=each) for at, each in enumerate(rows, start=1)]
    becomes = ["00000001-00000002.parquet", "00000003-00000004.parquet"]
    assert merged(plan(inputs, HOP_SAMPLE, HOUR, rules)) == becomes
    whole = [
        replace(parquet(1, 2, S, 2 * S), rows=32_768),
        replace(parquet(3, 4, 3 * S, 4 * S), rows=32_768),
        inputs[4],
    ]
    assert plan(whole, HOP_SAMPLE, HOUR, rules) == []
    assert plan(inputs[:3], HOP_10S, HOUR, rules) == []


def test_plan_segments_of_many_rows_are_not_merged_at_once() -> None:
    inputs = [replace(segment(at, at * S), rows=20_000) for at in (1, 2, 3)]
    names = ["00000001-00000001.parquet", "00000002-00000002.parquet", "00000003-00000003.parquet"]
    assert merged(plan(inputs, HOP_SAMPLE, 400 * S, Rules(groups=2))) == names


def test_plan_hour_with_an_open_segment_waits() -> None:
    inputs = [
        parquet(1, 5, 0, 300 * S),
        parquet(6, 9, 301 * S, 600 * S),
        segment(10, 601 * S, is_ready=False),
    ]
    assert plan(inputs, HOP_SAMPLE, HOUR, RULES) == []


def test_plan_done_hour_is_left_alone() -> None:
    assert plan([parquet(1, 9, 0, HOUR - 1)], HOP_SAMPLE, 5 * HOUR, RULES) == []


def test_plan_never_merges_across_a_file_that_cannot_be_read() -> None:
    unreadable = Input(Entry(2, 2, False), 0, 0, 0, is_ready=False)
    inputs = [segment(1, 10 * HOUR), unreadable, segment(3, 10 * HOUR + S)]
    planned = merged(plan(inputs, HOP_SAMPLE, 11 * HOUR, RULES))
    assert planned == ["00000001-00000001.parquet", "00000003-00000003.parquet"]


def test_plan_hours_of_samples_stay_apart_those_of_summaries_become_a_day() -> None:
    inputs = [parquet(1, 4, DAY, DAY + HOUR - 1), parquet(5, 9, DAY + HOUR, DAY + 2 * HOUR - 1)]
    assert plan(inputs, HOP_SAMPLE, 3 * DAY, RULES) == []
    assert merged(plan(inputs, HOP_10S, 3 * DAY, RULES)) == ["00000001-00000009.parquet"]


def test_plan_day_of_many_segments_is_done_in_steps() -> None:
    inputs = [segment(number, number * S) for number in range(1, 9)]
    assert merged(plan(inputs, HOP_1M, 2 * DAY, RULES)) == ["00000001-00000003.parquet"]


def test_periods_of_what_is_kept_longer_are_longer() -> None:
    assert periods_s(HOP_SAMPLE) == (3600,)
    assert periods_s(HOP_1M) == (86_400, 3600)
    assert periods_s(EVENT) == (864_000, 86_400, 3600)


def test_is_expired_once_the_last_row_is_older_than_the_table_keeps() -> None:
    assert not is_expired(0, HOP_SAMPLE, 3 * DAY)
    assert is_expired(0, HOP_SAMPLE, 3 * DAY + 1)
