# SPDX-License-Identifier: Apache-2.0
import errno
import os
import struct

import pytest

from bpf import syscall
from bpf.record import Point
from tests.kernel.counting import Counting

pytestmark = pytest.mark.usefixtures("no_leaks")

PACKET = bytes(range(60))


@pytest.fixture
def owners(counting: Counting) -> int:
    """An empty hash map of 4-byte keys and values, 64 entries."""
    fd = counting.loaded.maps["oh_owners"]
    for key in list(syscall.map_keys(fd, 4)):
        syscall.map_delete(fd, key)
    return fd


def test_map_lookup_after_update_gives_the_value(owners: int) -> None:
    syscall.map_update(owners, b"key1", b"val1")
    assert syscall.map_lookup(owners, b"key1", 4) == b"val1"


def test_map_lookup_of_an_unknown_key_gives_none(owners: int) -> None:
    assert syscall.map_lookup(owners, b"none", 4) is None


def test_map_delete_says_whether_the_key_was_there(owners: int) -> None:
    syscall.map_update(owners, b"key1", b"val1")
    assert (syscall.map_delete(owners, b"key1"), syscall.map_delete(owners, b"key1")) == (True, False)


def test_map_keys_gives_every_key_once_also_while_deleting(owners: int) -> None:
    wanted = {struct.pack("=I", number) for number in range(50)}
    for key in wanted:
        syscall.map_update(owners, key, bytes(4))
    found = []
    for key in syscall.map_keys(owners, 4):
        found.append(key)
        syscall.map_delete(owners, key)
    assert set(found) == wanted
    assert len(found) == 50
    assert list(syscall.map_keys(owners, 4)) == []


def test_map_update_new_only_refuses_a_present_key(owners: int) -> None:
    syscall.map_update(owners, b"key1", b"val1", syscall.UPDATE_NEW_ONLY)
    with pytest.raises(syscall.BpfError, match=r"bpf MAP_UPDATE_ELEM fd .*: EEXIST") as caught:
        syscall.map_update(owners, b"key1", b"val2", syscall.UPDATE_NEW_ONLY)
    assert caught.value.errno == errno.EEXIST


def test_map_update_of_a_full_map_is_refused(owners: int) -> None:
    for number in range(64):
        syscall.map_update(owners, struct.pack("=I", number), bytes(4))
    with pytest.raises(syscall.BpfError, match="E2BIG"):
        syscall.map_update(owners, struct.pack("=I", 64), bytes(4))


def test_map_lookup_of_no_map_is_refused() -> None:
    with pytest.raises(syscall.BpfError, match="bpf MAP_LOOKUP_ELEM fd 9999: EBADF"):
        syscall.map_lookup(9999, b"key1", 4)


def test_prog_test_run_gives_verdict_and_unchanged_packet(counting: Counting) -> None:
    ran = syscall.prog_test_run(counting.program(Point.NIC_IN), PACKET, repeat=10)
    assert (ran.retval, ran.data_out) == (-1, PACKET)
    assert counting.count(Point.NIC_IN) == 10


def test_prog_test_run_of_a_runt_is_refused(counting: Counting) -> None:
    with pytest.raises(syscall.BpfError, match=r"bpf PROG_TEST_RUN fd .* with 5 bytes: EINVAL"):
        syscall.prog_test_run(counting.program(Point.NIC_IN), bytes(5))


def test_info_of_program_and_map(counting: Counting) -> None:
    program = syscall.prog_info(counting.program(Point.VPORT_OUT))
    assert (program.name, program.type, len(program.tag)) == ("oh_vport_out", 3, 16)
    assert program.id in syscall.prog_ids()
    assert program.memlock_bytes >= 4096
    counters = syscall.map_info(counting.loaded.maps["oh_counters"])
    assert (counters.name, counters.key_bytes, counters.value_bytes) == ("oh_counters", 4, 8)
    assert counters.id in syscall.map_ids()
    assert counters.memlock_bytes > 0


def test_descriptor_by_id_is_the_same_object(counting: Counting) -> None:
    number = syscall.prog_info(counting.program(Point.NIC_IN)).id
    fd = syscall.prog_fd_by_id(number)
    assert syscall.prog_info(fd).id == number
    os.close(fd)


def test_link_at_loopback_is_queried_in_order_and_ends_with_its_descriptor(
    netns: object, counting: Counting
) -> None:
    first = syscall.link_create(counting.program(Point.NIC_IN), 1, syscall.TCX_INGRESS, before=False)
    second = syscall.link_create(counting.program(Point.NIC_OUT), 1, syscall.TCX_INGRESS, before=True)
    ids = [syscall.link_info(fd).id for fd in (second, first)]
    assert [hooked.link_id for hooked in syscall.prog_query(1, syscall.TCX_INGRESS)] == ids
    info = syscall.link_info(first)
    assert (info.type, info.ifindex, info.attach_type) == (syscall.LINK_TYPE_TCX, 1, syscall.TCX_INGRESS)
    for fd in (first, second):
        os.close(fd)
    assert syscall.prog_query(1, syscall.TCX_INGRESS) == []


def test_possible_cpus_is_what_per_cpu_values_have(counting: Counting) -> None:
    assert syscall.possible_cpus() == os.sysconf("SC_NPROCESSORS_CONF")
