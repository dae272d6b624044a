# SPDX-License-Identifier: Apache-2.0
"""`python -m store.forwarder JSON`: sends a node's spool to a server until SIGTERM (docs/spool.md).

JSON is that of ForwarderSettings. On standard output it says how it stands: SpoolFacts, one a line.
Exit codes: 0 ended by a signal, 1 failed, 2 wrong usage or no spool, 3 another one sends this node's rows.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from store.spool.settings import ForwarderSettings

if TYPE_CHECKING:
    from store.spool.facts import SpoolFacts
    from store.spool.forwarding import Forwarder
    from store.spool.position import PositionFile

_log = logging.getLogger(__name__)

FAILED: Final = 1
UNUSABLE: Final = 2
LOCKED: Final = 3
LOCK_WAIT_S: Final = 10.0
"""A killed agent's forwarder ends what it does."""
DRAIN_S: Final = 5.0
"""How long what is left is sent after a signal, unless the server does not answer."""
TELL_S: Final = 1.0


def main(arguments: list[str]) -> int:
    """The process; returns its exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # what it warns of is said in our words
    try:
        [text] = arguments
        settings = ForwarderSettings(**json.loads(text))
    except (ValueError, TypeError):
        _log.error("usage: python -m store.forwarder JSON")
        return UNUSABLE
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: end.set())
    # Who starts us may have blocked it until now: what waits is sent also if we are to end at once.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.umask(0o077)
    return _run(settings, end)


def _run(settings: ForwarderSettings, end: threading.Event) -> int:
    from store.layout import check_store
    from store.query import StoreError
    from store.spool.places import require_spool
    from store.spool.position import Locked

    spool = Path(settings.spool)
    try:
        check_store(spool)
        require_spool(spool)
        positions = _positions(spool, settings.node, end)
    except StoreError as error:
        _log.error("%s", error)
        return UNUSABLE
    except Locked as error:
        _log.warning("%s", error)
        return LOCKED
    except OSError as error:
        _log.error("spool %s: %s: look at the directory and its rights", spool, error.strerror)
        return FAILED
    try:
        return _forward(settings, positions, end)
    except (OSError, StoreError) as error:
        _log.error("spool %s: %s", spool, error)
        return FAILED
    finally:
        positions.close()


def _positions(spool: Path, node: str, end: threading.Event) -> "PositionFile":
    """Once the forwarder before has ended. Raises Locked, OSError."""
    from store.spool.position import Locked, PositionFile

    deadline_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return PositionFile(spool, node)
        except Locked:
            if end.wait(0.1) or time.monotonic() > deadline_s:
                raise


def _forward(settings: ForwarderSettings, positions: "PositionFile", end: threading.Event) -> int:
    from store.influxdb.target import parse_target
    from store.query import StoreError
    from store.spool.forwarding import LOOK_S, Bounds, Forwarder
    from store.spool.lane import Lane
    from store.spool.sending import SetAside
    from store.spool.server import Server

    spool = Path(settings.spool)
    try:
        target = parse_target(settings.target)
    except ValueError as error:
        raise StoreError(f"store {settings.target!r}: {error}") from None
    server = Server(
        target,
        Path(settings.token_file) if settings.token_file else None,
        Path(settings.ca_file) if settings.ca_file else None,
        settings.node,
        SetAside(spool, settings.node),
    )
    lanes = [
        Lane(spool, table, settings.node, positions.positions[table.name])
        for table in reversed(target.tables)
    ]
    bounds = Bounds(settings.spool_bytes, settings.spool_age_s, settings.rows_per_s)
    forwarder = Forwarder(target, lanes, positions, server, bounds)
    told = _Told()
    with contextlib.closing(server):
        while not end.is_set():
            if positions.is_gone():
                _log.error("spool %s: it was removed", spool)
                return FAILED
            _work(forwarder, end, LOOK_S)
            told.tell(forwarder.facts())
        _drain(forwarder, told)
    return 0


def _work(forwarder: "Forwarder", end: threading.Event, for_s: float) -> None:
    """Look, then send for so long."""
    forwarder.look()
    until_s = time.monotonic() + for_s
    while (left_s := until_s - time.monotonic()) > 0 and not end.wait(min(forwarder.turn(), left_s)):
        pass


def _drain(forwarder: "Forwarder", told: "_Told", monotonic: Callable[[], float] = time.monotonic) -> None:
    """What came until the signal, as long as the server takes it."""
    deadline_s = monotonic() + DRAIN_S
    forwarder.retry_now()
    while True:
        forwarder.look()
        wait_s = 0.0
        while not wait_s and monotonic() < deadline_s:
            wait_s = forwarder.turn()
        if forwarder.is_empty or forwarder.is_failing or monotonic() >= deadline_s:
            break
        time.sleep(min(wait_s, max(0.0, deadline_s - monotonic())))
    forwarder.look()
    told.tell(forwarder.facts(), is_last=True)


class _Told:
    """Facts on standard output, not more often than once a second."""

    def __init__(self) -> None:
        self._last: SpoolFacts | None = None
        self._next_s = 0.0
        os.set_blocking(sys.stdout.fileno(), False)

    def tell(self, facts: "SpoolFacts", *, is_last: bool = False) -> None:
        """Nobody has to read them: what does not fit is left out, the next ones say it again."""
        now_s = time.monotonic()
        if not is_last and (facts == self._last or now_s < self._next_s):
            return
        self._last, self._next_s = facts, now_s + TELL_S
        data = facts.as_text().encode() + b"\n"
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(sys.stdout.fileno(), data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
