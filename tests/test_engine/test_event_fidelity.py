"""Events say what happened, to those whom it concerns, and what can't be read is nobody else's loss."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.dispatch import Signal

from django_kue import JobDoesNotExist, JobFailed, events, signals
from django_kue.codecs import ModelReference
from django_kue.events import Event, listen, send_as_signals
from django_kue.queue import Queue
from django_kue.signals import queue_paused
from django_kue.states import State
from django_kue.store import new_doorbell
from django_kue.store.blocking import Subscription
from tests.conftest import redis_client
from tests.test_engine.hands import (
    Hands,
    completed,
    crashed,
    error_text,
    job_of,
    put,
    put_one,
    retried,
    wait_until,
)

QUEUE = Queue("default")
CHANNEL = "kue:{default}:ev"


def publish(*items: Any) -> None:
    redis_client().publish(CHANNEL, json.dumps(["1700000000000", items]))


def are_listening(many: int = 1) -> bool:
    return bool(redis_client().pubsub_numsub(CHANNEL)[0][1] >= many)


@contextmanager
def once_heard(act: Callable[[], Any]) -> Iterator[None]:
    """Do something as soon as the test listens."""

    def wait_and_act() -> None:
        wait_until(are_listening)
        time.sleep(0.1)
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)


@contextmanager
def chatter() -> Iterator[None]:
    """Another job's events, one every 50 ms."""
    over = threading.Event()

    def talk() -> None:
        while not over.wait(0.05):
            publish(["progressed", put_key, "tests.noop", "[1,null]"])

    put_key = put_one(priority=-5)
    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def heard(count: int, act: Callable[[], Any]) -> list[Event]:
    told = listen("default")
    with once_heard(act):
        first = [next(told) for _ in range(count)]
    told.close()  # type: ignore[attr-defined]
    return first


# ── results ──


def test_a_neighbours_result_is_not_read_and_its_model_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    fetched: list[Any] = []
    monkeypatch.setattr(ModelReference, "fetch", lambda self: fetched.append(self))

    theirs = ["completed", put_one(), "tests.noop", reference()]

    def act() -> None:
        publish(theirs)
        hands.settle(key, completed("mine"))

    with once_heard(act):
        assert job_of(key).wait(timeout=5) == "mine"
    assert fetched == []


def reference() -> str:
    from django.contrib.auth.models import User

    from django_kue import codecs

    user = User(pk=17)
    user._state.adding, user._state.db = False, "default"
    return codecs.dumps(user).decode()


def test_a_listener_gets_a_reference_to_a_model() -> None:
    key = put_one()
    item = ["completed", key, "tests.noop", reference()]
    [event] = heard(1, lambda: publish(item))
    result = event.data["result"]
    assert isinstance(result, ModelReference)
    assert (result.label, result.pk) == ("auth.user", 17)


UNREADABLE = [
    ["completed", "AY3w8kR2Sx6mTn0pQv4zWg", "tests.noop", "{"],
    ["completed", "AY3w8kR2Sx6mTn0pQv4zWg", "tests.noop", '{"$future":1}'],
    ["retrying", "AY3w8kR2Sx6mTn0pQv4zWg", "tests.noop", "[]"],
    ["progressed", "AY3w8kR2Sx6mTn0pQv4zWg", "tests.noop", "7"],
    ["invented", "AY3w8kR2Sx6mTn0pQv4zWg", "tests.noop", ""],
    ["completed", "no key", "tests.noop", ""],
    ["completed", "AY3w8kR2Sx6mTn0pQv4zWg", "tests.noop", 5],
    ["completed"],
    None,
    17,
]


@pytest.mark.parametrize("item", UNREADABLE)
def test_an_item_that_cannot_be_read_is_left_out_alone(item: Any) -> None:
    key = put_one()
    good = ["progressed", key, "tests.noop", "[7,null]"]
    told = heard(2, lambda: publish(good, item, good))
    assert [(event.name, event.data["progress"]) for event in told] == [("progressed", 7), ("progressed", 7)]


@pytest.mark.parametrize("item", UNREADABLE)
def test_nor_does_it_keep_a_waiter_from_the_item_beside_it(item: Any) -> None:
    key = put_one()
    with once_heard(lambda: publish(item, ["completed", key, "tests.noop", '"here"'], item)):
        assert job_of(key).wait(timeout=2) == "here"


# ── traffic ──


def test_a_job_that_was_emptied_away_ends_the_wait_whatever_the_traffic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "RENEW", 0.5)
    job = job_of(put_one())
    with chatter(), once_heard(lambda: QUEUE.empty()):
        begun = time.monotonic()
        with pytest.raises(JobDoesNotExist):
            job.wait(timeout=20)
    assert time.monotonic() - begun < 5


async def test_so_it_does_for_who_awaits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RENEW", 0.5)
    job = job_of(put_one())
    with chatter(), once_heard(lambda: QUEUE.empty()), pytest.raises(JobDoesNotExist):
        await job.await_result(timeout=20)


