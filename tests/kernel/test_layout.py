# SPDX-License-Identifier: Apache-2.0
"""The layouts of the C file and of Python are the same, says the compiler."""

import re
from pathlib import Path

import pytest

from agent.loading.loader import CompileError, load
from bpf.counters import NAMES
from bpf.record import RECORD, RECORD_BYTES, RING_STRIDE, WAY, Point
from bpf.spec import ProgramSpec
from tests.require import require_root

LAYOUT = Path(__file__).parents[1] / "data" / "layout.h"


def _python_says() -> dict[str, int]:
    said = {"BYTES_record": RECORD.itemsize, "BYTES_way": WAY.itemsize, "BYTES_counters": 8 * len(NAMES)}
    for struct, dtype in (("record", RECORD), ("way", WAY)):
        assert dtype.names is not None
        said |= {f"AT_{struct}_{name}": dtype.fields[name][1] for name in dtype.names}  # type: ignore[index]
    said |= {f"AT_counters_{name}": 8 * position for position, name in enumerate(NAMES)}
    return said | {f"POINT_{point.name}": point.value for point in Point}


def _compile(said: dict[str, int]) -> None:
    defines = [f"-D{name}={value}" for name, value in said.items()]
    load(ProgramSpec(), programs=(), extra_defines=(f'-DLAYOUT="{LAYOUT}"', *defines)).close()


def test_layout_of_records_slots_and_counters_is_the_compilers() -> None:
    require_root()
    _compile(_python_says())


def test_layout_with_one_field_moved_is_refused() -> None:
    require_root()
    with pytest.raises(CompileError):
        _compile(_python_says() | {"AT_record_quality": 126})


def test_layout_file_asserts_every_name_that_python_knows() -> None:
    asserted = set(re.findall(r"^AT\((\w+), (\w+)\)", LAYOUT.read_text(), re.MULTILINE))
    known = {tuple(name.removeprefix("AT_").split("_", 1)) for name in _python_says() if name[:3] == "AT_"}
    assert asserted == known


def test_record_fills_the_ring_stride_without_its_header() -> None:
    assert (RECORD.itemsize, RECORD_BYTES, RING_STRIDE) == (128, 128, 136)
