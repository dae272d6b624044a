# SPDX-License-Identifier: Apache-2.0
"""Changes of the clsact qdisc and its bpf filters, by pyroute2: for kernels without TCX, before 6.6.

The only place that imports pyroute2; attach and sweep import it when they need it (18 to 24 MB). Not for use
inside a running asyncio loop. Every function raises OSError with the kernel's number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.hooks.tc import Filter


def add_clsact(ifindex: int) -> bool:
    """Add the clsact qdisc; False if the place is taken already."""
    try:
        with _route() as route:
            route.tc("add", "clsact", ifindex)
    except FileExistsError:
        return False
    return True


def del_clsact(ifindex: int) -> None:
    """Delete the clsact qdisc with every filter in it; the caller has made sure that none is foreign."""
    with _route() as route:
        route.tc("del", "clsact", ifindex)


def add_filter(where: Filter, prog_fd: int) -> None:
    """Add a direct-action bpf filter by descriptor; EEXIST if the handle is taken."""
    with _route() as route:
        route.tc("add-filter", "bpf", where.ifindex, where.handle, fd=prog_fd, **_arguments(where))


def replace_filter(where: Filter, prog_fd: int) -> None:
    """Replace the program of a filter in place: no packet passes without one."""
    with _route() as route:
        route.tc("replace-filter", "bpf", where.ifindex, where.handle, fd=prog_fd, **_arguments(where))


def del_filter(where: Filter) -> None:
    """Delete exactly this filter; ENOENT if it is not there."""
    place = {"parent": where.parent, "prio": where.prio, "protocol": where.protocol}
    with _route() as route:
        route.tc("del-filter", "bpf", where.ifindex, where.handle, **place)


def _arguments(where: Filter) -> dict[str, Any]:  # Any: pyroute2 takes keywords of mixed types
    return {
        "name": where.name,
        "parent": where.parent,
        "prio": where.prio,
        "protocol": where.protocol,
        "direct_action": True,
        "classid": 1,
    }


@contextmanager
def _route() -> Iterator[Any]:  # Any: IPRoute's methods are made at run time
    with IPRoute() as route:  # type: ignore[no-untyped-call] # pyroute2 leaves it untyped
        try:
            yield route
        except NetlinkError as error:
            raise OSError(error.code, error.args[-1]) from error
