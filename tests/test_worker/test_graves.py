"""What becomes of the jobs of a process that died, done by hand: who's blamed, and what is said of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from django_kue import Job, metrics, signals
from django_kue.errors import JobCrashed, JobTimeout, StoreUnavailable
from django_kue.store import moves, new_link, send
from django_kue.worker import codes
from django_kue.worker.board import Board
from django_kue.worker.graves import Buried, Graves, _fate, grave_of
from django_kue.worker.supervisor import ORDERLY
from django_kue.worker.telling import emit_buried
from tests.app import abuse, jobs
from tests.conftest import redis_client
from tests.worker_process import counts, is_well


def test_what_a_dead_process_had_completed_is_told_under_its_own_lease_only() -> None:
    queue, owner = "email", moves.owner("dead/1")
    board = Board((queue,), 2)
    put = [jobs.add.using(queue=queue).enqueue(number) for number in range(2)]
    turn = send(moves.turn(queue, owner, want=2, sequence=7, batches={}))[0]
    earlier = turn.lease.replace(b"7|", b"6|", 1)
    board.note_end(queue, turn.keys[0], turn.lease, b"c1|3")
    board.note_end(queue, turn.keys[1], earlier, b"c1|4")
    board.set_held(queue, 2)
    link = new_link(2.0)
    graves = Graves(link)
    graves.dig(grave_of(owner, board, -9, late=None, is_killed=False))
    graves.bury()
    assert [(job.state, job.result) for job in (put[0].refresh(), put[1].refresh())] == [
        ("completed", 3), ("waiting", None),
    ]  # fmt: skip
    assert is_well(queue)
    link.close()
    board.close()


def test_the_dead_are_buried_where_that_can_be_and_elsewhere_later() -> None:
    """A node of a cluster is away: the jobs that are on others are handed back all the same."""
    board, owner = Board(("narrow", "email"), 2), moves.owner("dead/1")
    for queue in ("narrow", "email"):
        jobs.add.using(queue=queue).enqueue(1)
        send(moves.turn(queue, owner, want=1, sequence=1, batches={}))
        board.set_held(queue, 1)
    link = Partial(hanging="narrow")
    graves = Graves(link)
    graves.dig(grave_of(owner, board, -9, late=None, is_killed=False))
    graves.bury()
    assert [counts(queue) for queue in ("narrow", "email")] == [{"active": 1}, {"waiting": 1}]
    assert len(graves) == 1
    link.hanging = ""
    graves.bury()
    assert counts("narrow") == {"waiting": 1}
    assert len(graves) == 0
    board.close()


class Partial:
    """A link to a cluster; the node that has one of its queues is away."""

    def __init__(self, hanging: str) -> None:
        self.hanging = hanging

    def send(self, *calls: Any) -> list[Any]:
        if any(call.queue == self.hanging for call in calls):
            raise StoreUnavailable("a node is away", is_partial=True)
        return send(*calls)

    def try_send(self, *calls: Any) -> list[Any]:
        away = StoreUnavailable("a node is away", is_partial=True)
        return [away if call.queue == self.hanging else send(call)[0] for call in calls]


def test_a_queue_of_which_the_dead_knew_nothing_keeps_no_grave_open() -> None:
    """Else a worker couldn't end while that queue's node is away."""
    board, owner = Board(("narrow", "email"), 2), moves.owner("dead/1")
    jobs.add.using(queue="email").enqueue(1)
    send(moves.turn("email", owner, want=1, sequence=1, batches={}))
    graves = Graves(Partial(hanging="narrow"))
    graves.dig(grave_of(owner, board, -9, late=None, is_killed=False))
    graves.bury()
    assert counts("email") == {"waiting": 1}
    assert len(graves) == 0
    board.close()


def test_nor_does_it_when_redis_is_away_as_a_whole() -> None:
    board = Board(("email",), 2)
    graves = Graves(Away())
    graves.dig(grave_of(moves.owner("dead/1"), board, -9, late=None, is_killed=False))
    graves.bury()
    assert len(graves) == 0
    board.close()


class Away:
    """A link to nobody."""

    def try_send(self, *calls: Any) -> list[Any]:
        raise StoreUnavailable("nobody answers")


def test_a_process_whose_own_loop_broke_blames_none_of_its_jobs() -> None:
    board = Board(("email",), 2)
    board.set_held("email", 1)
    board.begin(0, "email", b"A" * 22, time.monotonic(), 0.0, 0)
    grave = grave_of(moves.owner("dead/1"), board, codes.BROKEN, late=None, is_killed=False)
    [outcome] = grave.queues["email"].values()
    assert outcome.startswith(b"lstalled|")
    assert codes.BROKEN not in ORDERLY, "so that one after the other has to wait"
    board.close()


def test_what_becomes_of_a_job_after_it_was_taken_from_the_dead_is_for_others_to_tell() -> None:
    """Two processes died of it, and the second's supervisor was quicker: only that one tells of the end."""
    queue, job = "email", jobs.noop.using(queue="email").enqueue()

    def crash_once_more() -> None:
        owner = moves.owner("other/1")
        [key] = send(moves.turn(queue, owner, want=1, sequence=2, batches={}))[0].keys
        assert send(moves.bury(queue, owner, {key: b"d1|{}"}))[0].failed == [key]

    def graves_of(crash: bool) -> list[Buried]:
        owner, board = moves.owner("dead/1"), Board((queue,), 2)
        [key] = send(moves.turn(queue, owner, want=1, sequence=1, batches={}))[0].keys
        board.set_held(queue, 1)
        board.begin(0, queue, key, time.monotonic(), 0.0, 0)
        graves = Graves(Meddled(crash_once_more if crash else lambda: None))
        graves.dig(grave_of(owner, board, -9, late=None, is_killed=False))
        graves.bury()
        board.close()
        return graves.untold

    signals.job_failed.connect(ignore)
    try:
        assert graves_of(False) == graves_of(True) == [Buried(job.id, "stalled")]
    finally:
        signals.job_failed.disconnect(ignore)
    assert job.refresh().state == "failed"


