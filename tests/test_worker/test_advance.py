"""An idle worker asks for a turn in advance: it comes with the bell, or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from django_kue import get_queue
from django_kue.conf import settings
from django_kue.errors import StoreUnavailable
from django_kue.execution import DONE
from django_kue.store import moves, send
from django_kue.store.blocking import BLOCK, LATE
from django_kue.worker.board import Board
from django_kue.worker.fetch import Fetcher
from django_kue.worker.options import WorkerOptions
from tests.app import jobs
from tests.conftest import redis_client
from tests.worker_process import is_well, wait_for

OWNER = moves.owner("advance")
LONG = 2.0  # seconds to listen, where a bell rings


class Leader(Fetcher):
    """A child's leading thread, done by hand; no other thread runs."""

    def tick(self) -> bool:
        """Take a turn; True when it brought something."""
        has_claimed = self._tick()
        return self._hear_answers() or has_claimed

    def settle_down(self) -> None:
        """Take turns till there's nothing to do."""
        while self.tick() or self._turns.is_due(time.monotonic()):
            pass

    def listen(self, seconds: float = 0.001) -> None:
        self._alarm.clear()
        self._listen(time.monotonic(), seconds)

    def cut(self, *, unread: bool = False) -> None:
        """Cut the connection to the bell, with what it has brought."""
        (bell,) = self._bell._bells
        if unread:
            bell.socket.recv(65536)
        redis_client().client_kill("{}:{}".format(*bell.socket.getsockname()))
        with pytest.raises(StoreUnavailable):
            self.listen(LONG)
        self._is_dirty_all()
        self._advance.lose()

    @property
    def keys(self) -> list[str]:
        """Of the jobs at hand."""
        return [run.key.decode() for run in self.crew.buffer.waiting()]


@pytest.fixture
def leader() -> Iterator[Leader]:
    """One that serves two queues, of which ``default`` is the first, and has nothing to do."""
    options = WorkerOptions(queues=("default", "other"), threads=4)
    board = Board(options.queues, 1 + options.threads + options.coroutines)
    one = Leader(OWNER, options, board)
    one.settle_down()
    yield one
    one._end()
    board.close()


def count(state: str) -> int:
    return get_queue().counts()[state]


