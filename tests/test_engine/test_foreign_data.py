"""Foreign or corrupt data under our keys: shown as far as they can be read, and never in the way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from django_kue import Job, job
from django_kue.errors import KueError, StoreError
from django_kue.queue import Queue
from django_kue.states import State
from django_kue.store import ask, moves, reads
from django_kue.workers import workers
from tests.conftest import redis_client
from tests.test_engine.hands import Hands, completed, failed, job_of, put, put_one, rescue

pytestmark = pytest.mark.foreign_data
QUEUE = Queue("default")
PREFIX = "kue:{default}:"

RECORDS = {
    "nothing": b"",
    "text": b"hello",
    "one bar": b"|x",
    "bars": b"||||||",
    "binary": bytes(range(256)),
    "binary name": b"|\xff\xfe|",
    "wrong priority": b"pX|tests.noop|",
    "huge priority": b"p9999999999999999999999|tests.noop|",
    "wrong numbers": b"mX,cY,dZ,s!|tests.noop|",
    "huge date": b"d99999999999999999999|tests.noop|",
    "empty tokens": b",,|tests.noop|",
    "wrong length": b"o999|tests.noop|{}",
    "negative length": b"o-5|tests.noop|{}",
    "options that are a list": b"o2|tests.noop|[]",
    "options that are a number": b"o1|tests.noop|7",
    "attempts that are a list": b'o15|tests.noop|{"attempts":[]}',
    "attempts that are nothing": b'o17|tests.noop|{"attempts":null}',
    "half of JSON": b'o8|tests.noop|{"attemp',
    "half of the arguments": b'|tests.noop|[1, {"a"',
    "arguments that are a number": b"|tests.noop|17",
    "a newer version": b"v9|tests.noop|[1]",
    "JSON constants": b"|tests.noop|[NaN]",
    "deep JSON": b"|tests.noop|" + b"[" * 5_000 + b"]" * 5_000,
    "wrong unique": b"u|tests.noop|",
    "wrong search": b"k++|tests.noop|",
    "wrong deadline": b"eX|tests.noop|",
    "a format": b"|%s%n%d|%1$s",
    "a pattern": b"p%(|%w+|%b()",
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_corrupt_record_is_shown_and_stops_nobody(record: bytes) -> None:
    before, key, after = put(count=3)
    redis_client().hset(PREFIX + "d", key, record)
    pages = QUEUE.jobs("waiting")
    assert before in {job.key for job in pages}
    for one in pages:
        assert str(one)
        assert isinstance(one.title, str)
    assert QUEUE.oldest_waiting() is not None
    hands = Hands()
    order: list[str] = []
    for _ in range(5):
        order += hands.take(1)
    assert before in order
    assert after in order
    for taken in order:
        job_of(taken)
        hands.settle(taken, failed() if taken == key else completed())
    assert QUEUE.counts()["completed"] == 2
    for one in QUEUE.jobs("failed"):
        assert one.state is State.FAILED
        assert str(one)


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_every_verb_answers_to_a_corrupt_record(record: bytes) -> None:
    for verb in ("cancel", "remove", "set_priority", "promote"):
        key = put_one()
        handle = job_of(key)
        redis_client().hset(PREFIX + "d", key, record)
        told = _told(partial(handle.set_priority, 3) if verb == "set_priority" else getattr(handle, verb))
        assert told is None or isinstance(told, KueError)


def _told(call: Callable[[], Any]) -> KueError | None:
    """The error of ours that a call raises, if it raises one. Others are bugs."""
    try:
        call()
    except KueError as error:
        return error
    return None


OUTCOMES = [
    b"",
    b"hello",
    b"c",
    b"c|x|y|z|w",
    b"c|1|||{",
    b"f|1|1|w|not JSON",
    b"f|1|1|w|[]",
    b'f|1|1|w|{"type":1}',
    b"f|1|1|w|" + b"[" * 100_000,
    b"\xff|\xfe|||",
    b"c|99999999999999999999|||",
]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: repr(outcome[:20]))
def test_a_corrupt_outcome_is_shown(outcome: bytes) -> None:
    key = put_one()
    hands = Hands()
    hands.settle(hands.take_one(), completed(1))
    redis_client().hset(PREFIX + "o", key, outcome)
    [shown] = QUEUE.jobs("completed")
    assert shown.key == key
    assert str(shown)
    assert shown.error is None or str(shown.error)


PROGRESS = [
    b"",
    b"x",
    b"[]",
    b"[1]",
    b"{}",
    b"[1,2,3]",
    b'["half"',
    b"7",
    b"\xff",
    b'["x",1]',
    b"[null,1]",
    b"[true,1]",
    b"[NaN,1]",
    b"[1e999,1]",
    b"[" * 100_000,
]


@pytest.mark.parametrize("progress", PROGRESS, ids=lambda progress: repr(progress[:10]))
def test_corrupt_progress_is_left_out(progress: bytes) -> None:
    key = put_one()
    redis_client().hset(PREFIX + "pr", key, progress)
    assert (job_of(key).progress, job_of(key).state) == (0, State.WAITING)


@pytest.mark.parametrize(
    "lease", [b"", b"x", b"1|x|w1", b"||", b"1|99999999999999999999|w", b"\xff|\xfe|\xfd"]
)
def test_a_corrupt_lease_is_shown_and_can_be_removed(lease: bytes) -> None:
    key = put_one()
    Hands().take_one()
    redis_client().hset(PREFIX + "a", key, lease)
    [shown] = QUEUE.jobs("active")
    assert shown.state is State.ACTIVE
    assert rescue() == []
    shown.remove()
    assert sum(QUEUE.counts().values()) == 0


@pytest.mark.parametrize("line", [b"", b"x", b"x|y|z", b"retried|x|1|0|w|{}", b"\xff" * 9])
def test_a_corrupt_run_or_log_line_does_not_hide_the_job_or_the_other_lines(line: bytes) -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    hands.report(key, "l", b"good")
    redis_client().rpush(PREFIX + "r:" + key, line)
    redis_client().rpush(PREFIX + "l:" + key, line)
    shown = job_of(key)
    assert shown.state is State.ACTIVE
    assert "good" in [log.text for log in shown.logs()]
    assert isinstance(shown.runs(), list)


def test_a_foreign_key_in_our_hashes_is_shown_and_can_be_claimed_and_cleaned() -> None:
    redis = redis_client()
    for name in (b"short", b"\xff\xfe binary", b"", b"x" * 500):
        redis.hset(PREFIX + "d", name, b"|tests.noop|")
        redis.zadd(PREFIX + "f", {name: 1})
    shown = QUEUE.jobs("failed")
    assert len(shown) == 4
    assert all(str(job) for job in shown)
    assert QUEUE.clean("failed") == 4


def test_a_waiting_entry_without_a_record_is_passed_by() -> None:
    redis_client().rpush(PREFIX + "w:0", b"nobody", b"nobody~7", b"\xff~~")
    redis_client().zadd(PREFIX + "p", {"0": 0})
    key = put_one()
    assert Hands().take(5) == [key]
    assert [job.key for job in QUEUE.jobs("active")] == [key]


def test_a_place_without_a_record_is_not_listed_and_is_dropped_when_it_is_due() -> None:
    redis_client().zadd(PREFIX + "z", {"nobody": 1})
    redis_client().zadd(PREFIX + "c", {"nobody": 1})
    assert QUEUE.jobs("delayed") == QUEUE.jobs("completed") == []
    assert Hands().take(5) == []
    assert QUEUE.counts()["delayed"] == 0


def test_queues_whose_names_are_none_of_ours_are_left_out() -> None:
    put_one("email")
    redis_client().sadd("{kue}:queues", b"\xff\xfe", b"", b"a b", b"x" * 41, "größe", b"a\n")
    assert ask(reads.registry()).queues == ["email"]


def test_a_worker_with_a_foreign_name_is_listed() -> None:
    redis_client().hset("{kue}:workers", b"\xff", b"{}")
    redis_client().zadd("{kue}:pulses", {b"\xff": 1})
    [worker] = workers()
    assert (worker.id, worker.state) == ("\\xff", "lost")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"7",
        b"[" * 100_000,
        b'{"started_at":1e999}',
        b'{"started_at":1e300}',
        b'{"pid":1e999}',
        b'{"memory":-1e999}',
        b'{"memory":1' + b"0" * 400 + b"}",
        b'{"pid":1e300}',
        b'{"processes":[{"done":1e999}]}',
    ],
    ids=lambda said: repr(said[:40]),
)
def test_a_worker_that_says_rubbish_is_listed(said: bytes) -> None:
    ask(moves.announce("w1", said))
    [worker] = workers()
    assert (worker.id, worker.pid, worker.started_at) == ("w1", 0, None)


@pytest.mark.parametrize("pulse", ["1e300", "inf", "-inf"])
def test_a_worker_that_was_heard_of_at_an_impossible_time_is_listed(pulse: str) -> None:
    ask(moves.announce("w1", b"{}"))
    redis_client().zadd("{kue}:pulses", {"w1": pulse})
    assert [worker.id for worker in workers()] == ["w1"]


CALLS: dict[str, Callable[[], Any]] = {
    "counts": QUEUE.counts,
    "jobs": lambda: QUEUE.jobs("waiting"),
    "enqueue": put_one,
    "turn": lambda: Hands().take(1),
}


@pytest.mark.parametrize("suffix", ["d", "w:0", "p", "a", "z", "c", "h"])
def test_a_key_of_a_wrong_type_is_a_clear_error_and_no_retry(suffix: str) -> None:
    for make in ("set", "rpush"):
        redis_client().flushall()
        put_one()
        redis_client().delete(PREFIX + suffix)
        getattr(redis_client(), make)(PREFIX + suffix, "foreign")
        for call in CALLS.values():
            told = _told(call)
            assert told is None or "WRONGTYPE" in str(told)
            assert told is None or isinstance(told, StoreError) or "not enqueued" in str(told)


def test_a_wrong_type_is_told_as_what_it_is() -> None:
    redis_client().set(PREFIX + "d", "foreign")
    redis_client().rpush(PREFIX + "w:0", "x")
    redis_client().zadd(PREFIX + "p", {"0": 0})
    with pytest.raises(StoreError, match=r"Redis refused a call: .*WRONGTYPE"):
        QUEUE.jobs("waiting")


@job(name="foreign.titled", title="Order {order_id}")
def titled(order_id: int) -> None: ...


def test_a_title_whose_arguments_do_not_fit_any_more_falls_back_to_the_name() -> None:
    handle = titled.enqueue(17)
    for arguments in (b"[]", b"[1,2,3]", b'{"k":{"other":1}}', b"{", b"17"):
        redis_client().hset(PREFIX + "d", handle.key, b"|foreign.titled|" + arguments)
        assert Job.get(handle.id).title == "foreign.titled"
