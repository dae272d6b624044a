# SPDX-License-Identifier: Apache-2.0
"""Rows that are read are those that were appended, whatever happens between."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from store.appender import Limits
from store.compaction import Rules
from store.compactor import Settings
from store.conditions import Comparison, Condition, Operator, always, mask
from store.embedded import EmbeddedStore
from store.query import Where
from store.schema import HOP_SAMPLE
from tests.unit.store.compactors import EVER, HOUR, S, Town
from tests.unit.store.hops import batch
from tests.unit.store.rows import events

NODES = ("n1", "n2", "ü/*")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"), st.sampled_from(["n1", "n2", "ü/*"]), st.lists(TEXTS, min_size=1, max_size=4)
        ),
        st.tuples(st.just("compact")),
        st.tuples(st.just("pass"), st.sampled_from([S, 40 * S, 400 * S, HOUR, 30 * HOUR, -HOUR])),
        st.tuples(st.just("restart")),
    ),
    min_size=8,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([1, 3, 4096]))
def test_rows_read_are_rows_appended(steps: list[tuple[object, ...]], chunk_rows: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        rules = Rules(age_s=1, segments=3, at_once=2)
        town = Town(Path(directory) / "s", settings=Settings(rules, grace_s=30, chunk_rows=chunk_rows))
        appended: list[str] = []
        appenders = {node: town.appender(node, Limits(segment_bytes=900)) for node in NODES}
        compactor = town.compactor()
        for step in steps:
            match step:
                case "append", str(node), list(details):
                    appenders[node].append(events(*details))
                    appended += details
                case ("compact",):
                    compactor.round()
                case "pass", int(by_ns):
                    town.now_ns += by_ns
                    for appender in appenders.values():
                        appender.poll()
                case _:
                    compactor = town.compactor()
            assert sorted(town.details()) == sorted(appended)
        for appender in appenders.values():
            appender.close()


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "latency_ns": st.integers(0, 20),
            "kind": st.sampled_from(["rx", "tx"]),
            "src_ns": st.sampled_from(["a", "b", "' OR 1=1"]),
            "dst_ns": st.sampled_from(["a", "b"]),
            "src_workload": st.sampled_from(["w", "v"]),
            "dst_workload": st.sampled_from(["w", "v"]),
        }
    ),
    min_size=1,
    max_size=12,
)
MAYBE = st.one_of(st.none(), st.sampled_from(["a", "b", "' OR 1=1"]))


@settings(max_examples=60, deadline=None)
@given(ROWS, MAYBE, st.one_of(st.none(), st.sampled_from(["w", "v"])), st.integers(0, 21), st.integers(0, 13))
def test_samples_are_the_same_from_segments_and_from_parquet(
    rows: list[dict[str, int | str]], namespace: str | None, workload: str | None, least: int, limit: int
) -> None:
    wanted = sorted(
        (int(row["latency_ns"]) for row in rows if _fits(row, namespace, workload, least)), reverse=True
    )
    with tempfile.TemporaryDirectory() as directory:
        town = Town(Path(directory) / "s")
        with town.appender() as appender:
            appender.append(batch(HOP_SAMPLE, *rows))
        for _ in range(2):
            store = EmbeddedStore(town.path)
            found = store.samples(EVER, Where(namespace=namespace, workload=workload), least, limit)
            assert found["latency_ns"].tolist() == wanted[:limit]
            store.close()
            town.compactor().round()
        assert "00000001-00000001.parquet" in town.files(table="hop_sample")


def _fits(row: dict[str, int | str], namespace: str | None, workload: str | None, least: int) -> bool:
    ends = [(row["src_ns"], row["src_workload"]), (row["dst_ns"], row["dst_workload"])]
    return int(row["latency_ns"]) >= least and any(
        namespace in (None, ns) and workload in (None, name) for ns, name in ends
    )


@given(
    st.sampled_from(["u1", "u2", "u4", "u8", "i8"]),
    st.sampled_from(["=", ">=", "<"]),
    st.one_of(
        st.integers(-3, 300), st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
    ),
)
def test_mask_compares_as_whole_numbers_of_any_size(dtype: str, operator: Operator, value: int) -> None:
    limits = np.iinfo(dtype)
    held = [int(limits.min), 0, 1, 255, int(limits.max) - 1, int(limits.max)]
    condition: Condition = ((Comparison("x", operator, value),),)
    compare = {"=": int.__eq__, ">=": int.__ge__, "<": int.__lt__}[operator]
    assert mask([condition], {"x": np.array(held, dtype)}, len(held)).tolist() == [
        compare(x, value) for x in held
    ]
    assert always(Comparison("x", operator, value), dtype) in (None, compare(held[0], value))
