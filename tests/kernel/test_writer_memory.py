# SPDX-License-Identifier: Apache-2.0
"""What the writer's process needs for an hour of many hops: its budget is 130 MB."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.store_data import STEP_S, Node, Shape
from store.layout import listing
from store.parquet import ParquetFiles

MOST_BYTES = 122_000_000
"""Some below the budget: what is resident differs by 3 MB from run to run."""
FILE_ROWS = 32 * 16_384
S = 1_000_000_000
COMPACT = """
import resource, sys
from pathlib import Path
from store.writer import spare_memory
spare_memory()
from store.compactor import Compactor
compactor = Compactor(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    compactor.round()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_writer_compacts_an_hour_of_3_million_samples_within_its_memory(tmp_path: Path) -> None:
    hour_ns = (time.time_ns() // (3600 * S) - 1) * 3600 * S
    node = Node(tmp_path / "s", 0, Shape(3_000_000, nodes=1, until_ns=0))
    for elapsed_s in range(STEP_S, 3600, STEP_S):
        node.step(hour_ns + elapsed_s * S, elapsed_s)
    node.close()
    done = subprocess.run(
        [sys.executable, "-c", COMPACT, str(tmp_path / "s"), "8"],
        cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True,
    )  # fmt: skip
    for table in ("hop_10s", "hop_1m", "hop_10m"):
        whole = max((tmp_path / "s" / table / "n1").glob("*.parquet"), key=lambda path: path.stat().st_size)
        segments = sorted((tmp_path / "s" / table / "n1").glob("*.seg"))
        assert whole.name == f"{segments[0].stem}-{segments[-1].stem}.parquet"
    assert facts(tmp_path / "s/hop_sample/n1") == (2_995_354, True)
    assert int(done.stdout) <= MOST_BYTES


def facts(directory: Path) -> tuple[int, bool]:
    """Samples in the files that are read; whether none is larger than it may be."""
    files = ParquetFiles()
    rows = [files.facts(directory / entry.name).rows for entry in listing(directory) if entry.is_parquet]
    files.close()
    return sum(rows), max(rows) <= FILE_ROWS