def scripts_called() -> int:
    stats: Any = redis_client().info("commandstats")
    return sum(stats[name]["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)


def key_of(job: Any) -> str:
    return str(job.id.partition(".")[2])


def test_a_job_comes_with_the_bell_and_costs_no_more_calls_than_its_turn(leader: Leader) -> None:
    leader.listen()
    job = jobs.noop.enqueue()
    before = scripts_called()
    leader.listen(LONG)
    assert leader.keys == [key_of(job)]
    assert not leader.tick()
    assert scripts_called() == before, "the turn was taken when the job was enqueued"


@pytest.mark.parametrize(("is_short", "woken"), [(True, 0), (False, 1)])
def test_for_a_short_job_that_comes_with_the_bell_no_other_thread_is_woken(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, *, is_short: bool, woken: int
) -> None:
    """Who heard the bell runs it, and would have to share the interpreter with whoever wakes up for it."""
    leader.listen()
    leader.crew.queues["default"].is_short = is_short
    jobs.noop.enqueue()
    calls: list[int] = []
    monkeypatch.setattr(leader.crew.buffer, "wake", calls.append)
    monkeypatch.setattr(leader.crew.buffer, "idle", 4)
    monkeypatch.setattr(leader.crew, "hand_out", lambda runs, _: leader.crew.buffer.put(runs, 0))
    leader._sleep()
    assert len(leader.keys) == 1
    assert [count for count in calls if count] == [1] * woken


def test_a_job_of_another_queue_is_fetched_by_a_turn_of_its_own(leader: Leader) -> None:
    leader.listen()
    job = jobs.noop.using(queue="other").enqueue()
    leader.listen(LONG)
    assert leader.keys == []
    assert leader.tick()
    assert leader.keys == [key_of(job)]


def test_the_turn_is_asked_for_the_queue_that_rang_last(leader: Leader) -> None:
    job = jobs.noop.using(queue="other")
    job.enqueue()
    leader.listen(LONG)
    leader.settle_down()
    run_all(leader)
    leader.listen()
    second = job.enqueue()
    leader.listen(LONG)
    assert leader.keys == [key_of(second)]


def test_who_has_jobs_asks_for_none_in_advance(leader: Leader) -> None:
    jobs.noop.enqueue()
    leader.listen(LONG)
    leader.settle_down()
    assert len(leader.keys) == 1
    leader.listen()
    second = jobs.noop.enqueue()
    assert count("waiting") == 1, "it isn't claimed without being asked for"
    leader.listen(LONG)
    leader.settle_down()
    assert key_of(second) in leader.keys


def start_one_and_listen(leader: Leader) -> None:
    """A job is at hand, and a pop pending that has no turn behind it."""
    jobs.noop.enqueue()
    leader.listen(LONG)
    leader.settle_down()
    leader.listen()
    assert leader._bell.is_pending


def test_once_its_last_end_is_told_it_asks_behind_the_pop_that_is_pending(leader: Leader) -> None:
    start_one_and_listen(leader)
    run_all(leader)
    leader.listen()
    second = jobs.noop.enqueue()
    assert count("active") == 1
    before = scripts_called()
    leader.listen(LONG)
    assert leader.keys == [key_of(second)]
    assert not leader.tick()
    assert scripts_called() == before


def test_behind_a_pop_it_asks_once(leader: Leader) -> None:
    start_one_and_listen(leader)
    run_all(leader)
    for _ in range(3):
        leader.listen()
    before = scripts_called()
    jobs.noop.enqueue_many([()] * 2)
    assert scripts_called() == before + 2, "the enqueue's, and one turn"
    assert count("active") == 1
    leader.listen(LONG)
    leader.settle_down()
    assert len(leader.keys) == 2
    assert is_well("default")


def test_in_advance_it_asks_for_one_job_however_many_came_before(leader: Leader) -> None:
    """What comes with it may be for others, who are idle as well."""
    leader.crew.queues["default"]._count_claimed(100)
    leader.listen()
    jobs.noop.enqueue_many([()] * 3)
    assert count("active") == 1


def test_a_bell_that_rings_while_it_asks_is_heard_with_the_answer(leader: Leader) -> None:
    start_one_and_listen(leader)
    run_all(leader)
    second = jobs.noop.enqueue()
    assert count("waiting") == 1
    leader.listen(LONG)
    assert leader.keys == [key_of(second)]


def test_behind_a_pop_that_lasts_longer_than_half_a_lease_it_asks_for_none(
    leader: Leader, settings: Any
) -> None:
    settings.KUE = settings.KUE | {"LEASE": 2 * BLOCK - 1}
    start_one_and_listen(leader)
    run_all(leader)
    leader.listen()
    jobs.noop.enqueue()
    assert count("waiting") == 1
    leader.listen(LONG)
    leader.settle_down()
    assert count("active") == 1


def test_who_has_a_delayed_job_to_promote_soon_asks_for_none(leader: Leader) -> None:
    jobs.noop.using(delay=BLOCK - 1).enqueue()
    leader.listen(LONG)
    leader.settle_down()
    leader.listen()
    jobs.noop.enqueue()
    assert count("waiting") == 1


def test_a_delayed_job_that_is_not_due_soon_keeps_none_from_being_asked_for(leader: Leader) -> None:
    jobs.noop.using(delay=60).enqueue()
    leader.listen(LONG)
    leader.settle_down()
    leader.listen()
    jobs.noop.enqueue()
    assert count("active") == 1


def test_a_worker_that_stops_takes_its_turn_back(leader: Leader) -> None:
    leader.listen()
    leader.stop()
    leader.tick()
    jobs.noop.enqueue()
    assert count("waiting") == 1
    assert redis_client().exists("kue:{default}:k"), "the bell is there for others"


def test_what_was_claimed_for_a_worker_that_stops_goes_back(leader: Leader) -> None:
    leader.listen()
    jobs.noop.enqueue()
    assert count("active") == 1
    leader.stop()
    leader.tick()
    assert count("active") == 0
    assert count("waiting") == 1
    assert redis_client().exists("kue:{default}:k"), "others are told"


def test_leases_that_are_gone_leave_no_claim_at_hand_that_was_given_back(leader: Leader) -> None:
    """A claim that isn't read yet is unknown here, and is given back as one that got lost."""
    leader.listen()
    job = jobs.noop.enqueue()
    assert count("active") == 1
    leader.lost("default", time.monotonic())
    leader.settle_down()
    leader.listen(LONG)
    (run,) = leader.crew.buffer.waiting()
    assert run.key.decode() == key_of(job)
    assert redis_client().hget("kue:{default}:a", run.key) == run.lease, "it's ours"


def run_all(leader: Leader) -> None:
    for run in leader.crew.buffer.drain():
        leader.crew.done(run, DONE)
    leader.settle_down()


def test_a_script_that_redis_has_forgotten_is_sent_with_the_next_pop(leader: Leader) -> None:
    for comes_with_the_bell in (True, False, True):
        leader.listen()
        if not comes_with_the_bell:
            redis_client().script_flush()
        job = jobs.noop.enqueue()
        assert count("active") == comes_with_the_bell
        leader.listen(LONG)
        leader.settle_down()
        assert leader.keys == [key_of(job)]
        run_all(leader)


# ── the script ──


def left_by(call: Any, priorities: tuple[int, ...]) -> list[Any]:
    """What a claim leaves of some jobs: what it got, what waits, who has a lease, whether it rang."""
    client, queue = redis_client(), call.queue
    job = jobs.noop.using(queue=queue)
    put = [key_of(job.using(priority=priority).enqueue()) for priority in priorities]
    client.delete(f"kue:{{{queue}}}:k")
    turn = send(call)[0]
    assert client.hgetall(f"kue:{{{queue}}}:a") == dict.fromkeys(turn.keys, turn.lease)
    assert client.zrange(f"kue:{{{queue}}}:hb", 0, -1) == [OWNER.text]
    waiting = get_queue(queue).jobs("waiting", newest_first=False)
    return [
        [put.index(key.decode()) for key in turn.keys],
        turn.records,
        [put.index(job.key) for job in waiting],
        client.exists(f"kue:{{{queue}}}:k"),
    ]


@pytest.mark.parametrize("priorities", [(0,), (0, 0, 0), (0, -1), (0, 0, -1)], ids=str)
def test_what_is_claimed_in_advance_leaves_all_as_a_turn_does(priorities: tuple[int, ...]) -> None:
    in_advance = left_by(moves.standby("default", OWNER, sequence=1), priorities)
    a_turn = moves.turn("other", OWNER, want=1, sequence=1, batches={}, switches="w")
    assert in_advance == left_by(a_turn, priorities)
    assert is_well("default")


def put_one_that_expires() -> None:
    jobs.noop.using(expires=60).enqueue()


def put_one_before_a_stale_entry() -> None:
    jobs.noop.enqueue()
    jobs.noop.enqueue().cancel()
    jobs.noop.enqueue_many([()] * 3)  # so many that it isn't swept up


def put_one_and_pause() -> None:
    jobs.noop.enqueue()
    get_queue().pause()


@pytest.mark.parametrize(
    "put",
    [put_one_that_expires, put_one_before_a_stale_entry, put_one_and_pause],
    ids=lambda put: put.__name__,
)
def test_what_is_not_plain_is_left_for_a_turn(leader: Leader, put: Any) -> None:
    put()
    assert send(moves.standby("default", OWNER, sequence=1)) == [None]
    assert is_well("default")
    get_queue().resume()
    leader.listen(LONG)
    leader.settle_down()
    assert count("active") > 0


def test_a_queue_with_limits_is_asked_by_turns_only(leader: Leader, settings: Any) -> None:
    assert leader._advance.ask(time.monotonic()) is not None
    settings.KUE = settings.KUE | {"QUEUES": settings.KUE["QUEUES"] | {"default": {"CONCURRENCY": 1}}}
    assert leader._advance.ask(time.monotonic()) is None


def test_claims_in_advance_are_heard_of(leader: Leader) -> None:
    send(moves.listen("default", 60_000))
    jobs.noop.enqueue()
    assert send(moves.standby("default", OWNER, sequence=1)) == [None]


def test_what_was_claimed_over_a_connection_that_broke_goes_back(leader: Leader) -> None:
    leader.listen()
    jobs.noop.enqueue()
    assert count("active") == 1
    leader.cut(unread=True)
    leader.tick()
    assert count("active") == 1, "given back, and claimed again"
    assert len(leader.keys) == 1


def test_when_redis_cannot_be_reached_elsewhere_the_pop_is_ended_with_its_turn(leader: Leader) -> None:
    leader.listen()
    leader._advance.lose()
    assert not leader._bell.is_pending
    job = jobs.noop.enqueue()
    assert count("waiting") == 1
    leader.listen(LONG)
    leader.settle_down()
    assert leader.keys == [key_of(job)]


@pytest.mark.parametrize("leave", ["lose", "withdraw_if_due"])
def test_a_bell_that_rang_unheard_is_passed_on(leader: Leader, leave: str) -> None:
    leader.listen()
    jobs.noop.using(queue="other").enqueue()
    if leave == "lose":
        leader._advance.lose()
    else:
        leader._queues["default"].ready_at = 0.0
        leader._advance.withdraw_if_due(time.monotonic())
    assert not leader._bell.is_pending
    assert leader._queues["other"].is_woken


def test_a_turn_that_redis_takes_long_after_its_connection_broke_is_found(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader.listen()
    leader.cut()
    leader.settle_down()
    jobs.noop.enqueue()
    send(moves.turn("default", OWNER, want=1, sequence=9, batches={}))  # as a server that heard of no end
    assert count("active") == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + BLOCK + LATE + 0.1)
    leader.tick()
    leader.listen(LONG)
    assert len(leader.keys) == 1, "given back, and claimed by a turn whose reply is known"


def test_a_claim_is_counted_from_the_question_since_nobody_knows_when_it_was_made(leader: Leader) -> None:
    begun = time.monotonic()
    leader.listen()
    asked = time.monotonic()
    jobs.noop.enqueue()
    leader.listen(LONG)
    (run,) = leader.crew.buffer.waiting()
    assert begun + settings.LEASE * 0.75 <= run.fresh_until <= asked + settings.LEASE * 0.75


def test_a_pop_lasts_half_a_lease_at_most_when_a_turn_is_behind_it(leader: Leader, settings: Any) -> None:
    settings.KUE = settings.KUE | {"LEASE": 1}
    behind = leader._advance.ask(time.monotonic())
    assert behind is not None
    assert behind.seconds == 0.5


def test_a_pop_that_is_over_without_a_bell_takes_its_turn(leader: Leader, settings: Any) -> None:
    settings.KUE = settings.KUE | {"LEASE": 1}
    leader.listen()
    (key,) = put_unheard()
    wait_for(lambda: leader.listen(0.1) or leader.keys, 5, "a job of which nobody heard")
    assert leader.keys == [key]


def put_unheard() -> list[str]:
    """A job whose bell is lost: some worker heard it, and died."""
    get_queue().pause()
    keys = [key_of(jobs.noop.enqueue())]
    redis_client().hdel("kue:{default}:h", "paused")
    return keys


# ── bells for jobs that there's no room for ──


@pytest.fixture
def room(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many jobs of each queue it has room for: ``default`` has jobs, and there's none for these."""
    one = {"default": 0, "other": 1}
    monkeypatch.setattr(leader._turns, "wants", lambda queue, now: one[queue.name])
    monkeypatch.setattr(leader._advance, "ask", lambda now: None)  # who is busy asks for nothing in advance
    jobs.noop.enqueue()
    return one


def hears(leader: Leader, seconds: float = LONG) -> list[str]:
    """The queues that rang, each of which is passed on."""
    leader.listen(seconds)
    rung = [queue.name for queue in leader._queues.values() if queue.is_woken]
    leader.tick()
    return rung


def test_who_has_no_room_hears_less_and_less_and_passes_it_on(leader: Leader, room: dict[str, int]) -> None:
    deaf = []
    for _ in range(9):
        while not hears(leader):
            pass
        deaf.append(leader._deaf_until - time.monotonic())
        assert redis_client().exists("kue:{default}:k"), "the bell is there for others"
    assert max(deaf[:3]) < 0.005 < deaf[-1] <= 0.05


def test_while_jobs_of_another_kind_come_it_is_deaf_for_moments_only(
    leader: Leader, room: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    leader._passes = 9
    with monkeypatch.context() as patch:
        patch.setattr(leader, "_tick", lambda: True)  # something was claimed
        assert leader._round(leader.crew.threads.slots[0])
    assert hears(leader) == ["default"]
    assert 0.008 < leader._deaf_until - time.monotonic() <= 0.016


def test_who_has_room_again_hears_at_once(leader: Leader, room: dict[str, int]) -> None:
    assert hears(leader) == ["default"]
    leader._deaf_until = time.monotonic() + 60
    assert hears(leader, 0.01) == []
    room["other"] = 2  # that isn't what rang
    assert hears(leader, 0.01) == []
    room["default"] = 1
    begun = time.monotonic()
    leader.listen(LONG)
    assert leader._queues["default"].is_woken
    assert time.monotonic() - begun < LONG / 2
