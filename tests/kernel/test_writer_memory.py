# SPDX-License-Identifier: Apache-2.0
"""What the writer's process needs for an hour of many hops: its budget is 130 MB."""

from pathlib import Path

import pytest

from store.layout import listing
from store.parquet import ParquetFiles
from tests.accept.store_memory import fill_hour, peak_bytes

MOST_BYTES = 122_000_000
"""Some below the budget: what is resident differs by 3 MB from run to run."""
FILE_ROWS = 32 * 16_384


@pytest.mark.slow
def test_writer_compacts_an_hour_of_3_million_samples_within_its_memory(tmp_path: Path) -> None:
    fill_hour(tmp_path / "s", 3_000_000)
    most_bytes = peak_bytes(tmp_path / "s")
    for table in ("hop_10s", "hop_1m", "hop_10m"):
        whole = max((tmp_path / "s" / table / "n1").glob("*.parquet"), key=lambda path: path.stat().st_size)
        segments = sorted((tmp_path / "s" / table / "n1").glob("*.seg"))
        assert whole.name == f"{segments[0].stem}-{segments[-1].stem}.parquet"
    assert facts(tmp_path / "s/hop_sample/n1") == (2_995_354, True)
    assert most_bytes <= MOST_BYTES


def facts(directory: Path) -> tuple[int, bool]:
    """Samples in the files that are read; whether none is larger than it may be."""
    files = ParquetFiles()
    rows = [files.facts(directory / entry.name).rows for entry in listing(directory) if entry.is_parquet]
    files.close()
    return sum(rows), max(rows) <= FILE_ROWS