def test_messages_come_for_so_long_however_many_come() -> None:
    subscription = Subscription(["default"])
    with chatter():
        begun = time.monotonic()
        got = list(subscription.messages(0.5))
    subscription.close()
    assert len(got) > 2
    assert 0.4 < time.monotonic() - begun < 2


def test_messages_that_have_come_are_given_without_waiting() -> None:
    subscription = Subscription(["default"])
    publish()
    publish()
    for _ in range(2):
        wait_until(lambda: subscription._connection.can_read(0.1))  # the second may come a moment later
        assert [queue for queue, _ in subscription.messages(0)] == ["default"]
    assert list(subscription.messages(0)) == []
    subscription.close()


# ── states and data ──


def test_a_delayed_job_is_told_as_delayed() -> None:
    [delayed, waiting] = heard(
        2,
        lambda: publish(
            ["enqueued", "AY3w8kR2Sx6mTn0pQv4zWg", "tests.noop", "d"],
            ["enqueued", "AY3w8kR2Sx6mTn0pQv4zWg", "tests.noop", ""],
        ),
    )
    assert delayed.job
    assert waiting.job
    assert (delayed.job.state, delayed.data) == (State.DELAYED, {})
    assert (waiting.job.state, waiting.data) == (State.WAITING, {})


def test_a_retry_at_once_is_told_as_waiting_and_a_later_one_as_delayed() -> None:
    hands = Hands()
    one, two = put(count=2)
    hands.take(2)
    told = heard(2, lambda: [hands.settle(one, retried(0)), hands.settle(two, retried(5000))])
    assert [event.job.state for event in told if event.job] == [State.WAITING, State.DELAYED]


def test_a_removed_job_is_told_as_one_that_will_not_run() -> None:
    key = put_one()
    [event] = heard(1, lambda: job_of(key).remove())
    assert event.job
    assert (event.name, event.job.is_finished) == ("removed", True)


def test_a_job_that_expired_says_so_alike_to_who_listens_and_who_reads() -> None:
    key = put_one(expires=1)
    time.sleep(0.02)
    told = heard(1, lambda: Hands().take(1))
    stored = job_of(key).error
    assert stored is not None
    assert told[0].data["error"].message == stored.message == "not started in time"


def test_who_waits_for_a_job_that_expires_is_told_why() -> None:
    key = put_one(expires=300)

    def act() -> None:
        time.sleep(0.4)
        Hands().take(1)

    with once_heard(act), pytest.raises(JobFailed, match="not started in time"):
        job_of(key).wait(timeout=10)


def test_after_a_retry_by_hand_the_old_runs_error_is_gone_from_the_job_but_not_from_its_runs() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    hands.settle(key, b"f|1|" + error_text("old"))
    job_of(key).retry()
    again = job_of(key)
    assert (again.state, again.attempts_made, again.error) == (State.WAITING, 0, None)
    assert [run.error.message for run in again.runs() if run.error] == ["old"]
    hands.take_one()
    assert job_of(key).error is None


def test_between_two_attempts_and_after_a_crash_the_last_error_is_shown() -> None:
    retrying, victim = put(count=2)
    hands = Hands()
    hands.take(2)
    hands.settle(retrying, retried(0, "again"))
    error = job_of(retrying).error
    assert error is not None
    assert error.message == "again"
    hands.bury({victim: crashed("killed by SIGKILL")})
    error = job_of(victim).error
    assert error is not None
    assert error.message == "killed by SIGKILL"


# ── signals ──


def test_a_queues_signal_has_a_queue_where_it_happens_and_elsewhere() -> None:
    got: list[Any] = []

    def paused(queue: Any, **kwargs: Any) -> None:
        got.append(queue)

    queue_paused.connect(paused)
    try:
        [event] = heard(1, lambda: QUEUE.pause())
        send_as_signals(event)
    finally:
        queue_paused.disconnect(paused)
    assert got == [QUEUE, QUEUE]


def test_a_receiver_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    signal = Signal()

    def broken(**kwargs: Any) -> None:
        raise ValueError("no paper")

    signal.connect(broken)
    with caplog.at_level(logging.DEBUG):
        signals.emit(signal, None)
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert "no paper" in caplog.text


# ── descriptors ──


def test_a_worker_with_more_than_a_thousand_open_files_still_waits() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip("this system allows no such descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1200, hard))
    read, write = os.pipe()
    high = fcntl.fcntl(read, fcntl.F_DUPFD_CLOEXEC, 1100)
    bell = new_doorbell(["default"])
    try:
        assert bell.wait(0.01, high) == []
        os.write(write, b"x")
        begun = time.monotonic()
        assert bell.wait(5, high) == []
        assert time.monotonic() - begun < 2
    finally:
        bell.close()
        for descriptor in (read, write, high):
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_mistake_in_a_call_is_not_called_an_outage() -> None:
    bell = new_doorbell(["default"])
    try:
        with pytest.raises(ValueError, match="negative"):
            bell.wait(0.01, -1)
    finally:
        bell.close()