def dead_with(
    *runs: tuple[str, int],
    late: str = "",
    before: Callable[[], object] = lambda: None,
    link: Any = None,
) -> Graves:
    """What a process left that died with runs of these jobs, of which so many deaths were known."""
    queue, owner = "email", moves.owner("dead/1")
    board = Board((queue,), 1 + len(runs))
    send(moves.turn(queue, owner, want=len(runs), sequence=1, batches={}))
    before()
    board.set_held(queue, len(runs))
    for slot, (job_id, suspicion) in enumerate(runs):
        board.begin(slot, queue, job_id.partition(".")[2].encode(), time.monotonic(), 0.0, suspicion)
    busy = next((one for one in board.busy() if one.job_id == late), None)
    graves = Graves(link or new_link(2.0))
    graves.dig(grave_of(owner, board, -9, late=busy, is_killed=False))
    graves.bury()
    board.close()
    return graves


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines about jobs, each without what's the same in all."""
    caplog.set_level("INFO", "django_kue.worker")

    def lines() -> list[str]:
        told = [record for record in caplog.records if hasattr(record, "job_id")]
        return [f"{record.levelname} {record.getMessage()}".replace("tests.app.", "") for record in told]

    return lines


def ids_of(*definitions: Any) -> list[str]:
    return [one.using(queue="email").enqueue("name").id for one in definitions]


def test_of_several_that_ran_none_is_blamed_and_each_is_named(said: Callable[[], list[str]]) -> None:
    one, other = ids_of(abuse.fail_and_mark, abuse.die)
    dead_with((one, 0), (other, 0))
    assert [[run.outcome for run in Job.get(job_id).runs()] for job_id in (one, other)] == [["stalled"]] * 2
    why = ": its process died, and it wasn't the only job running; it runs again"
    assert sorted(said()) == sorted(
        [f"WARNING suspect   abuse.fail_and_mark {one}{why}", f"WARNING suspect   abuse.die {other}{why}"]
    )


def test_beside_a_culprit_the_others_are_named_too(said: Callable[[], list[str]]) -> None:
    one, other = ids_of(abuse.fail_and_mark, abuse.die)
    dead_with((one, 0), (other, 2))
    died, because = (
        "JobCrashed: its process died: killed by SIGKILL",
        "its process ended, through no fault of its own",
    )
    assert sorted(said()) == [
        f"WARNING crashed   abuse.die {other} crash 1/3: {died}; it runs again",
        f"WARNING stalled   abuse.fail_and_mark {one}: {because}; it runs again",
    ]
    assert [[run.outcome for run in Job.get(job_id).runs()] for job_id in (one, other)] == [
        ["stalled"], ["crashed"],
    ]  # fmt: skip


def test_a_run_that_took_its_process_with_it_is_measured_for_its_function_too() -> None:
    crashed, late = ids_of(abuse.die, abuse.swallow)
    dead_with((crashed, 0), (late, 0), late=late)
    of_queue = metrics.totals(["email"])["email"]
    assert of_queue.runs.outcomes["retried"] == 1
    assert of_queue.functions[abuse.swallow.name].outcomes["retried"] == 1
    assert abuse.die.name not in of_queue.functions, "it goes on elsewhere"


