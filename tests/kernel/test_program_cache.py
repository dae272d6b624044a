# SPDX-License-Identifier: Apache-2.0
"""Programs from the cache are those that the compiler made, and a start with them needs no compiler."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from agent.loading import loader
from agent.loading.cache import ProgramCache
from agent.loading.loader import Loaded, LoadStopped
from bpf import syscall
from bpf.bytecode import Bytecode
from bpf.spec import ProgramSpec
from overhop.lab.netns import Netns
from tests.kernel.counting import COUNT_C
from tests.kernel.leaks import wait_until
from tests.kernel.wire import Wire
from tests.oracle.cases import Case
from tests.oracle.generate import Generator
from tests.oracle.harness import MAX_TEST_RUN_BYTES, ProgRuns, Rig, fresh_namespace

pytestmark = pytest.mark.usefixtures("no_leaks")

SPEC = ProgramSpec()
SMALL = ProgramSpec(window=64)
LOAD_SMALL = """
import sys
from pathlib import Path
from agent.loading import loader
from agent.loading.cache import ProgramCache
from bpf.spec import ProgramSpec
from tests.kernel.counting import COUNT_C
try:
    with loader.load(ProgramSpec(window=64), source=COUNT_C, cache=ProgramCache(Path(sys.argv[1]))) as loaded:
        print("compiled" if loaded.compile_s else "cached")
except loader.LoaderError as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def cache(tmp_path: Path) -> ProgramCache:
    return ProgramCache(tmp_path / "cache")


def programs(loaded: Loaded) -> dict[str, tuple[object, ...]]:
    """What the kernel says; the tag is a hash of the instructions as loaded, without descriptors of maps."""
    infos = {name: syscall.prog_info(descriptor) for name, descriptor in loaded.programs.items()}
    return {
        name: (one.name, one.type, one.tag, one.verified_insns, one.xlated_bytes)
        for name, one in infos.items()
    }


def maps(loaded: Loaded) -> dict[str, tuple[object, ...]]:
    infos = {name: syscall.map_info(descriptor) for name, descriptor in loaded.maps.items()}
    return {
        name: (one.name, one.type, one.key_bytes, one.value_bytes, one.max_entries, one.flags)
        for name, one in infos.items()
    }


def test_load_from_the_cache_gives_the_same_programs_and_maps(cache: ProgramCache) -> None:
    with loader.load(SPEC) as compiled:
        expected = (programs(compiled), maps(compiled), compiled.verified_insns)
    with loader.load(SPEC, cache=cache) as first:
        assert first.compile_s > 0
        assert (programs(first), maps(first), first.verified_insns) == expected
    with loader.load(SPEC, cache=cache) as second:
        assert second.compile_s == 0
        assert (programs(second), maps(second), second.verified_insns) == expected
        assert sorted(maps(second)) == [
            "oh_cold",
            "oh_counters",
            "oh_filter",
            "oh_owners",
            "oh_params",
            "oh_ring",
            "oh_scratch",
            "oh_seen",
            "oh_slots",
        ]
        assert maps(second)["oh_ring"] == ("oh_ring", 27, 0, 0, 2 << 20, 0)
        assert maps(second)["oh_slots"] == ("oh_slots", 2, 4, 64, 4096, 1 << 10)


def test_programs_from_the_cache_agree_with_the_model(cache: ProgramCache) -> None:
    loader.load(SPEC, cache=cache).close()
    generator = Generator(4, SPEC, MAX_TEST_RUN_BYTES)
    records = 0
    with (
        fresh_namespace(),
        loader.load(SPEC, cache=cache) as loaded,
        closing(Rig(Case("cached", SPEC), loaded, ProgRuns(loaded))) as rig,
    ):
        assert loaded.compile_s == 0
        for batch in range(8):
            records += rig.check(rig.carried(generator.batch(batch, 256)))
    assert records >= 100


def test_load_of_another_source_parameter_or_option_compiles(cache: ProgramCache, tmp_path: Path) -> None:
    changed = tmp_path / "changed.c"
    changed.write_text(COUNT_C.read_text() + "/* changed */\n")
    loader.load(SMALL, source=COUNT_C, cache=cache).close()
    for spec, source, options in (
        (ProgramSpec(window=128), COUNT_C, []),
        (SMALL, changed, []),
        (SMALL, COUNT_C, ["-DVERDICT=TC_ACT_OK"]),
    ):
        with loader.load(spec, source=source, extra_defines=options, cache=cache) as loaded:
            assert loaded.compile_s > 0
    with loader.load(SMALL, source=COUNT_C, cache=cache) as loaded:
        assert loaded.compile_s == 0


