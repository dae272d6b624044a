# SPDX-License-Identifier: Apache-2.0
"""Programs being compiled in a thread, so that the agent reads its ring meanwhile."""

import threading
from collections.abc import Callable

from agent.loading.loader import Loaded, LoaderError


class Loading:
    """Runs `load` in a thread of its own. Exactly one of result() and discard() ends it.

    `load` gets a question: shall it stop? It is then of no interest what comes out.
    """

    def __init__(self, load: Callable[[Callable[[], bool]], Loaded]) -> None:
        self._load = load
        self._discarded = threading.Event()
        self._outcome: Loaded | Exception = LoaderError("load: ended without a result")
        self._thread = threading.Thread(target=self._run, name="overhop-load")
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether result() would not have to wait."""
        return not self._thread.is_alive()

    def result(self) -> Loaded:
        """The programs, the caller's from now on. Raises what `load` raised."""
        self._thread.join()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def discard(self) -> None:
        """Ask for the end, wait for it, free what came out; what went wrong is of no interest any more."""
        self._discarded.set()
        self._thread.join()
        if isinstance(self._outcome, Loaded):
            self._outcome.close()

    def _run(self) -> None:
        try:
            self._outcome = self._load(self._discarded.is_set)
        except Exception as error:  # noqa: BLE001  result() raises it in the agent's own thread
            self._outcome = error
