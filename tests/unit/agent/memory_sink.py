# SPDX-License-Identifier: Apache-2.0
"""A Sink that remembers."""

from agent.storing.child import ChildStatus
from agent.storing.store import StoreFacts
from store.batch import Batch, Labels


class MemorySink:
    """Rows in the order of their coming, by table."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.polled: list[int] = []
        self.closed = 0
        self.error: str | None = None
        self.ahead_ns = 0

    def append(self, batch: Batch) -> None:
        assert not self.closed
        if len(batch):
            self.batches.append(batch)

    def poll(self, mono_ns: int) -> None:
        self.polled.append(mono_ns)

    def facts(self) -> StoreFacts:
        appended: dict[str, int] = {}
        for batch in self.batches:
            appended[batch.table.name] = appended.get(batch.table.name, 0) + len(batch)
        writer = ChildStatus(0 if self.closed else 7, elsewhere=False, deaths=0)
        return StoreFacts(
            "memory", appended=appended, error=self.error, writer=writer, ahead_ns=self.ahead_ns
        )

    def close(self) -> None:
        self.closed += 1

    def column(self, table: str, name: str) -> list[object]:
        """All values of a column so far."""
        found: list[object] = []
        for batch in self.batches:
            if batch.table.name == table:
                column = batch.columns[name]
                found += list(column.texts()) if isinstance(column, Labels) else column.tolist()
        return found
