# SPDX-License-Identifier: Apache-2.0
"""The agent that runs in this network namespace, as seen from another process."""

import socket
from collections.abc import Generator
from contextlib import closing
from io import BufferedReader
from pathlib import Path

from pydantic import TypeAdapter

from agent.lock import holder_pid
from agent.sockets import unix_socket
from agent.sockets.watch import AgentFacts
from overhop.doctor import RunningAgent, StoreState, VportLooks
from overhop.errors import CommandError
from overhop.hops_view import HopsView

PATIENCE_S = 10.0
"""How long an agent may take to answer, beside the interval that was asked for."""


class NoAgentError(CommandError):
    """No agent listens in this network namespace."""


def find_running_agent(path: Path | None = None) -> RunningAgent | None:
    """The agent and what went through its vports; None if there is none, or if it cannot be asked."""
    pid = holder_pid()
    return asked(pid, path or watch_path()) if pid else None


def asked(pid: int, path: Path, patience_s: float = PATIENCE_S) -> RunningAgent:
    """The agent that holds the lock; one that is stopped, or busy for so long, is said to be silent."""
    try:
        facts = read_facts(path, patience_s)
    except NoAgentError:
        return RunningAgent(pid)
    except CommandError as error:
        return RunningAgent(pid, silence=str(error))
    looks = [VportLooks(vport.name, vport.tls, vport.http2, vport.requests) for vport in facts.vports]
    return RunningAgent(facts.pid, tuple(looks), _store_of(facts))


def _store_of(facts: AgentFacts) -> StoreState | None:
    if facts.output is None:
        return None
    store = facts.output.store
    return StoreState(
        path=store.path,
        rows=sum(store.appended.values()),
        waiting=sum(store.waiting.values()),
        dropped=sum(store.dropped.values()),
        error=store.error,
        has_writer=bool(store.writer.pid) or store.writer.elsewhere,
        ahead_ns=store.ahead_ns,
    )


def watch_path() -> Path:
    """Where the agent of this network namespace is watched."""
    return unix_socket.default_path("watch")


def read_facts(path: Path, patience_s: float = PATIENCE_S) -> AgentFacts:
    """Ask once. Raises NoAgentError, CommandError."""
    for line in _lines(path, "STATUS", patience_s):
        return TypeAdapter(AgentFacts).validate_json(line)
    raise _ended(path)


def views(
    path: Path, interval_s: float, min_latency_us: float | None = None
) -> Generator[HopsView, None, None]:
    """The summary of each interval, without end, of hops that took at least so long.

    Raises NoAgentError, CommandError.
    """
    adapter = TypeAdapter(HopsView)
    command = f"WATCH {interval_s:.3f} {(min_latency_us or 0) * 1000:.0f}"
    for line in _lines(path, command, interval_s + PATIENCE_S):
        yield adapter.validate_json(line)
    raise _ended(path)


def _lines(path: Path, command: str, timeout_s: float) -> Generator[bytes, None, None]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except PermissionError:
            raise NoAgentError(f"watch socket {path}: it is root's: run it as root") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoAgentError(
                f"watch socket {path}: no agent runs in this network namespace: start it with overhop agent"
            ) from None
        with connection.makefile("rb") as stream:
            yield from _answers(path, connection, stream, command)


def _answers(
    path: Path, connection: socket.socket, stream: BufferedReader, command: str
) -> Generator[bytes, None, None]:
    try:
        connection.sendall(command.encode() + b"\n")
        while (line := stream.readline()).endswith(b"\n"):
            if line.startswith(b'{"error":'):
                raise CommandError(
                    f"watch socket {path}: {TypeAdapter(dict[str, str]).validate_json(line)['error']}"
                )
            yield line
    except TimeoutError:
        raise CommandError(f"watch socket {path}: no answer within {connection.gettimeout():.2g} s") from None
    except (BrokenPipeError, ConnectionResetError):
        return


def _ended(path: Path) -> CommandError:
    return CommandError(f"watch socket {path}: the agent ended")
