# SPDX-License-Identifier: Apache-2.0
"""Remove what a killed agent left: clsact filters, qdiscs and records of this network namespace, any sockets.

TCX links need no sweeping, they vanish with their process. Nothing is touched that is not ours by handle and
name (filters), by record (qdiscs), by name, owner and with nobody listening (sockets). Can be run again.
"""

import os

from agent.hooks import tc
from agent.hooks.attach import is_ours, remove_own_qdisc
from agent.hooks.qdiscs import Records
from agent.lock import AgentLock
from agent.network.links import links
from agent.sockets import unix_socket


def sweep(
    lock: AgentLock | None = None,
    records: Records | None = None,
    run_dir: str | os.PathLike[str] = unix_socket.RUN_DIRECTORY,
) -> list[str]:
    """What was removed, one line each. Without `lock` the lock is taken for the time of the sweep.

    Sockets of other network namespaces are removed too: often nobody can enter those any more.

    Raises AlreadyRunning, OSError.
    """
    if lock is None:
        with AgentLock() as taken:
            return sweep(taken, records, run_dir)
    records = records or Records()
    names = {link.ifindex: link.name for link in links()}
    removed = [f"record {name}" for name in records.drop_outdated()]
    for ifindex in tc.clsact_qdiscs():
        removed += _remove_filters(ifindex, names.get(ifindex, f"interface {ifindex}"))
    for record in records.all():
        if remove_own_qdisc(record.ifindex, record.name, records):
            removed.append(f"{record.name}: clsact qdisc")
        elif names.get(record.ifindex) != record.name:
            records.remove(record.ifindex)
            removed.append(f"record of {record.name}, which is gone")
    return removed + [f"socket {name}" for name in unix_socket.remove_stale(run_dir)]


def _remove_filters(ifindex: int, name: str) -> list[str]:
    ours = [
        found for parent in (tc.INGRESS, tc.EGRESS) for found in tc.filters(ifindex, parent) if is_ours(found)
    ]
    if not ours:
        return []
    from agent.hooks import netlink

    for found in ours:
        netlink.del_filter(found)
    return [f"{name}: {found.label}" for found in ours]