def test_a_run_whose_end_is_noted_is_not_blamed_though_its_slot_is_still_taken() -> None:
    queue, owner, board = "email", moves.owner("dead/1"), Board(("email",), 2)
    done, culprit = (
        abuse.fail_and_mark.using(queue=queue).enqueue("name"),
        abuse.die.using(queue=queue).enqueue("name"),
    )
    turn = send(moves.turn(queue, owner, want=2, sequence=1, batches={}))[0]
    board.set_held(queue, 2)
    for slot, key in enumerate(turn.keys):
        board.begin(slot, queue, key, time.monotonic(), 0.0, 0)
    board.note_end(queue, turn.keys[0], turn.lease, b"c1|3")
    link = new_link(2.0)
    graves = Graves(link)
    graves.dig(grave_of(owner, board, -9, late=None, is_killed=False))
    graves.bury()
    assert [(job.state, job.crashes) for job in (done.refresh(), culprit.refresh())] == [
        ("completed", 0), ("waiting", 1),
    ]  # fmt: skip
    link.close()
    board.close()


def test_a_run_that_is_found_twice_is_one_culprit() -> None:
    """Its slot wasn't free yet when it was put into another one, for the blame."""
    board, key = Board(("email",), 3), b"A" * 22
    board.set_held("email", 1)
    board.begin(0, "email", key, time.monotonic(), 0.0, 0)
    board.blame([("email", key, time.monotonic(), 0)])
    assert len(list(board.busy())) == 2
    grave = grave_of(moves.owner("dead/1"), board, codes.GUTTED, late=None, is_killed=False)
    assert grave.queues["email"][key].startswith(b"d")
    board.close()


def test_a_job_that_fails_with_its_process_is_named_as_failed(said: Callable[[], list[str]]) -> None:
    heard: list[Any] = []

    def hear(exception: Any, **kwargs: Any) -> None:
        heard.append(exception)

    signals.job_failed.connect(hear)
    try:
        (job_id,) = ids_of(abuse.die)
        for _ in range(3):
            graves = dead_with((job_id, 0))
        for one in graves.untold:
            emit_buried(one.job_id, one.signal, one.delay)
        late = jobs.stubborn.using(queue="email", attempts=1).enqueue("name").id
        graves = dead_with((late, 0), late=late)
        for one in graves.untold:
            emit_buried(one.job_id, one.signal, one.delay)
    finally:
        signals.job_failed.disconnect(hear)
    died = "its process died: killed by SIGKILL"
    timed_out = "it ran longer than its timeout of 0.5 s, and its process was ended"
    assert said()[2:] == [
        f"ERROR FAILED    abuse.die {job_id}: JobCrashed: {died}",
        f"ERROR FAILED    jobs.stubborn {late}: JobTimeout: {timed_out}",
    ]
    assert [(type(one), str(one)) for one in heard] == [(JobCrashed, died), (JobTimeout, timed_out)]
    error = Job.get(job_id).error
    assert error is not None
    assert error.traceback == "", "which would only say the same again"


def test_a_job_that_is_tried_again_after_its_process_was_ended_is_named(
    said: Callable[[], list[str]],
) -> None:
    job_id = jobs.stubborn.using(queue="email", attempts=2, backoff=30).enqueue("name").id
    dead_with((job_id, 0), late=job_id)
    timed_out = "it ran longer than its timeout of 0.5 s, and its process was ended"
    assert said() == [f"WARNING retry     jobs.stubborn {job_id} in 30 s: JobTimeout: {timed_out}"]


def test_a_job_that_was_asked_to_stop_is_named(said: Callable[[], list[str]]) -> None:
    job = jobs.noop.using(queue="email", keep=60).enqueue()
    dead_with((job.id, 0), before=lambda: job.cancel())
    assert said() == [f"INFO cancelled jobs.noop {job.id}"]


def test_beside_a_job_that_did_not_stop_at_its_timeout_the_others_are_named(
    said: Callable[[], list[str]],
) -> None:
    late, other = ids_of(jobs.stubborn.using(attempts=1), abuse.die)
    signals.job_stalled.connect(ignore)
    try:
        graves = dead_with((late, 0), (other, 0), late=late)
    finally:
        signals.job_stalled.disconnect(ignore)
    assert {*graves.untold} == {Buried(late, "failed"), Buried(other, "stalled")}
    failed, stalled = sorted(said())
    assert failed.startswith(f"ERROR FAILED    jobs.stubborn {late}: JobTimeout: it ran longer")
    assert stalled == (
        f"WARNING stalled   abuse.die {other}: its process ended, through no fault of its own; it runs again"
    )


