"""What a supervisor does between two system calls, where no signal from outside hits it for sure."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from django_kue import signals
from django_kue.errors import StoreUnavailable
from django_kue.store import Call, moves
from django_kue.worker import codes
from django_kue.worker.board import Board
from django_kue.worker.child import Child
from django_kue.worker.graves import Buried
from django_kue.worker.options import WorkerOptions
from django_kue.worker.siblings import Sibling
from django_kue.worker.supervisor import Supervisor


class Born:
    """A child as its supervisor sees it, of which there's only this end of what they share."""

    def __init__(self, pid: int) -> None:
        ours, self.socket = socket.socketpair()
        self.socket.setblocking(False)
        self._unread = b""
        self.board = Board(("default", "other"), 1)
        self.sibling = Sibling(0, pid, moves.owner(f"me/{pid}"), self.board, ours, time.monotonic())

    def orders(self) -> list[dict[str, Any]]:
        text = b""
        with suppress(BlockingIOError):
            while more := self.socket.recv(65536):
                text += more
        *lines, self._unread = (self._unread + text).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self.socket.close()
        self.sibling.control.close()


@pytest.fixture
def liveness(tmp_path: Path) -> Path:
    return tmp_path / "alive"


@pytest.fixture
def supervisor(liveness: Path) -> Iterator[Supervisor]:
    yield Supervisor(WorkerOptions(queues=("default",), liveness_file=str(liveness)))
    signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.fixture
def child(supervisor: Supervisor) -> Iterator[Born]:
    with closing(Born(1)) as child:
        supervisor._children[1] = child.sibling
        yield child


def test_a_child_that_was_just_being_born_when_the_signal_came_is_told_to_stop_too(
    supervisor: Supervisor, child: Born
) -> None:
    supervisor._stopping._on_signal(15, None)
    for _ in range(3):
        supervisor._give_orders()
    assert child.orders() == [{"stop": True}]


