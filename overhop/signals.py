# SPDX-License-Identifier: Apache-2.0
"""Signals that end what must tidy up: the first one is heard, no later one disturbs that."""

import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a service manager, a terminal that is closed."""
_Handler = Callable[[int, FrameType | None], object] | int | None


class FirstOf:
    """Inside, the first of `numbers` raises, later ones do nothing.

    SIGINT raises KeyboardInterrupt, the others SystemExit. What somebody handles or ignores already (nohup)
    stays as it is, but SIGINT where it is Python's own. Only the main thread can arrange that; elsewhere
    nothing changes.
    """

    def __init__(self, numbers: Sequence[signal.Signals]) -> None:
        self._numbers = numbers
        self._old: dict[signal.Signals, _Handler] = {}
        self._heard = False

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self._numbers:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                self._old[number] = signal.signal(number, self._hear)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After a signal its handlers stay: the process is on its way out, and shall get there in order."""
        if self._heard:
            return
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self._heard:
            return
        self._heard = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)


class Ignored:
    """ENDING have no effect inside, nor on commands that are started there; only in the main thread."""

    def __enter__(self) -> None:
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
