"""A leading thread asks for its next turn before it runs what the last one brought, and loses nothing."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest import mock

import pytest

from django_kue import get_queue
from django_kue.errors import StoreUnavailable
from django_kue.execution import DONE, Outcome, Run
from django_kue.store import moves, send
from django_kue.worker import served
from django_kue.worker.board import Board
from django_kue.worker.codes import GUTTED
from django_kue.worker.crew import Crew
from django_kue.worker.fetch import Fetcher
from django_kue.worker.options import WorkerOptions
from django_kue.worker.served import MOST
from tests.app import jobs
from tests.conftest import redis_client
from tests.worker_process import is_well

OWNER = moves.owner("ahead")
FAILED = Outcome("f", b'{"type": "ValueError", "message": "no"}')


class Leader(Fetcher):
    """A child's leading thread, done by hand; no other thread runs."""

    ran: list[bytes]

    def run_all(self) -> None:
        """What's at hand runs, and completes at once. No receivers are told."""
        while (item := self.crew.buffer.pop()) is not None:
            if isinstance(item, Run):
                self.ran.append(item.key)
                self.crew.done(item, DONE)

    def ask_and_collect(self) -> None:
        """A turn is asked for and answered, and not taken in."""
        self.crew.mark()
        self._turns.ask(time.monotonic())
        self._turns.collect()

    def work_off(self) -> None:
        """Turns and runs, till nothing is left to do."""
        is_busy = True
        while is_busy or self._turns.is_due(time.monotonic()):
            is_busy = self._tick()
            is_busy |= self._hear_answers()
            is_busy |= bool(self.crew.buffer.waiting())
            self.run_all()

    def lose_answers(self) -> None:
        """They're gone with the connection on which they were to come."""
        assert self.socket.recv(1 << 20)
        time.sleep(0.05)  # for what hadn't come by then
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            self.socket.recv(1 << 20)
        self.socket.settimeout(3)
        self.cut()
        with pytest.raises(StoreUnavailable):
            self._tick()
        self._is_dirty_all()

    def cut(self) -> None:
        redis_client().client_kill("{}:{}".format(*self.socket.getsockname()))

    @property
    def socket(self) -> Any:
        return self._link._connection._sock  # type: ignore[attr-defined]

    @property
    def queue(self) -> Any:
        return self._queues["default"]


def lead(**options: Any) -> Iterator[Leader]:
    worker = WorkerOptions(queues=("default",), threads=4, **options)
    board = Board(worker.queues, 1 + worker.threads + worker.coroutines)
    one = Leader(OWNER, worker, board)
    one.ran = []
    one.queue.duration, one.queue.async_share, one.queue.is_short = 1e-6, 0.0, True
    one.queue._count_claimed(MOST)
    with mock.patch.object(served, "REST", float("inf")):
        yield one
    one._end()
    board.close()


@pytest.fixture
def leader() -> Iterator[Leader]:
    """One whose jobs are short."""
    yield from lead()


def count(state: str) -> int:
    return get_queue().counts()[state]


def two_turns_ahead(leader: Leader) -> None:
    """The jobs of one turn are at hand, and another turn is asked for."""
    leader._tick()
    assert len(leader.crew.buffer.waiting()) == MOST
    assert leader._turns.is_asked


def test_while_jobs_are_at_hand_redis_works_on_the_next_turn(leader: Leader) -> None:
    keys = [job.key.encode() for job in jobs.noop.enqueue_many([()] * 5 * MOST)]
    two_turns_ahead(leader)
    leader.run_all()
    leader._tick()  # hears the second, and tells of the first
    assert leader._turns.is_asked
    assert len(leader.crew.buffer.waiting()) == MOST
    leader.work_off()
    assert leader.ran == keys
    assert count("completed") == len(keys)
    assert is_well("default")


