# SPDX-License-Identifier: Apache-2.0
"""The bpf(2) system call by ctypes: maps, test runs, links, programs (man 2 bpf, include/uapi/linux/bpf.h).

Every descriptor that the kernel returns here is close-on-exec. Errors are `BpfError`.
"""

import ctypes
import errno
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bpf.attr import (
    ElemAttr,
    IdAttr,
    InfoAttr,
    LinkCreateAttr,
    LinkUpdateAttr,
    QueryAttr,
    RawLinkInfo,
    RawMapInfo,
    RawProgInfo,
    TestRunAttr,
)

TCX_INGRESS: Final = 46
TCX_EGRESS: Final = 47
BEFORE: Final = 1 << 3
"""BPF_F_BEFORE: with no relative program, the first place."""
LINK_TYPE_TCX: Final = 11
PROG_TYPE_SCHED_CLS: Final = 3
UPDATE_ANY: Final = 0
UPDATE_NEW_ONLY: Final = 1
UPDATE_EXISTING_ONLY: Final = 2

_SYSCALL_NUMBER: Final = {"x86_64": 321, "aarch64": 280}
_COMMANDS: Final = {
    "MAP_CREATE": 0,
    "MAP_LOOKUP_ELEM": 1,
    "MAP_UPDATE_ELEM": 2,
    "MAP_DELETE_ELEM": 3,
    "MAP_GET_NEXT_KEY": 4,
    "PROG_LOAD": 5,
    "PROG_TEST_RUN": 10,
    "PROG_GET_NEXT_ID": 11,
    "MAP_GET_NEXT_ID": 12,
    "PROG_GET_FD_BY_ID": 13,
    "MAP_GET_FD_BY_ID": 14,
    "OBJ_GET_INFO_BY_FD": 15,
    "PROG_QUERY": 16,
    "LINK_CREATE": 28,
    "LINK_UPDATE": 29,
    "LINK_GET_FD_BY_ID": 30,
    "LINK_GET_NEXT_ID": 31,
    "LINK_DETACH": 34,
}
_ATTR_BYTES: Final = 144
_MAX_PROGRAMS_PER_HOOK: Final = 64
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class BpfError(OSError):
    """A bpf(2) command failed; `command` is its name, the text says which object and what helps."""

    def __init__(self, number: int, command: str, what: str) -> None:
        self.command = command
        name = errno.errorcode.get(number, str(number))
        super().__init__(number, f"bpf {command} {what}: {name}: {_hint(number, command)}")

    def __str__(self) -> str:
        return str(self.strerror)


def _hint(number: int, command: str) -> str:
    if number == errno.EPERM:
        return "needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or CAP_SYS_ADMIN on kernels before 5.8"
    if number == errno.ENODEV:
        return "the interface is gone"
    if number == errno.EINVAL and command in ("LINK_CREATE", "PROG_QUERY"):
        return "this kernel has no TCX (6.6 and later have), or the interface index is not valid"
    return os.strerror(number)


@dataclass(frozen=True, slots=True)
class TestRun:
    """Outcome of BPF_PROG_TEST_RUN; `duration_ns` is the mean of one run, `retval` is signed (-1: UNSPEC)."""

    __test__ = False  # no test class, whatever pytest thinks of its name

    retval: int
    duration_ns: int
    data_out: bytes