def test_load_of_damaged_bytecode_compiles(cache: ProgramCache, caplog: pytest.LogCaptureFixture) -> None:
    loader.load(SMALL, source=COUNT_C, cache=cache).close()
    (file,) = cache.directory.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    caplog.set_level(logging.DEBUG, "agent")
    with loader.load(SMALL, source=COUNT_C, cache=cache) as loaded:
        assert loaded.compile_s > 0
    assert [record.message for record in caplog.records] == ["no compiled programs"]
    with loader.load(SMALL, source=COUNT_C, cache=cache) as loaded:
        assert loaded.compile_s == 0


def test_load_of_bytecode_that_the_kernel_refuses_compiles(
    cache: ProgramCache, caplog: pytest.LogCaptureFixture
) -> None:
    loader.load(SMALL, source=COUNT_C, cache=cache).close()
    (file,) = cache.directory.iterdir()
    key = json.loads(file.read_bytes().split(b"\n")[2])["key"]
    exit_without_result = bytes.fromhex("9500000000000000")
    cache.keep(key, Bytecode("GPL", (), {"oh_nic_in": exit_without_result}), [])
    caplog.set_level(logging.DEBUG, "agent")
    with loader.load(SMALL, source=COUNT_C, cache=cache) as loaded:
        assert len(loaded.programs) == 4
    (record,) = caplog.records
    assert record.message == "compiled programs do not load"
    assert record.__dict__["reason"].startswith("bpf PROG_LOAD oh_nic_in, 1 instructions: EACCES")


def test_load_from_the_cache_without_a_capability_names_it(netns: Netns, cache: ProgramCache) -> None:
    assert netns.run((sys.executable, "-c", LOAD_SMALL, str(cache.directory))) == "compiled\n"
    assert netns.run((sys.executable, "-c", LOAD_SMALL, str(cache.directory))) == "cached\n"
    limits = [f"--{kind}=-all,+bpf,+perfmon" for kind in ("inh-caps", "bounding-set")]
    said = netns.run(("setpriv", *limits, sys.executable, "-c", LOAD_SMALL, str(cache.directory)))
    assert said == "MissingCapability: load oh_nic_in: EPERM: the agent needs CAP_NET_ADMIN\n"


@pytest.mark.parametrize("is_cached", [False, True])
def test_load_that_shall_stop_is_over(cache: ProgramCache, is_cached: bool) -> None:
    if is_cached:
        loader.load(SMALL, source=COUNT_C, cache=cache).close()
    with pytest.raises(LoadStopped, match=r"^load( oh_nic_in)?: stopped"):
        loader.load(SMALL, source=COUNT_C, cache=cache, stop=lambda: True)


def test_agent_that_is_told_to_end_while_compiling_ends_and_its_compiler_with_it(
    wire: Wire, netns: Netns, tmp_path: Path
) -> None:
    compiler = tmp_path / "python"
    pid_file = tmp_path / "pid"
    compiler.write_text(f"#!/bin/sh\necho $$ >{pid_file}.new\nmv {pid_file}.new {pid_file}\nexec sleep 100\n")
    compiler.chmod(0o755)
    command = (sys.executable, "-m", "overhop", "agent", "--nic", wire.link.name)
    env = os.environ | {"OVERHOP_BCC_PYTHON": str(compiler), "OVERHOP_CACHE_DIR": ""}
    with netns.popen(command, env=env, stderr=subprocess.PIPE) as agent:
        wait_until(pid_file.exists, "the agent compiles", 20.0)
        told_s = time.monotonic()
        agent.send_signal(signal.SIGTERM)
        _, said = agent.communicate(timeout=20.0)
        took_s = time.monotonic() - told_s
    assert (agent.returncode, said) == (0, b"")
    assert took_s < 5  # 0.2 s on a machine with nothing else to do
    assert not Path(f"/proc/{int(pid_file.read_text())}").exists()