def test_what_became_of_a_job_is_said_though_its_record_cant_be_read(said: Callable[[], list[str]]) -> None:
    (job_id,) = ids_of(abuse.die)
    dead_with((job_id, 0), link=Deaf("lights"))
    died = "JobCrashed: its process died: killed by SIGKILL"
    assert said() == [f"WARNING crashed   ? {job_id}: {died}; it runs again"]


def test_of_a_worker_that_died_as_a_whole_those_are_named_that_failed_of_it(
    said: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    keys = [job_id.partition(".")[2].encode() for job_id in ids_of(abuse.die, abuse.fail_and_mark)]
    link = new_link(2.0)
    Graves(link).say_rescued("email", moves.Rescue(keys, keys[1:], is_first=0))
    link.close()
    died = "JobCrashed: the worker that ran it died"
    assert said() == [f"ERROR FAILED    abuse.fail_and_mark email.{keys[1].decode()}: {died}"]
    assert "email: 2 jobs taken back from a worker that died" in caplog.text


def test_a_job_that_still_ran_when_its_process_had_to_stop_is_named_and_blamed_of_nothing(
    said: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    queue, owner, board = "email", moves.owner("stopped/1"), Board(("email",), 2)
    running, cancelled, unstarted = ids_of(abuse.fail_and_mark, abuse.die, abuse.die)
    turn = send(moves.turn(queue, owner, want=3, sequence=1, batches={}))[0]
    board.set_held(queue, 3)
    for slot in range(2):
        board.begin(slot, queue, turn.keys[slot], time.monotonic(), 0.0, 0)
    Job.get(cancelled).cancel()
    link = new_link(2.0)
    graves = Graves(link)
    graves.dig(grave_of(owner, board, -9, late=None, is_killed=True))
    graves.bury()
    why = ": it was still running when its process had to stop; it runs again"
    assert sorted(said()) == [
        f"INFO cancelled abuse.die {cancelled}", f"WARNING given back abuse.fail_and_mark {running}{why}",
    ]  # fmt: skip
    [run] = Job.get(running).runs()
    assert (run.attempt, run.outcome, run.worker, run.error) == (1, "stopped", "stopped/1", None)
    assert run.started_at is not None
    assert Job.get(unstarted).runs() == []
    assert "email: 1 job of a process that had to stop handed back" in caplog.text
    assert [(job.state, job.crashes) for job in map(Job.get, (running, unstarted))] == [("waiting", 0)] * 2
    link.close()
    board.close()


def test_a_job_that_is_gone_is_not_said_to_run_again(said: Callable[[], list[str]]) -> None:
    (job_id,) = ids_of(abuse.die)
    dead_with((job_id, 0), link=Meddled(lambda: Job.get(job_id).remove()))
    assert said()[0].endswith("killed by SIGKILL; it's gone")


@pytest.mark.parametrize("record", [b"", b"x", b"\xff|\xff\n|", b"c9x|name|", b"c" * 99])
def test_whatever_stands_in_a_record_the_supervisor_can_say_it(
    record: bytes, said: Callable[[], list[str]]
) -> None:
    (job_id,) = ids_of(abuse.die)
    key = job_id.partition(".")[2]
    dead_with((job_id, 0), link=Meddled(lambda: redis_client().hset("kue:{email}:d", key, record)))
    [line] = said()
    assert "crashed" in line
    assert "\n" not in line
    redis_client().hdel("kue:{email}:d", key)


def test_a_job_that_cant_be_run_here_is_said_to_be_left() -> None:
    burial = moves.Burial([], [b"key"], [], [])
    assert _fate("email", b"key", b"k100", burial, b"|a.b|") == (30, "given back", ": it's left in its queue")


class Deaf:
    """A link on which one script isn't answered."""

    def __init__(self, name: str) -> None:
        self._name = name

    def send(self, call: Any) -> list[Any]:
        if call.script.name == self._name:
            raise StoreUnavailable("nobody answers")
        return send(call)


class Meddled:
    """A link; right after a burial something else happens."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def send(self, call: Any) -> list[Any]:
        reply = send(call)
        if call.script.name == "bury":
            self._then()
        return reply


def ignore(**kwargs: Any) -> None: ...