@dataclass(frozen=True, slots=True)
class ProgInfo:
    """What the kernel says of a program; run_time_ns and run_count need kernel.bpf_stats_enabled."""

    id: int
    type: int
    name: str
    tag: str
    verified_insns: int
    xlated_bytes: int
    run_time_ns: int
    run_count: int
    memlock_bytes: int


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says of a map; sizes in bytes."""

    id: int
    type: int
    name: str
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int
    memlock_bytes: int


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """What the kernel says of a link; ifindex (0: interface gone) and attach_type only of TCX links."""

    id: int
    type: int
    prog_id: int
    ifindex: int
    attach_type: int


@dataclass(frozen=True, slots=True)
class Hooked:
    """One program at a TCX hook; link_id is 0 if it was attached without a link."""

    prog_id: int
    link_id: int


def command(name: str, attr: ctypes.Structure, what: str) -> int:
    """bpf(2) with an attribute structure; returns its result. Raises BpfError naming `what`."""
    result = _call(_COMMANDS[name], attr)
    if result < 0:
        raise BpfError(ctypes.get_errno(), name, what)
    return result


def _call(number: int, attr: ctypes.Structure) -> int:
    syscall = _SYSCALL_NUMBER.get(platform.machine())
    if syscall is None:
        raise NotImplementedError(f"bpf(2): no system call number known for {platform.machine()}")
    size = min(ctypes.sizeof(attr), _ATTR_BYTES)
    return int(_LIBC.syscall(syscall, number, ctypes.byref(attr), size))


def possible_cpus() -> int:
    """Number of CPUs that per-CPU map values have a place for."""
    ranges = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")
    return sum(int(r.split("-")[-1]) - int(r.split("-")[0]) + 1 for r in ranges)


def map_lookup(fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """Value of a key, or None.

    Per-CPU maps: value_bytes is possible_cpus() times the value's size rounded up to 8.
    """
    value = ctypes.create_string_buffer(value_bytes)
    attr = ElemAttr(fd, _address(key), ctypes.addressof(value), 0)
    if _call(_COMMANDS["MAP_LOOKUP_ELEM"], attr) == 0:
        return value.raw
    if ctypes.get_errno() == errno.ENOENT:
        return None
    raise BpfError(ctypes.get_errno(), "MAP_LOOKUP_ELEM", f"fd {fd}")


def map_update(fd: int, key: bytes, value: bytes, flags: int = UPDATE_ANY) -> None:
    """Set the value of a key. Raises BpfError: E2BIG full, EEXIST and ENOENT by the flags."""
    command("MAP_UPDATE_ELEM", ElemAttr(fd, _address(key), _address(value), flags), f"fd {fd}")


def map_delete(fd: int, key: bytes) -> bool:
    """Delete a key; False if it was not there."""
    if _call(_COMMANDS["MAP_DELETE_ELEM"], ElemAttr(fd, _address(key), 0, 0)) == 0:
        return True
    if ctypes.get_errno() == errno.ENOENT:
        return False
    raise BpfError(ctypes.get_errno(), "MAP_DELETE_ELEM", f"fd {fd}")


def map_keys(fd: int, key_bytes: int) -> Iterator[bytes]:
    """Every key. The key just given may be deleted while iterating."""
    key = _next_key(fd, None, key_bytes)
    while key is not None:
        following = _next_key(fd, key, key_bytes)
        yield key
        key = following


def _next_key(fd: int, key: bytes | None, key_bytes: int) -> bytes | None:
    following = ctypes.create_string_buffer(key_bytes)
    attr = ElemAttr(fd, _address(key) if key is not None else 0, ctypes.addressof(following), 0)
    if _call(_COMMANDS["MAP_GET_NEXT_KEY"], attr) == 0:
        return following.raw
    if ctypes.get_errno() == errno.ENOENT:
        return None
    raise BpfError(ctypes.get_errno(), "MAP_GET_NEXT_KEY", f"fd {fd}")


def _address(data: bytes) -> int:
    """Address of the bytes themselves; the caller keeps them alive."""
    address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
    return address or 0


def prog_test_run(fd: int, packet: bytes, repeat: int = 1, *, context: bytes = b"") -> TestRun:
    """Run a program on one packet (at least 14 bytes); `context` is a struct __sk_buff to begin with."""
    out = ctypes.create_string_buffer(len(packet) + 256)
    attr = TestRunAttr(
        prog_fd=fd,
        data_size_in=len(packet),
        data_size_out=len(out),
        data_in=_address(packet),
        data_out=ctypes.addressof(out),
        repeat=repeat,
        ctx_size_in=len(context),
        ctx_in=_address(context) if context else 0,
    )
    command("PROG_TEST_RUN", attr, f"fd {fd} with {len(packet)} bytes")
    retval = ctypes.c_int32(attr.retval).value
    return TestRun(retval, attr.duration, out.raw[: attr.data_size_out])


def link_create(prog_fd: int, ifindex: int, attach_type: int, *, before: bool = True) -> int:
    """Attach at a TCX hook of an interface of this network namespace, first or last.

    Returns the link's descriptor; closing it detaches. `attach_type` is TCX_INGRESS or TCX_EGRESS.
    """
    attr = LinkCreateAttr(prog_fd, ifindex, attach_type, BEFORE if before else 0, 0, 0, 0)
    return command("LINK_CREATE", attr, f"ifindex {ifindex}")


def link_update(link_fd: int, new_prog_fd: int) -> None:
    """Replace a link's program in place: no packet passes without one."""
    command("LINK_UPDATE", LinkUpdateAttr(link_fd, new_prog_fd, 0, 0), f"link fd {link_fd}")


