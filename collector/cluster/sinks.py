# SPDX-License-Identifier: Apache-2.0
"""Where reflected objects go: kept as they come, with what makes them found. Each holds the state's lock."""

import threading
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from collector.cluster.decode import FoundOwner
from collector.cluster.pods import PodSink

Key = tuple[str, str]
T = TypeVar("T")
K = TypeVar("K")


class KeptSink(Generic[K, T]):
    """Objects by a part of their name. `index` gets what was there before and what is now."""

    def __init__(
        self,
        lock: threading.RLock,
        key_of: Callable[[Key], K],
        changed: Callable[[], object],
        index: Callable[[T | None, T | None], None] | None = None,
    ) -> None:
        self.kept: dict[K, T] = {}
        self._lock, self._key_of, self._changed, self._index = lock, key_of, changed, index

    def replace(self, found: Mapping[Key, T], gap_from_ns: int) -> None:  # noqa: ARG002  of the protocol
        """All there is."""
        with self._lock:
            own = {self._key_of(key): value for key, value in found.items()}
            for key in self.kept.keys() - own.keys():
                self._indexed(self.kept.pop(key), None)
            for key, value in own.items():
                self._indexed(self.kept.get(key), value)
                self.kept[key] = value
        self._changed()

    def put(self, key: Key, found: T) -> None:
        """One is new or different."""
        own = self._key_of(key)
        with self._lock:
            before = self.kept.get(own)
            if before == found:
                return
            self._indexed(before, found)
            self.kept[own] = found
        self._changed()

    def drop(self, key: Key) -> None:
        """One is gone."""
        with self._lock:
            before = self.kept.pop(self._key_of(key), None)
            if before is None:
                return
            self._indexed(before, None)
        self._changed()

    def _indexed(self, before: T | None, after: T | None) -> None:
        if self._index is not None:
            self._index(before, after)


class OwnerSink:
    """ReplicaSets or Jobs: whose they are goes to their pods."""

    def __init__(self, lock: threading.RLock, pods: PodSink) -> None:
        self._lock, self._pods = lock, pods
        self._uids: dict[Key, str] = {}

    def replace(self, found: Mapping[Key, FoundOwner], gap_from_ns: int) -> None:  # noqa: ARG002  of the protocol
        """All there is."""
        with self._lock:
            for key in self._uids.keys() - found.keys():
                self.drop(key)
            for key, each in found.items():
                self.put(key, each)

    def put(self, key: Key, found: FoundOwner) -> None:
        """One is new or different."""
        with self._lock:
            before = self._uids.get(key)
            if before is not None and before != found.uid:
                self._pods.disowned(before)
            self._uids[key] = found.uid
            self._pods.owned_by(found)

    def drop(self, key: Key) -> None:
        """One is gone."""
        with self._lock:
            uid = self._uids.pop(key, None)
            if uid is not None:
                self._pods.disowned(uid)