def test_it_asks_before_it_takes_in_what_has_come(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    leader.run_all()
    asked = []
    real = leader._turns.take_in
    monkeypatch.setattr(leader._turns, "take_in", lambda: asked.append(leader._turns.is_asked) or real())
    leader._tick()
    assert asked == [True]


def test_what_has_come_counts_as_at_hand_before_it_is_taken_in(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    assert leader._turns.wants(leader.queue, time.monotonic()) == MOST
    leader._turns.collect()
    assert leader._turns.wants(leader.queue, time.monotonic()) == 0


def test_ends_that_got_lost_on_their_way_are_told_again(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    leader._tick()
    leader._hear_answers()
    leader.run_all()
    leader.cut()
    with pytest.raises(StoreUnavailable):
        leader._tick() or leader._hear_answers()
    assert [run.key for run in leader.queue.acks] == leader.ran
    leader._is_dirty_all()
    leader.work_off()
    assert len(leader.ran) == len(set(leader.ran)) == count("completed") == 5 * MOST
    assert is_well("default")


def test_no_more_is_at_hand_than_two_turns_bring(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    for _ in range(6):
        leader._tick()
        leader._hear_answers()
    assert len(leader.crew.buffer.waiting()) == 2 * MOST == count("active")


def test_an_answer_that_got_lost_is_asked_for_again_and_its_jobs_go_back(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    leader.run_all()
    leader._tick()
    assert leader.queue.held() == 2 * MOST, "the ends are on their way, and so are other jobs"
    leader.lose_answers()
    leader.work_off()
    assert len(leader.ran) == len(set(leader.ran)) == count("completed") == 5 * MOST
    assert is_well("default")


def test_what_has_come_and_is_not_yet_taken_in_is_known_when_lost_jobs_are_looked_for(leader: Leader) -> None:
    """A sync gives back what its worker doesn't know of."""
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    leader._turns.collect()
    leader.queue.is_dirty = True
    leader._turns.ask(time.monotonic())
    assert not leader.queue.is_dirty
    assert count("active") >= 2 * MOST
    leader._hear_answers()
    leader.work_off()
    assert len(leader.ran) == len(set(leader.ran)) == count("completed") == 5 * MOST


def suspect(leader: Leader) -> None:
    """The next job was in the hands of a worker that died."""
    send(moves.turn("default", moves.owner("dead"), want=1, sequence=1, batches={}))
    send(moves.rescue("default"))
    redis_client().zadd("kue:{default}:hb", {moves.owner("dead").text: 1})
    send(moves.rescue("default"))


def test_a_suspect_that_comes_is_taken_in_before_more_is_asked_for(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    suspect(leader)
    leader.ask_and_collect()
    assert not leader._turns.may_ask()
    leader.queue.ready_at = 0.0
    leader._tick()
    assert not leader._turns.is_asked, "nothing is taken beside it"


def test_so_are_answers_of_a_queue_with_limits(leader: Leader, settings: Any) -> None:
    assert leader._turns.may_ask()
    for limit in ({"CONCURRENCY": 500}, {"RATE": "500/s"}, {"PREFETCH": False}):
        settings.KUE = settings.KUE | {"QUEUES": settings.KUE["QUEUES"] | {"default": limit}}
        jobs.noop.enqueue_many([()] * 3)
        leader.queue.ready_at = 0.0
        leader.ask_and_collect()
        assert not leader._turns.may_ask(), limit
        leader.work_off()


def test_so_are_those_of_a_worker_whose_jobs_are_counted() -> None:
    for leader in lead(max_jobs=3):
        jobs.noop.enqueue_many([()] * 10)
        leader.ask_and_collect()
        assert not leader._turns.may_ask()
        leader._hear_answers()
        leader._tick()
        leader._hear_answers()
        assert count("active") == 3
        leader.run_all()
        leader._tick()
        leader._hear_answers()
        assert count("completed") == 3


def test_a_run_whose_end_was_refused_is_known_before_more_is_asked_for(leader: Leader) -> None:
    first, *_ = jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    first.remove()
    leader.run_all()
    leader._tick()
    leader._turns.collect()
    assert not leader._turns.may_ask()
    leader.work_off()
    assert isinstance(leader.ran[0], bytes)
    assert is_well("default")


def test_what_has_come_is_taken_in_when_redis_goes_away_before_the_next_turn(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(now: float) -> None:
        raise StoreUnavailable("away")

    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    with monkeypatch.context() as outage:
        outage.setattr(leader, "_flush_reports", away)
        assert leader._round(leader.crew.threads.slots[0])
    assert len(leader.crew.buffer.waiting()) == 2 * MOST
    leader.work_off()
    assert len(leader.ran) == len(set(leader.ran)) == count("completed") == 5 * MOST


def test_what_is_asked_for_is_given_up_when_redis_goes_away(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    leader._wait_for_redis(StoreUnavailable("away"))
    assert not leader._turns.is_asked
    leader.work_off()
    assert len(leader.ran) == len(set(leader.ran)) == count("completed") == 5 * MOST


def test_a_turn_that_the_network_may_still_bring_is_looked_for_once_more(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    leader._wait_for_redis(StoreUnavailable("away"))
    assert time.monotonic() < leader.queue.resync_at < float("inf")


def test_where_its_connection_is_only_doubted_it_hears_what_comes_before_it_leaves(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    leader.doubt()
    leader._heed_doubt()
    assert len(leader.crew.buffer.waiting()) == 2 * MOST == leader.queue.held()
    assert leader._link._connection is None  # type: ignore[attr-defined]
    leader._tick()
    leader._heed_doubt()
    assert leader._link._connection is not None, "a doubt is heeded once"  # type: ignore[attr-defined]
    leader.work_off()
    assert len(leader.ran) == len(set(leader.ran)) == count("completed") == 5 * MOST


def test_who_stops_ends_as_soon_as_its_last_end_is_told(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep() -> None:
        raise AssertionError("it slept, though all is told")

    monkeypatch.setattr(leader, "_sleep", sleep)
    monkeypatch.setattr(Crew, "is_idle", True)
    jobs.noop.enqueue_many([()] * 3)
    leader._tick()
    leader.run_all()
    leader.stop()
    leader._round(leader.crew.threads.slots[0])
    assert leader.is_over
    assert count("completed") == 3


@pytest.mark.parametrize("hear", [Leader._hear_answers, Leader._tick])
def test_when_it_is_to_stop_no_busy_thread_gets_at_what_is_at_hand(leader: Leader, hear: Any) -> None:
    """The leading thread may have to wait long for the interpreter: what isn't started is gone by then."""
    keys = [job.key.encode() for job in jobs.noop.enqueue_many([()] * 2 * MOST)]
    two_turns_ahead(leader)
    leader.stop()
    leader.run_all()
    hear(leader)
    leader.run_all()
    assert leader.ran == []
    leader._tick()
    assert [job.key.encode() for job in get_queue().jobs("waiting", limit=1000, newest_first=False)] == keys
    assert {job.attempts_made for job in get_queue().jobs("waiting", limit=1000)} == {0}
    assert is_well("default")


def test_what_comes_in_at_the_moment_of_a_stop_goes_back_too(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.noop.enqueue_many([()] * 3)
    real = leader.crew.buffer.put
    monkeypatch.setattr(leader.crew.buffer, "put", lambda *call: (leader.stop(), real(*call)))
    leader._tick()
    leader.run_all()
    assert leader.ran == []


def test_the_leading_thread_is_woken_when_all_that_goes_back_is_there(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.noop.enqueue_many([()] * 3)
    leader._tick()
    there: list[int] = []
    monkeypatch.setattr(leader._alarm, "ring", lambda: there.append(len(leader.queue.acks)))
    leader._alarm.is_asleep = True
    leader.crew.stop_taking()
    assert there == [3]


def test_who_has_grown_too_large_starts_nothing_more_after_the_run_that_did_it() -> None:
    for leader in lead(max_memory=1):
        jobs.noop.enqueue_many([()] * 3)
        leader._tick()
        leader.run_all()
        assert len(leader.ran) == 1
        assert leader.crew.memory.is_exceeded
        leader._tick()
        assert count("completed") == 1
        assert count("waiting") == 2


def test_answers_that_bring_jobs_for_other_threads_are_heard_at_once(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    assert leader._turns.may_wait()
    leader.queue.is_short = False
    assert not leader._turns.may_wait()


def test_a_link_that_only_remembers_what_is_posted_is_read_at_once(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that to a Cluster."""
    monkeypatch.setattr(leader._link, "works_ahead", False)
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    assert not leader._turns.may_wait()


def test_while_an_answer_is_awaited_nothing_else_is_sent(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    with pytest.raises(AssertionError, match="collected first"):
        leader._link.send(moves.beat("default", OWNER))


def test_ends_on_their_way_are_among_those_that_may_not_be_told(leader: Leader) -> None:
    jobs.noop.enqueue_many([()] * 5 * MOST)
    two_turns_ahead(leader)
    leader.run_all()
    leader._tick()
    leader.run_all()
    assert leader._turns.is_asked
    assert [run.key for run in leader._turns.untold()] == leader.ran


def test_who_lost_its_descriptors_blames_what_ended_since_and_nothing_else(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what was noted as completed while they were still its own, nor what wasn't started."""
    jobs.noop.enqueue_many([()] * 4)
    leader.ask_and_collect()
    leader._turns.take_in()
    noted, ended, running, unstarted = leader.crew.buffer.drain()
    now = time.monotonic()
    leader._board.begin(0, "default", running.key, now, 0.0, 0)
    noted.started, ended.started = now - 1, now + 60  # only what took some time is noted
    for run in (noted, ended):
        leader.crew.done(run, DONE)
    leader.crew.give_back([unstarted])
    codes: list[int] = []
    monkeypatch.setattr(leader, "give_up", codes.append)
    leader.blame_if_gutted()
    assert not codes
    monkeypatch.setattr(leader._alarm, "is_gutted", lambda: True)
    leader.blame_if_gutted()
    assert codes == [GUTTED]
    assert [busy.key for busy in leader._board.busy()] == [running.key, ended.key]
    assert [end.key for end in leader._board.untold()] == [noted.key]
    assert leader._board.busy_count(0, 2) == 1, "others may begin runs meanwhile, in the first free slots"


def test_no_run_starts_later_by_redis_clock_than_it_did(leader: Leader) -> None:
    """Its end, which Redis dates, mustn't come before its start."""
    client = redis_client()
    jobs.noop.enqueue_many([()] * 3)
    client.execute_command("CLIENT PAUSE", 30, "ALL")  # the claim comes that much later than the question
    leader.crew.mark()
    leader._turns.ask(time.monotonic())
    time.sleep(0.06)
    leader._hear_answers()
    run = leader.crew.buffer.waiting()[0]
    run.started = time.monotonic()
    seconds, micros = client.time()
    assert run.started_ms() <= seconds * 1000 + micros / 1000


def test_a_failure_wakes_who_writes_the_log(leader: Leader) -> None:
    """Its line is to be read even if the process dies of its next job."""
    jobs.noop.enqueue_many([()] * 2)
    leader.ask_and_collect()
    leader._turns.take_in()
    for outcome, is_rung in ((DONE, False), (FAILED, True)):
        leader.leadership._bell.clear()
        run = leader.crew.buffer.pop()
        run.started = time.monotonic()
        leader.crew.done(run, outcome)
        leader.ask_and_collect()
        leader._turns.take_in()
        ready, _, _ = select.select([leader.leadership.bell], [], [], 0)
        assert bool(ready) is is_rung