def prog_query(ifindex: int, attach_type: int) -> list[Hooked]:
    """The programs at a TCX hook, in the order in which they run."""
    progs = (ctypes.c_uint32 * _MAX_PROGRAMS_PER_HOOK)()
    links = (ctypes.c_uint32 * _MAX_PROGRAMS_PER_HOOK)()
    attr = QueryAttr(ifindex=ifindex, attach_type=attach_type, count=_MAX_PROGRAMS_PER_HOOK)
    attr.prog_ids = ctypes.addressof(progs)
    attr.link_ids = ctypes.addressof(links)
    command("PROG_QUERY", attr, f"ifindex {ifindex}")
    return [Hooked(progs[i], links[i]) for i in range(attr.count)]


def prog_info(fd: int) -> ProgInfo:
    """What the kernel knows of a program."""
    raw = RawProgInfo()
    _get_info(fd, raw)
    return ProgInfo(
        id=raw.id,
        type=raw.type,
        name=raw.name.decode(),
        tag=bytes(raw.tag).hex(),
        verified_insns=raw.verified_insns,
        xlated_bytes=raw.xlated_prog_len,
        run_time_ns=raw.run_time_ns,
        run_count=raw.run_cnt,
        memlock_bytes=_memlock_bytes(fd),
    )


def map_info(fd: int) -> MapInfo:
    """What the kernel knows of a map."""
    raw = RawMapInfo()
    _get_info(fd, raw)
    return MapInfo(
        id=raw.id,
        type=raw.type,
        name=raw.name.decode(),
        key_bytes=raw.key_size,
        value_bytes=raw.value_size,
        max_entries=raw.max_entries,
        flags=raw.map_flags,
        memlock_bytes=_memlock_bytes(fd),
    )


def link_info(fd: int) -> LinkInfo:
    """What the kernel knows of a link."""
    raw = RawLinkInfo()
    _get_info(fd, raw)
    if raw.type != LINK_TYPE_TCX:
        return LinkInfo(raw.id, raw.type, raw.prog_id, 0, 0)
    return LinkInfo(raw.id, raw.type, raw.prog_id, raw.ifindex, raw.attach_type)


def _get_info(fd: int, into: ctypes.Structure) -> None:
    attr = InfoAttr(fd, ctypes.sizeof(into), ctypes.addressof(into))
    command("OBJ_GET_INFO_BY_FD", attr, f"fd {fd}")


def _memlock_bytes(fd: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        if line.startswith("memlock:"):
            return int(line.split()[1])
    return 0


def prog_ids() -> list[int]:
    """Ids of all programs in the kernel."""
    return _ids("PROG_GET_NEXT_ID")


def map_ids() -> list[int]:
    """Ids of all maps in the kernel."""
    return _ids("MAP_GET_NEXT_ID")


def link_ids() -> list[int]:
    """Ids of all links in the kernel."""
    return _ids("LINK_GET_NEXT_ID")


def _ids(name: str) -> list[int]:
    found: list[int] = []
    attr = IdAttr()
    while _call(_COMMANDS[name], attr) == 0:
        found.append(attr.next_id)
        attr.id = attr.next_id
    if ctypes.get_errno() != errno.ENOENT:
        raise BpfError(ctypes.get_errno(), name, f"after id {attr.id}")
    return found


def prog_fd_by_id(prog_id: int) -> int:
    """A descriptor of a program. Raises BpfError with ENOENT if it is gone."""
    return command("PROG_GET_FD_BY_ID", IdAttr(prog_id), f"id {prog_id}")


def map_fd_by_id(map_id: int) -> int:
    """A descriptor of a map. Raises BpfError with ENOENT if it is gone."""
    return command("MAP_GET_FD_BY_ID", IdAttr(map_id), f"id {map_id}")


def link_fd_by_id(link_id: int) -> int:
    """A descriptor of a link. Raises BpfError with ENOENT if it is gone."""
    return command("LINK_GET_FD_BY_ID", IdAttr(link_id), f"id {link_id}")
