# SPDX-License-Identifier: Apache-2.0
import logging

import pytest

from agent.storing.child import ChildStatus, Supervisor

S = 1_000_000_000


class FakeProcess:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self.text = ""
        self.output = ""
        self.ended_after_s: float | None = None
        self.closed = False

    def poll(self) -> int | None:
        return self.code

    def said(self) -> str:
        text, self.text = self.text, ""
        return text

    def told(self) -> str:
        text, self.output = self.output, ""
        return text

    def end(self, timeout_s: float) -> None:
        self.ended_after_s = timeout_s

    def close(self) -> None:
        self.closed = True


class Starter:
    def __init__(self) -> None:
        self.made: list[FakeProcess] = []
        self.refuses = False

    def __call__(self) -> FakeProcess:
        if self.refuses:
            raise OSError("no memory")
        self.made.append(FakeProcess(100 + len(self.made)))
        return self.made[-1]


@pytest.fixture
def starter() -> Starter:
    return Starter()


def test_supervisor_starts_at_the_first_poll_and_once(starter: Starter) -> None:
    supervisor = Supervisor(starter)
    assert supervisor.status == ChildStatus(0, elsewhere=False, deaths=0)
    supervisor.poll(0)
    supervisor.poll(S)
    assert len(starter.made) == 1
    assert supervisor.status == ChildStatus(100, elsewhere=False, deaths=0)


def test_supervisor_dead_writer_is_started_again_with_growing_waits(starter: Starter) -> None:
    supervisor = Supervisor(starter)
    now_ns = 0
    starts = []
    for _ in range(7 * 60 * 50):
        before = len(starter.made)
        supervisor.poll(now_ns)
        if len(starter.made) > before:
            starts.append(now_ns // S)
            starter.made[-1].code = -9
        now_ns += S // 50
    assert starts[:7] == [0, 1, 3, 8, 18, 48, 108]
    assert supervisor.status.deaths >= 7
    assert all(process.closed for process in starter.made[:-1])


def test_supervisor_writer_that_lived_long_is_started_again_soon(starter: Starter) -> None:
    supervisor = Supervisor(starter)
    for at_s in (0, 1, 2, 4):
        supervisor.poll(at_s * S)
        starter.made[-1].code = 1
    supervisor.poll(5 * S)
    supervisor.poll(20 * S)
    starter.made[-1].code = None
    supervisor.poll(200 * S)
    starter.made[-1].code = 1
    count = len(starter.made)
    supervisor.poll(201 * S)
    supervisor.poll(202 * S)
    assert len(starter.made) == count + 1


def test_supervisor_lock_held_elsewhere_is_looked_at_every_30_s(
    starter: Starter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    supervisor = Supervisor(starter)
    for at_s in range(100):
        supervisor.poll(at_s * S)
        starter.made[-1].code = 3
    assert len(starter.made) == 4
    assert supervisor.status == ChildStatus(0, elsewhere=True, deaths=0)
    assert [record.message for record in caplog.records] == [
        "another process works instead of the store's writer"
    ]


def test_supervisor_lock_that_became_free_is_ours(starter: Starter) -> None:
    supervisor = Supervisor(starter)
    supervisor.poll(0)
    starter.made[-1].code = 3
    supervisor.poll(S)
    supervisor.poll(31 * S)
    supervisor.poll(32 * S)
    assert supervisor.status.elsewhere
    supervisor.poll(42 * S)
    assert supervisor.status == ChildStatus(101, elsewhere=False, deaths=0)


def test_supervisor_that_cannot_start_says_so_and_tries_again(
    starter: Starter, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor(starter)
    starter.refuses = True
    supervisor.poll(0)
    supervisor.poll(S // 2)
    starter.refuses = False
    supervisor.poll(S)
    assert len(starter.made) == 1
    assert caplog.records[0].message == "cannot start the store's writer"


def test_supervisor_passes_on_whole_lines(starter: Starter, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(starter)
    supervisor.poll(0)
    starter.made[0].text = "one\ntw"
    supervisor.poll(1)
    starter.made[0].text = "o\n\n"
    supervisor.poll(2)
    assert [record.__dict__["line"] for record in caplog.records] == ["one", "two"]


def test_supervisor_says_what_is_repeated_once(starter: Starter, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(starter)
    for at_s in (0, 31, 62):
        supervisor.poll(at_s * S)
        starter.made[-1].text = "WARNING another writer\n"
        starter.made[-1].code = 3
        supervisor.poll((at_s + 1) * S)
    supervisor.poll(93 * S)
    starter.made[-1].text = "ERROR no disk\n"
    supervisor.poll(94 * S)
    said = [record for record in caplog.records if record.message == "the store's writer says"]
    assert [(record.levelname, record.__dict__["line"]) for record in said] == [
        ("WARNING", "WARNING another writer"),
        ("ERROR", "ERROR no disk"),
    ]


def test_supervisor_close_ends_the_child(starter: Starter, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(starter, end_timeout_s=2.5)
    supervisor.poll(0)
    starter.made[0].text = "last words"
    supervisor.close()
    supervisor.close()
    assert starter.made[0].ended_after_s == 2.5
    assert starter.made[0].closed
    assert caplog.records[0].__dict__["line"] == "last words"


def test_supervisor_hears_whole_lines_of_the_output_until_the_end(starter: Starter) -> None:
    heard: list[str] = []
    supervisor = Supervisor(starter, "the forwarder", heard.append)
    supervisor.poll(0)
    starter.made[0].output = "one\ntw"
    supervisor.poll(1)
    starter.made[0].output = "o\n"
    supervisor.poll(2)
    starter.made[0].output = "three\n"
    supervisor.close()
    assert heard == ["one", "two", "three"]


def test_supervisor_calls_its_child_by_name(starter: Starter, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(starter, "the forwarder")
    supervisor.poll(0)
    starter.made[0].code = 1
    supervisor.poll(S)
    assert caplog.records[0].message == "the forwarder ended, it is started again"