def test_a_signal_takes_no_lock_of_the_log_that_it_may_have_interrupted(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    supervisor._stopping._on_signal(15, None)
    assert caplog.text == ""
    supervisor._give_orders()
    supervisor._give_orders()
    assert caplog.text.count("stopping: running jobs have 30 s to finish") == 1


def test_a_supervisor_that_is_stuck_is_ended_soon_after_its_shutdown_timeout(supervisor: Supervisor) -> None:
    """Where nobody reads its log, it waits for room in the pipe and comes to nothing else."""
    supervisor._stopping._on_signal(15, None)
    assert 30 < signal.getitimer(signal.ITIMER_REAL)[0] <= 35
    supervisor._stopping._on_signal(15, None)
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 5


def test_no_call_to_a_redis_that_hangs_outlasts_the_shutdown_timeout(supervisor: Supervisor) -> None:
    stopping = supervisor._stopping
    assert stopping.hurried(2.0) == 2.0
    stopping._on_signal(15, None)
    assert stopping.hurried(2.0) == 2.0, "there's time enough"
    stopping._on_signal(15, None)
    assert stopping.hurried(2.0) == 0.25


FOREIGN = b"\xff\xfe\n"  # a key that somebody wrote into Redis


def test_a_foreign_key_that_runs_too_long_ends_its_process_and_not_the_worker(
    supervisor: Supervisor, child: Born, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    child.board.begin(0, "default", FOREIGN, started=1.0, deadline=2.0, suspicion=0)
    supervisor._end_overdue()
    assert killed == [1]
    assert r"job default.\xff\xfe\n" in caplog.text


def test_a_worker_that_runs_a_foreign_key_says_so_and_hands_on_the_order_to_cancel_it(
    supervisor: Supervisor, child: Born, monkeypatch: pytest.MonkeyPatch
) -> None:
    child.board.begin(0, "default", FOREIGN, started=1.0, deadline=0.0, suspicion=0)
    [process] = supervisor._self_portrait()["processes"]
    assert process["jobs"][0].startswith(r"default.\xff\xfe")
    child.board.set_held("default", 1)
    monkeypatch.setattr(supervisor._link, "try_send", lambda *calls: [moves.Beat(True, [FOREIGN])])
    supervisor._renew(time.monotonic())
    cancelled: list[tuple[str, bytes]] = []
    crew = SimpleNamespace(cancelled=lambda queue, key: cancelled.append((queue, key)))
    for order in child.orders():
        Child._obey(SimpleNamespace(_crew=crew), order)  # type: ignore[arg-type]
    assert cancelled == [("default", FOREIGN)]


def test_what_became_of_a_foreign_key_is_told(supervisor: Supervisor) -> None:
    def receiver(**facts: Any) -> None: ...

    signals.job_stalled.connect(receiver)
    supervisor._graves.note("default", [FOREIGN], {})
    signals.job_stalled.disconnect(receiver)
    assert [buried.signal for buried in supervisor._graves.untold] == ["stalled"]


def test_a_beat_that_failed_is_due_again_at_once(
    supervisor: Supervisor, child: Born, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage the others give a living worker half a lease: too short to wait first."""
    child.board.set_held("default", 1)

    with monkeypatch.context() as outage:
        outage.setattr(supervisor._link, "try_send", _away)
        with pytest.raises(StoreUnavailable):
            supervisor._beat()
    renewed: list[float] = []
    monkeypatch.setattr(supervisor, "_renew", renewed.append)
    supervisor._beat()
    supervisor._beat()
    assert len(renewed) == 1, "once at once, and not again before the next beat"


def test_a_beat_that_fails_for_one_queue_keeps_no_others_from_being_heard(
    supervisor: Supervisor, child: Born, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster, while one node is away. Only what failed is sent again before the next beat is due."""
    child.board.set_held("default", 1)
    child.board.set_held("other", 1)
    asked: list[list[str | None]] = []
    hanging = {"default"}

    def try_send(*calls: Call[Any]) -> list[Any]:
        asked.append([call.queue for call in calls])
        away = StoreUnavailable("a node is away", is_partial=True)
        return [away if call.queue in hanging else moves.Beat(is_alive=True, to_stop=[]) for call in calls]

    monkeypatch.setattr(supervisor._link, "try_send", try_send)
    supervisor._beat()
    assert child.board.valid_until("other") > time.monotonic()
    assert child.board.valid_until("default") == 0.0
    hanging.clear()
    supervisor._beat()
    supervisor._beat()
    assert asked == [["default", "other"], ["default"]]
    assert child.board.valid_until("default") > time.monotonic()


def test_what_a_child_did_not_begin_to_tell_of_the_dead_another_one_tells(
    supervisor: Supervisor, child: Born
) -> None:
    words = [Buried(f"default.{n}", "stalled") for n in range(3)]
    supervisor._graves.untold = list(words)
    supervisor._tell_of_buried()
    assert [order["buried"] for order in child.orders()] == [[list(word) for word in words]]
    child.board.set_heard(1)
    supervisor._graves.untold = [last := Buried("default.3", "failed")]
    supervisor._ended(supervisor._children.pop(1), status=9)

    with closing(Born(2)) as heir:
        supervisor._children[2] = heir.sibling
        supervisor._tell_of_buried()
        assert [order["buried"] for order in heir.orders()] == [[list(word) for word in [*words[1:], last]]]


@pytest.mark.parametrize(("held", "is_orderly"), [(0, True), (1, False)])
def test_a_child_that_told_all_ended_in_order_though_a_slot_is_still_taken(
    supervisor: Supervisor, child: Born, caplog: pytest.LogCaptureFixture, held: int, is_orderly: bool
) -> None:
    """A slot is freed after its run's end is noted, and that may be told by then."""
    child.board.begin(0, "default", b"A" * 22, time.monotonic(), 0.0, 0)
    child.board.set_held("default", held)
    supervisor._ended(supervisor._children.pop(1), status=codes.STOPPED << 8)
    assert ("died" not in caplog.text) is is_orderly
    assert len(supervisor._graves) == (0 if is_orderly else 1)


def test_words_that_a_child_began_to_tell_are_forgotten(supervisor: Supervisor, child: Born) -> None:
    for count in range(1, 4):
        supervisor._graves.untold = [Buried("default.0", "stalled")]
        supervisor._tell_of_buried()
        assert len(child.sibling.words) == 1
        child.board.set_heard(count)


def test_a_child_may_begin_to_tell_before_its_supervisor_goes_on(
    supervisor: Supervisor, child: Born, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child.sibling, "order", lambda **order: child.board.set_heard(1))
    supervisor._graves.untold = [Buried("default.0", "failed")]
    supervisor._tell_of_buried()
    assert child.sibling.unheard() == []


def test_a_child_that_does_not_read_holds_up_nobody_and_hears_all_once_it_reads_again(
    supervisor: Supervisor, child: Born, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that holds the GIL keeps its process from reading; the others' beats must go on."""
    child.board.set_held("default", 1)
    keys = [b"%022d" % n for n in range(1000)]
    beat = moves.Beat(is_alive=True, to_stop=keys)
    monkeypatch.setattr(supervisor._link, "try_send", lambda *calls: [beat])

    def beats() -> None:
        for _ in range(50):
            supervisor._renew(time.monotonic())
        supervisor._stopping._on_signal(15, None)
        supervisor._give_orders()

    beating = threading.Thread(target=beats, daemon=True)
    beating.start()
    beating.join(10)
    assert not beating.is_alive(), "it waits for the child"
    assert len(child.sibling.unsent) < 50_000, "nothing piles up"
    with closing(Born(2)) as other:
        supervisor._children[2] = other.sibling
        supervisor._graves.untold = [word := Buried("default.0", "stalled")]
        supervisor._tell_of_buried()
        assert other.orders() == [{"buried": [list(word)]}]

    heard = child.orders()
    supervisor._give_orders()
    heard += child.orders()
    assert {"stop": True} in heard
    supervisor._renew(time.monotonic())
    [order] = child.orders()
    assert [key.encode() for key in order["cancel"]] == keys


def test_the_liveness_file_is_touched_though_redis_is_away_and_jobs_run(
    supervisor: Supervisor, child: Born, monkeypatch: pytest.MonkeyPatch, liveness: Path
) -> None:
    child.board.set_held("default", 1)
    monkeypatch.setattr(supervisor._link, "try_send", _away)
    supervisor._talk()
    assert liveness.exists()


def test_a_liveness_file_that_can_not_be_touched_any_more_is_told_once_and_ends_nothing(
    supervisor: Supervisor, liveness: Path, caplog: pytest.LogCaptureFixture
) -> None:
    liveness.parent.rmdir()
    supervisor._talk()
    supervisor._talk()
    assert caplog.text.count("the liveness file can't be touched") == 1


def test_a_mistake_of_the_supervisors_own_is_told_once_and_ends_nothing(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor._sweeps, "sweep_if_due", lambda: 1 / 0)
    supervisor._talk()
    supervisor._talk()
    assert caplog.text.count("ZeroDivisionError") == 1


def test_a_process_that_can_not_be_forked_is_tried_again(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("os.fork", fail)
    supervisor._respawn_at = {0: 0.0}
    supervisor._spawn_due()
    assert "can't be started" in caplog.text
    assert supervisor._respawn_at[0] > time.monotonic(), "not at once"


def _away(*calls: object) -> None:
    raise StoreUnavailable("away")
