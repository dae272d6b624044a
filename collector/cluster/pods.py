# SPDX-License-Identifier: Apache-2.0
"""Pods: by uid, by node, by address, with their workload.

A workload is what owns a pod in the end. A ReplicaSet's own owner may become known after its pods, and may be
gone before them.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from collector.cluster.addresses import KEPT_NS, AddressBook
from collector.cluster.decode import FoundOwner, FoundPod, Owner
from collector.snapshot import Pod

Key = tuple[str, str]


class PodSink:
    """All pods that have a node, and for ten minutes those that are gone. Holds the state's lock."""

    def __init__(
        self,
        lock: threading.RLock,
        book: AddressBook,
        changed: Callable[[], object],
        now_ns: Callable[[], int],
    ) -> None:
        self.kept: dict[str, Pod] = {}
        """By uid."""
        self._lock, self._book, self._changed, self._now_ns = lock, book, changed, now_ns
        self._gone: dict[str, tuple[int, Pod]] = {}
        self._uids: dict[Key, str] = {}
        self._by_node: dict[str, set[str]] = {}
        self._owner_uid: dict[str, str] = {}
        self._owned: dict[str, set[str]] = {}
        self._owners: dict[str, Owner] = {}

    def replace(self, found: Mapping[Key, FoundPod], gap_from_ns: int) -> None:
        """All there is; addresses of pods that vanished are theirs until the gap began."""
        with self._lock:
            now_ns = self._now_ns()
            self._book.gap(gap_from_ns, now_ns)
            alive = {each.pod.uid for each in found.values()}
            for uid in self.kept.keys() - alive:
                self._end(uid, gap_from_ns, now_ns)
            self._uids = {key: each.pod.uid for key, each in found.items()}
            for each in found.values():
                self._set(each, now_ns)
        self._changed()

    def put(self, key: Key, found: FoundPod) -> None:
        """One is new or different; one of the same name with another uid is gone."""
        with self._lock:
            now_ns = self._now_ns()
            before = self._uids.get(key)
            if before is not None and before != found.pod.uid:
                self._end(before, now_ns, now_ns)
            self._uids[key] = found.pod.uid
            self._set(found, now_ns)
        self._changed()

    def drop(self, key: Key) -> None:
        """One is gone."""
        with self._lock:
            uid = self._uids.pop(key, None)
            if uid is None:
                return
            now_ns = self._now_ns()
            self._end(uid, now_ns, now_ns)
        self._changed()

    def owned_by(self, found: FoundOwner) -> None:
        """A ReplicaSet or Job has this owner."""
        self._owners[found.uid] = found.owner
        for uid in self._owned.get(found.uid, ()):
            self.kept[uid] = _with_workload(self.kept[uid], found.owner)

    def disowned(self, uid: str) -> None:
        """A ReplicaSet or Job is gone; its pods keep the workload that they have."""
        self._owners.pop(uid, None)

    def of_node(self, node: str) -> list[Pod]:
        """The pods of a node."""
        with self._lock:
            return [self.kept[uid] for uid in self._by_node.get(node, ())]

    def known(self, uid: str) -> Pod | None:
        """A pod, also one that went in the last ten minutes."""
        with self._lock:
            gone = self._gone.get(uid)
            return self.kept.get(uid) or (None if gone is None else gone[1])

    def tidy(self) -> None:
        """Forget what is gone for ten minutes."""
        with self._lock:
            now_ns = self._now_ns()
            self._book.tidy(now_ns)
            for uid in [uid for uid, (at_ns, _) in self._gone.items() if at_ns < now_ns - KEPT_NS]:
                del self._gone[uid]

    def _set(self, found: FoundPod, now_ns: int) -> None:
        pod, owner_uid = found.pod, found.owner.uid
        owner, before = self._owners.get(owner_uid), self.kept.get(found.pod.uid)
        if owner is not None:
            pod = _with_workload(pod, owner)
        elif before is not None and owner_uid:
            pod = replace(pod, workload=before.workload, workload_kind=before.workload_kind)
        self.kept[pod.uid] = pod
        self._gone.pop(pod.uid, None)
        if owner_uid:
            self._owner_uid[pod.uid] = owner_uid
            self._owned.setdefault(owner_uid, set()).add(pod.uid)
        self._by_node.setdefault(pod.node, set()).add(pod.uid)
        if found.is_over:
            self._book.ended(pod.uid, found.ended_ns or now_ns, now_ns)
        elif not pod.is_on_host_network:
            self._book.has(pod.uid, pod.addresses, found.started_ns or now_ns, now_ns)

    def _end(self, uid: str, until_ns: int, now_ns: int) -> None:
        pod = self.kept.pop(uid, None)
        if pod is None:
            return
        self._gone[uid] = (now_ns, pod)
        _discard(self._by_node, pod.node, uid)
        _discard(self._owned, self._owner_uid.pop(uid, ""), uid)
        self._book.ended(uid, until_ns, now_ns)


def _discard(sets: dict[str, set[str]], key: str, uid: str) -> None:
    own = sets.get(key)
    if own is not None:
        own.discard(uid)
        if not own:
            del sets[key]


def _with_workload(pod: Pod, owner: Owner) -> Pod:
    return replace(pod, workload=owner.name, workload_kind=owner.kind) if owner.kind else pod
