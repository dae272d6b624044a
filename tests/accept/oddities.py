# SPDX-License-Identifier: Apache-2.0
"""What users do by mistake, and names that mean harm: `overhop trace` and `overhop hops` (issue 4)."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from store.appender import Appender
from store.batch import Batch, Labels, Numbers
from store.schema import HOP_SAMPLE, TEXT
from tests.accept.by_hand import overhop
from tests.accept.verdict import Verdict

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "[bold red]x[/]",
    "\u202eevil",
    "a" * 253,
    "x\ny",
    "'; drop table hop; --",
)
NARROW = 60


def oddities() -> Iterator[Verdict]:
    """One verdict for each."""
    with TemporaryDirectory(prefix="overhop-accept-") as name:
        directory = Path(name)
        empty = directory / "empty"
        Appender(empty, "c", "n1").close()
        store = directory / "store"
        _write(store)
        newer = directory / "newer"
        newer.mkdir(mode=0o700)
        (newer / "version").write_text(json.dumps({"format": 99, "schema": 99}) + "\n")
        yield _refused("unknown trace", ("trace", "0" * 31 + "1", "--store", str(store)), 1, "not found")
        for malformed in ("xyz", "0" * 32, "", "\x1b[31m", "4bf92f"):
            yield _refused(f"malformed id {malformed!r}", ("trace", malformed, "--store", str(store)), 2, "")
        yield _refused("empty store", ("trace", TRACE, "--store", str(empty)), 1, "no samples")
        yield _refused("no store", ("trace", TRACE, "--store", str(directory / "none")), 1, "no store")
        for command in (("trace", TRACE), ("hops", "--since", "1h")):
            arguments = (*command, "--store", str(newer))
            yield _refused(f"{command[0]} of a newer store", arguments, 1, "newer")
        yield from _shown(store)


def _refused(name: str, arguments: tuple[str, ...], code: int, word: str) -> Verdict:
    verdict = Verdict(name)
    done = overhop(*arguments)
    verdict.equal("exit code", done.returncode, code)
    verdict.equal("lines", len(done.stderr.splitlines()), 1)
    verdict.equal("standard output", done.stdout, "")
    verdict.equal("control characters", _control(done.stderr), [])
    verdict.equal(f"says {word!r}", word in done.stderr, True)
    verdict.numbers["says"] = done.stderr.strip()
    return verdict


def _shown(store: Path) -> Iterator[Verdict]:
    """Hostile names in every place, as a table of 60 columns, in a pipe and as JSON."""
    for name, arguments in (
        ("trace", ("trace", TRACE, "--store", str(store))),
        ("hops", ("hops", "--since", "1h", "--min-latency", "0.001", "--store", str(store))),
    ):
        verdict = Verdict(f"{name} with hostile names, {NARROW} columns, into a pipe")
        done = overhop(*arguments, env={"COLUMNS": str(NARROW)})
        verdict.equal("exit code", done.returncode, 0)
        verdict.equal("control characters", _control(done.stdout), [])
        verdict.at_most("columns", max(len(line) for line in done.stdout.splitlines()), NARROW)
        wide = overhop(*arguments)
        verdict.equal("control characters, wide", _control(wide.stdout), [])
        said = overhop(*arguments, "--json")
        verdict.equal("JSON is one line", len(said.stdout.splitlines()), 1)
        text = json.dumps(json.loads(said.stdout), ensure_ascii=False)
        missing = [one for one in HOSTILE if json.dumps(one, ensure_ascii=False)[1:-1] not in text]
        verdict.equal("names that JSON lacks", missing, [])
        yield verdict


def _control(text: str) -> list[str]:
    """Characters that a terminal would obey."""
    return [
        c for c in text if (not c.isprintable() and c != "\n") or c in "\u202a\u202b\u202d\u202e\u2066\u2067"
    ]


def _write(store: Path) -> None:
    """A sample per hostile name, all of one trace."""
    with Appender(store, HOSTILE[0], HOSTILE[2]) as appender:
        rows = len(HOSTILE)
        now_ns = time.time_ns()
        texts: dict[str, Labels | Numbers] = {
            column.name: Labels.of(HOSTILE) for column in HOP_SAMPLE.columns[3:] if column.dtype == TEXT
        }
        texts |= {
            "kind": Labels.same("local", rows),
            "message": Labels.same("request", rows),
            "encap": Labels.same("none", rows),
            "context": Labels.same("w3c", rows),
            "boot_id": Labels.same("b", rows),
        }
        numbers: dict[str, Labels | Numbers] = {
            column.name: np.zeros(rows, column.dtype)
            for column in HOP_SAMPLE.columns[3:]
            if column.dtype != TEXT
        }
        numbers |= {
            "at_ns": now_ns + np.arange(rows, dtype=np.int64),
            "mono_ns": 10_000 + np.arange(rows, dtype=np.uint64),
            "trace_hi": np.full(rows, int(TRACE[:16], 16), np.uint64),
            "trace_lo": np.full(rows, int(TRACE[16:], 16), np.uint64),
            "latency_ns": np.full(rows, 5_000, np.uint32),
        }
        appender.append(Batch(HOP_SAMPLE, texts | numbers))
