# SPDX-License-Identifier: Apache-2.0
"""One kind of object, listed in pages and then watched, for as long as the process lives.

After a watch that the server ended it goes on where it was; where the server forgot that place (410) all is
listed again. Failures wait longer each time, with jitter, so that many controllers do not come back at once.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from collector.cluster import decode
from collector.cluster.api import Api, ApiError, Stream
from collector.cluster.decode import DecodeError

_log = logging.getLogger(__name__)

PAGE: Final = 500
WATCH_S: Final = (240.0, 300.0)
"""How long one watch lasts, from and to."""
FIRST_WAIT_S: Final = 0.25
MAX_WAIT_S: Final = 15.0
GONE: Final = 410
_REFUSED: Final = (401, 403)
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata{list};g=meta.k8s.io;v=v1,application/json"

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Sink(Protocol[T_contra]):
    """Where objects go. Called by one thread; keys are (namespace, name)."""

    def replace(self, found: Mapping[tuple[str, str], T_contra], gap_from_ns: int) -> None:
        """All there is. What came and went since `gap_from_ns` (real time; 0: ever) was not seen."""

    def put(self, key: tuple[str, str], found: T_contra) -> None:
        """One is new or different."""

    def drop(self, key: tuple[str, str]) -> None:
        """One is gone."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What is reflected. `parse` raises DecodeError."""

    name: str
    path: str
    parse: Callable[[Mapping[str, Any]], T]
    only_metadata: bool = False
    selector: str = ""
    """A field selector."""


@dataclass(slots=True)
class ReflectorCounts:
    """What happened since the start."""

    listed: int = 0
    watched: int = 0
    """Watches begun."""
    events: int = 0
    failed: int = 0
    gone: int = 0
    """410: the place to go on at was forgotten."""
    undecodable: int = 0
    examples: list[str] = field(default_factory=list)
    """Of what could not be decoded, at most three."""


class Reflector(Generic[T]):
    """Keeps a sink like the API server, in a thread of its own."""

    def __init__(
        self, api: Api, kind: Kind[T], sink: Sink[T], *, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.kind = kind
        self.counts = ReflectorCounts()
        self.problem = ""
        """Why it is not up to date; empty: it is."""
        self.is_refused = False
        """The problem is that one may not."""
        self._api, self._sink, self._now_ns = api, sink, now_ns
        self._stopping = threading.Event()
        self._synced = threading.Event()
        self._stream: Stream | None = None
        self._version = ""
        """Where to go on; empty: all is to be listed."""
        self._good_ns = 0
        """When the sink was last known to be like the server."""
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """End soon."""
        self._stopping.set()
        self.cut()

    def join(self) -> None:
        """Wait for the end, five seconds at most: a connection that is being made cannot be cut."""
        self._thread.join(timeout=5)

    def cut(self) -> None:
        """End the watch that runs, as a network would."""
        stream = self._stream
        if stream is not None:
            stream.end()

    def wait(self, timeout_s: float) -> bool:
        """Whether everything was listed once, after at most that time."""
        return self._synced.wait(timeout_s)

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stopping.is_set():
            before = self._version
            try:
                if not self._version:
                    self._list()
                self._follow()
            except ApiError as error:
                if not self._stopping.is_set():
                    self._failed(error)
            # A server that ends every watch at once, or always fails, must not be asked in a tight loop.
            wait_s = FIRST_WAIT_S if self._version != before else min(wait_s * 2, MAX_WAIT_S)
            self._stopping.wait(wait_s * (0.5 + random.random()))

    def _failed(self, error: ApiError) -> None:
        if error.status == GONE:
            self.counts.gone += 1
            self._version = ""
            return
        self.counts.failed += 1
        if self.problem != str(error):
            _log.warning("not up to date", extra={"kind": self.kind.name, "reason": str(error)})
        self.problem = str(error)
        self.is_refused = error.status in _REFUSED

    def _list(self) -> None:
        """All objects, to the sink. Raises ApiError."""
        found: dict[tuple[str, str], T] = {}
        query: dict[str, object] = {"limit": PAGE} | self._selected()
        version = ""
        while True:
            page = self._api.get(self.kind.path, query, self._accept("List"))
            items, meta = page.get("items"), page.get("metadata")
            for each in items if isinstance(items, list) else []:
                self._keep(found, each)
            version = self._version_of(page) or version
            more = meta.get("continue") if isinstance(meta, dict) else None
            if not more:
                break
            if self._stopping.is_set():
                return
            query["continue"] = more
        self._sink.replace(found, self._good_ns)
        self.counts.listed += 1
        self._version = version
        self._is_good()
        self._is_reached()
        self._synced.set()

    def _keep(self, found: dict[tuple[str, str], T], each: Any) -> None:  # noqa: ANN401  JSON
        try:
            found[_key(each)] = self.kind.parse(each)
        except DecodeError as error:
            self._undecodable(error)

    def _follow(self) -> None:
        """From where it is until the server ends it. Raises ApiError."""
        lasts_s = random.uniform(*WATCH_S)
        query = {
            "watch": 1,
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": int(lasts_s),
        } | self._selected()
        self._stream = self._api.watch(self.kind.path, query, self._accept(""), lasts_s + 30)
        self.counts.watched += 1
        self._is_reached()
        try:
            if self._stopping.is_set():
                return
            for line in self._stream.lines():
                if line:
                    self._version = self._event(line) or self._version
                    self._is_good()
        finally:
            self._stream = None

    def _event(self, line: bytes) -> str:
        """Returns where to go on. Raises ApiError."""
        try:
            event = json.loads(line)
            what, found = event["type"], event["object"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ApiError(0, "a line is no event", f"watch {self.kind.path}") from None
        if what == "ERROR":
            code = found.get("code") if isinstance(found, dict) else 0
            text = found.get("message") if isinstance(found, dict) else "an error without a reason"
            raise ApiError(code if isinstance(code, int) else 0, str(text), f"watch {self.kind.path}")
        version = self._version_of(found)
        if what == "BOOKMARK":
            return version
        self.counts.events += 1
        try:
            key = _key(found)
            if what == "DELETED":
                self._sink.drop(key)
            else:
                self._sink.put(key, self.kind.parse(found))
        except DecodeError as error:
            self._undecodable(error)
        return version

    def _version_of(self, found: object) -> str:
        try:
            return decode.resource_version(found)  # type: ignore[arg-type]  # it checks
        except DecodeError:
            return ""

    def _is_good(self) -> None:
        self._good_ns = self._now_ns()

    def _is_reached(self) -> None:
        if self.problem:
            self.problem, self.is_refused = "", False
            _log.info("up to date again", extra={"kind": self.kind.name})

    def _undecodable(self, error: DecodeError) -> None:
        self.counts.undecodable += 1
        if len(self.counts.examples) < 3:
            self.counts.examples.append(str(error))

    def _accept(self, form: str) -> str:
        return METADATA_ONLY.replace("{list}", form) if self.kind.only_metadata else "application/json"

    def _selected(self) -> dict[str, object]:
        return {"fieldSelector": self.kind.selector} if self.kind.selector else {}


def _key(found: Any) -> tuple[str, str]:  # noqa: ANN401  JSON
    meta = found.get("metadata") if isinstance(found, dict) else None
    name = meta.get("name") if isinstance(meta, dict) else None
    namespace = meta.get("namespace", "") if isinstance(meta, dict) else None
    if not isinstance(name, str) or not isinstance(namespace, str):
        raise DecodeError("it has no name")
    return namespace, name
