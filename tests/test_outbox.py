"""The outbox: a job is written in the user's transaction, sent after the commit, or else relayed."""

from __future__ import annotations

import asyncio
import logging
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.db.models import JSONField, Value
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kue import Job, JobDoesNotExist, codecs, commits, get_queue, outbox, registry, signals
from django_kue.audit import audit
from django_kue.errors import EnqueueError
from django_kue.models import Outbox, UtcNow
from django_kue.options import DECORATOR, USING, read
from django_kue.records import NewerRecord, NewJob, OutboxJob, UnreadableRecord
from django_kue.worker.relaying import Relay
from tests.app import jobs as app_jobs
from tests.conftest import NOBODY, redis_client
from tests.test_engine.hands import Hands, completed, failed

committed = pytest.mark.django_db(transaction=True)
boxed = app_jobs.add.using(outbox=True)
QUEUE = get_queue("default")


@contextmanager
def redis_away() -> Iterator[None]:
    """Nobody listens where the settings say Redis is."""
    nowhere = NOBODY
    with override_settings(KUE={"REDIS": nowhere, "ENQUEUE_TIMEOUT": 0.3, "OUTBOX": True}):
        yield


def waiting(queue: str = "default") -> list[str]:
    """The ids of the jobs that wait, in their order."""
    page = partial(get_queue(queue).jobs, "waiting", limit=1000, newest_first=False)
    return [job.id for at in (0, 1000, 2000) for job in page(offset=at)]


def left(alias: str = "default") -> list[str]:
    """The ids of the jobs in the outbox, in their order."""
    return [str(row) for row in Outbox.objects.using(alias)]


def left_behind(definition: Any = boxed, *calls: tuple[Any, ...], alias: str = "default") -> list[Job]:
    """Jobs whose process died right after the commit, a while ago."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "deliver", lambda *args: None)
        with transaction.atomic(using=alias):
            jobs = definition.enqueue_many(calls or [(1,)])
    grown_old(alias=alias)
    return jobs


def grown_old(seconds: float = 10, alias: str = "default") -> None:
    Outbox.objects.using(alias).update(created_at=UtcNow() - timedelta(seconds=seconds))


def cut_off(alias: str, error: type[Exception], patch: pytest.MonkeyPatch) -> None:
    """Nobody gets to a database any more."""

    def gone(*args: object) -> None:
        raise error("gone")

    connections[alias].close()
    patch.setattr(connections[alias], "connect", gone)


@contextmanager
def assert_queries(count: int, alias: str) -> Iterator[None]:
    with CaptureQueriesContext(connections[alias]) as captured:
        yield
    assert len(captured) == count


# ── what's used ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("project", "queue", "decorator", "call", "expected"),
    [
        (False, None, {}, {}, None),
        (True, None, {}, {}, "default"),
        (True, False, {}, {}, None),
        (False, True, {}, {}, "default"),
        (True, True, {"outbox": False}, {}, None),
        (False, False, {"outbox": True}, {}, "default"),
        (True, True, {"outbox": True}, {"outbox": False}, None),
        (False, None, {"outbox": False}, {"outbox": True}, "default"),
        (True, None, {"on_commit": False}, {}, None),
        (True, None, {"outbox": True}, {"on_commit": False}, None),
        (False, None, {"on_commit": False}, {"outbox": True}, "default"),
        (True, None, {"on_commit": "other"}, {}, "other"),
        (False, None, {"outbox": "other"}, {}, "other"),
        ("default", None, {"on_commit": "other"}, {}, "other"),
        (False, None, {"outbox": True}, {"on_commit": "other"}, "other"),
        (False, None, {"on_commit": "other"}, {"outbox": True}, "other"),
    ],
)
def test_the_call_beats_the_decorator_beats_the_queue_beats_the_project(
    project: Any, queue: Any, decorator: Any, call: Any, expected: str | None
) -> None:
    options = read(call, USING, read(decorator, DECORATOR))
    with override_settings(KUE={"OUTBOX": project, "QUEUES": {"default": {"OUTBOX": queue}}}):
        assert outbox.alias_of(options) == expected


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="on_commit=False sends at once, an outbox keeps jobs"):
        read({"outbox": True, "on_commit": False}, DECORATOR)
    with pytest.raises(ValueError, match="name two databases, 'a' and 'b'"):
        read({"outbox": "a", "on_commit": "b"}, USING)


def test_a_database_that_there_isnt_is_told() -> None:
    with (
        override_settings(KUE={"OUTBOX": "nowhere"}),
        pytest.raises(ImproperlyConfigured, match="OUTBOX names 'nowhere': there's no such database"),
    ):
        app_jobs.noop.enqueue()


# ── in the transaction ────────────────────────────────────────────────────────────────────────────


@committed
def test_the_job_is_written_with_the_data_and_sent_after_the_commit() -> None:
    with transaction.atomic():
        User.objects.create(username="ada")
        job, more = boxed.enqueue(1), boxed.enqueue_many([(2,), (3,)])
        assert left() == [one.id for one in (job, *more)]
        assert waiting() == []
    assert waiting() == [one.id for one in (job, *more)]
    assert left() == []
    assert job.refresh().args == (1,)
    assert audit("default") == []


@committed
def test_a_rollback_takes_the_job_with_it() -> None:
    with transaction.atomic():
        boxed.enqueue(1)
        transaction.set_rollback(True)
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():  # to a savepoint
            boxed.enqueue(1)
            1 / 0  # noqa: B018
        kept = boxed.enqueue(2)
    assert waiting() == [kept.id]
    assert left() == []


@committed
def test_redis_being_away_at_the_commit_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with redis_away(), caplog.at_level(logging.WARNING):
        with transaction.atomic():
            User.objects.create(username="ada")
            jobs = [boxed.enqueue(1), boxed.enqueue(2)]
        with transaction.atomic():
            jobs.append(boxed.enqueue(3))
    assert User.objects.filter(username="ada").exists()
    assert left() == [job.id for job in jobs]
    assert caplog.text.count("Jobs stay in the outbox till Redis is back") == 1
    grown_old()
    assert outbox.relay("default") == outbox.Relayed(3, {})
    assert waiting() == [job.id for job in jobs]


@committed
def test_while_redis_is_away_only_one_call_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    with redis_away():
        real = outbox.submit
        monkeypatch.setattr(outbox, "submit", lambda *args, **how: tried.append(1) or real(*args, **how))
        for number in range(3):
            with transaction.atomic():
                boxed.enqueue(number)
        assert len(tried) == 1
        outbox.silence.end()  # the moment is over
        with transaction.atomic():
            boxed.enqueue(4)
        assert len(tried) == 2


@committed
def test_outside_a_transaction_it_goes_straight_to_redis_or_into_the_outbox_when_thats_away() -> None:
    straight = boxed.enqueue(1)
    assert waiting() == [straight.id]
    assert left() == []
    with redis_away():
        kept = [boxed.enqueue(2), *boxed.enqueue_many([(3,)]), asyncio.run(boxed.aenqueue(4))]
    assert left() == [job.id for job in kept]
    grown_old()
    outbox.relay("default")
    assert waiting() == [job.id for job in (straight, *kept)]


@committed
def test_what_redis_took_before_it_went_away_isnt_kept_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,500 jobs the first 1,000 are stored, nobody knows of the next: none is there twice."""
    import django_kue.enqueueing as enqueueing

    real = enqueueing.submit

    def cut(queue: str, jobs: Any, **kwargs: Any) -> Any:
        real(queue, jobs[:2000], **kwargs)
        raise EnqueueError("cut", may_be_stored=True, stored=1000)

    monkeypatch.setattr(enqueueing, "submit", cut)
    jobs = boxed.enqueue_many([(number,) for number in range(2500)])
    assert len(left()) == 1500
    grown_old()
    while outbox.relay("default").is_full:
        pass
    assert waiting() == [job.id for job in jobs]


@committed
def test_the_table_being_away_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outbox._meta, "db_table", "nowhere")
    remedy = "manage.py migrate django_kue --database default"
    with pytest.raises(EnqueueError, match=remedy), transaction.atomic():
        boxed.enqueue(1)
    assert waiting() == []


@committed
def test_a_database_that_goes_away_after_the_commit_costs_no_request_and_no_second_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*args: Any) -> None:
        raise DatabaseError("gone")

    monkeypatch.setattr(outbox, "_clear", gone)
    with transaction.atomic():
        job = boxed.enqueue(1)
    assert "not cleared from the outbox of default; a worker will: gone" in caplog.text
    assert waiting() == left() == [job.id]
    grown_old()
    outbox.relay("default")
    assert waiting() == [job.id]
    assert left() == []


class WithinATestCase(TestCase):
    """Its transaction is never committed; nothing special is to be done."""

    def test_a_test_sees_the_row_and_what_captured_callbacks_send(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            job = boxed.enqueue(1)
        assert left() == [job.id]
        assert waiting() == []
        for callback in callbacks:
            callback()
        assert left() == []
        assert waiting() == [job.id]


# ── while autocommit is off ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def by_hand(second_database: str) -> Iterator[Any]:
    """The connection of a database whose transactions the project ends itself."""
    connection = connections[second_database]
    connection.set_autocommit(False)
    yield connection
    if connection.connection is not None:
        connection.rollback()
        connection.set_autocommit(True)


@committed
def test_while_autocommit_is_off_a_job_is_part_of_that_transaction_and_relayed_after_it(by_hand: Any) -> None:
    definition = app_jobs.add.using(outbox=by_hand.alias)
    definition.enqueue(1)
    by_hand.rollback()
    job = definition.enqueue(2)
    assert left(by_hand.alias) == [job.id]
    assert waiting() == []
    by_hand.commit()
    grown_old(alias=by_hand.alias)
    outbox.relay(by_hand.alias)
    assert waiting() == [job.id]
    by_hand.rollback()
    assert left(by_hand.alias) == [], "the relay has committed the deletion"


@committed
def test_a_relay_leaves_no_transaction_open_where_autocommit_is_off(by_hand: Any) -> None:
    outbox.relay(by_hand.alias)
    assert not by_hand.connection.in_transaction
    job = app_jobs.add.using(outbox=by_hand.alias).enqueue(1)
    by_hand.commit()
    with (
        pytest.raises(ZeroDivisionError),
        commits.own_transaction(by_hand.alias, is_atomic=False),
    ):
        Outbox.objects.using(by_hand.alias).all().delete()
        1 / 0  # noqa: B018
    assert not by_hand.connection.in_transaction
    assert left(by_hand.alias) == [job.id]


@committed
def test_without_an_outbox_a_commit_that_nobody_tells_of_cant_be_waited_for(by_hand: Any) -> None:
    definition = app_jobs.add.using(on_commit=by_hand.alias)
    with pytest.raises(
        EnqueueError, match="autocommit of database 'second' is off.*outbox=True.*on_commit=False"
    ):
        definition.enqueue(1)
    assert waiting() == []
    job = definition.using(on_commit=False).enqueue(2)
    assert waiting() == [job.id]


@committed
@pytest.mark.parametrize("is_boxed", [True, False])
def test_within_atomic_while_autocommit_is_off_a_job_is_sent_when_its_on_again(
    by_hand: Any, is_boxed: bool
) -> None:
    with transaction.atomic(using=by_hand.alias):
        job = app_jobs.add.using(on_commit=by_hand.alias, outbox=is_boxed).enqueue(1)
    by_hand.commit()
    assert waiting() == []
    by_hand.set_autocommit(True)
    assert waiting() == [job.id]
    assert left(by_hand.alias) == []


@committed
def test_where_autocommit_is_never_on_atomic_changes_nothing_about_it(by_hand: Any) -> None:
    by_hand.settings_dict["AUTOCOMMIT"] = False
    with transaction.atomic(using=by_hand.alias):
        job = app_jobs.add.using(outbox=by_hand.alias).enqueue(1)
        with pytest.raises(EnqueueError, match="autocommit of database 'second' is off"):
            app_jobs.add.using(on_commit=by_hand.alias).enqueue(1)
    assert by_hand.run_on_commit == [], "they'd gather for ever"
    assert left(by_hand.alias) == [job.id]


@committed
def test_a_connection_that_isnt_open_has_no_transaction_whatever_its_autocommit(second_database: str) -> None:
    connections[second_database].close()
    del connections[second_database]
    assert not connections[second_database].autocommit, "of a connection that was never open"
    job = app_jobs.add.using(on_commit=second_database).enqueue(1)
    assert waiting() == [job.id]
    assert connections[second_database].connection is None


# ── an outbox in another database than the data ───────────────────────────────────────────────────


@pytest.fixture
def elsewhere(second_database: str) -> Iterator[str]:
    with override_settings(KUE={**kue_settings_dict(), "OUTBOX": second_database}):
        yield second_database


@committed
def test_a_job_waits_for_the_commit_of_on_commit_where_its_outbox_has_no_transaction(elsewhere: str) -> None:
    with transaction.atomic():
        job = app_jobs.add.enqueue(1)
        assert waiting() == left(elsewhere) == []
    assert waiting() == [job.id]
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        app_jobs.add.enqueue(2)
        1 / 0  # noqa: B018
    assert waiting() == [job.id]


@committed
def test_where_both_transactions_are_open_a_job_is_in_the_outboxs(elsewhere: str) -> None:
    with transaction.atomic(using=elsewhere):
        with transaction.atomic():
            job = app_jobs.add.enqueue(1)
        assert left(elsewhere) == [job.id]
        assert waiting() == []
    assert waiting() == [job.id]
    assert left(elsewhere) == []


@committed
def test_the_outbox_of_another_database_takes_what_redis_doesnt_after_the_commit(elsewhere: str) -> None:
    nowhere = {"REDIS": NOBODY, "ENQUEUE_TIMEOUT": 0.3, "OUTBOX": elsewhere}
    with override_settings(KUE=nowhere), transaction.atomic():
        job = app_jobs.add.enqueue(1)
    assert left(elsewhere) == [job.id]
    grown_old(alias=elsewhere)
    outbox.relay(elsewhere)
    assert waiting() == [job.id]


@committed
def test_a_queue_without_the_outbox_has_nothing_to_do_with_its_database(elsewhere: str) -> None:
    queues = {"default": {"OUTBOX": False}, "email": {}}
    with override_settings(KUE={**kue_settings_dict(), "OUTBOX": elsewhere, "QUEUES": queues}):
        with transaction.atomic(using=elsewhere):
            job = app_jobs.add.enqueue(1)
            assert waiting() == [job.id], "it waits for the default database alone"
            app_jobs.add.using(queue="email").enqueue(1)
            assert waiting("email") == []
        assert len(waiting("email")) == 1


# ── options ───────────────────────────────────────────────────────────────────────────────────────


@committed
def test_all_options_survive_the_outbox() -> None:
    run_at = timezone.now() + timedelta(hours=1)
    options: dict[str, Any] = {
        "priority": "high", "attempts": 4, "backoff": 3, "timeout": 9, "keep": 100, "title": "Ada’s",
        "search_keys": ("a",),
    }  # fmt: skip
    [job] = left_behind(boxed.using(**options, run_at=run_at, expires=60), (17,))
    outbox.relay("default")
    straight = app_jobs.add.using(**options, run_at=run_at, expires=60).enqueue(17).refresh()
    relayed = job.refresh()
    for field in ("name", "args", "title", "state", "priority", "attempts", "run_at", "_options"):
        assert getattr(relayed, field) == getattr(straight, field), field
    records = [redis_client().hget("kue:{default}:d", one.key) for one in (relayed, straight)]
    assert records[0].replace(b"b1,", b"") == records[1]
    assert {one.id for one in QUEUE.find(a=17)} == {relayed.id, straight.id}
    assert audit("default") == []


@committed
def test_a_delay_counts_from_the_enqueue() -> None:
    [late, early] = left_behind(boxed.using(delay=30), (1,), (2,))
    Outbox.objects.filter(key=late.key).update(created_at=UtcNow() - timedelta(seconds=40))
    before = timezone.now()
    outbox.relay("default")
    assert late.refresh().state == "waiting"
    due = early.refresh().run_at - before
    assert timedelta(seconds=19) < due < timedelta(seconds=21)


@committed
def test_a_delay_counts_from_the_enqueue_in_a_long_transaction_too(monkeypatch: pytest.MonkeyPatch) -> None:
    real = outbox.time.monotonic
    before = timezone.now()
    with transaction.atomic():
        job = boxed.using(delay=30).enqueue(1)
        monkeypatch.setattr(outbox.time, "monotonic", lambda: real() + 20)
    assert timedelta(seconds=9) < job.refresh().run_at - before < timedelta(seconds=11)


@pytest.mark.parametrize(
    ("given", "ms", "left"),
    [
        ({}, 5000, (None, None)),
        ({"delay": 3000}, 1000, (2000, None)),
        ({"delay": 3000}, 5000, (0, None)),
        ({"expires": 3000}, 1000, (None, 2000)),
        ({"expires": 3000}, 5000, (None, 1)),
        ({"expires": 3000, "delay": 4000}, 5000, (0, 2000)),
    ],
)
def test_an_expiry_counts_from_when_the_job_was_due(given: Any, ms: int, left: Any) -> None:
    job = NewJob(b"A" * 22, "name", **given).later(ms)
    assert (job.delay, job.expires) == left


@committed
def test_a_unique_job_that_is_there_keeps_a_relayed_one_out_for_good() -> None:
    unique = boxed.using(unique=True)
    first = unique.enqueue(1)
    [second] = left_behind(unique, (1,))
    outbox.relay("default")
    assert waiting() == [first.id]
    assert second.refresh().id == first.id
    run(Hands(), completed())
    send_again(second)  # it was dropped: the second send mustn't find the place free
    assert waiting() == []


@committed
def test_signals_tell_of_a_job_once() -> None:
    heard: list[tuple[Any, str, tuple[Any, ...]]] = []

    def receiver(sender: Any, job: Job, **kwargs: Any) -> None:
        heard.append((sender, job.id, job.args))

    signals.job_enqueued.connect(receiver)
    try:
        with transaction.atomic():
            job = boxed.enqueue(1)
            assert heard == []
        assert heard == [(app_jobs.add, job.id, (1,))]
        send_again(job)
        assert len(heard) == 1
        [relayed] = left_behind(boxed, (2,))
        outbox.relay("default")
        assert heard[1:] == [(app_jobs.add, relayed.id, (2,))]
    finally:
        signals.job_enqueued.disconnect(receiver)


# ── sent twice ────────────────────────────────────────────────────────────────────────────────────


def send_again(job: Job) -> None:
    """A row that was sent, but not deleted, is relayed."""
    again = OutboxJob(job.key.encode(), app_jobs.add.name, b"[1]")
    Outbox.objects.create(key=job.key, queue=job.queue, record=again.encode(), terms=again.terms())
    grown_old()
    outbox.relay("default")
    assert left() == []


def run(hands: Hands, outcome: bytes) -> None:
    hands.settle(hands.take_one(), outcome)


BECAME = {
    "waiting": lambda hands, job: None,
    "active": lambda hands, job: hands.take_one(),
    "completed": lambda hands, job: run(hands, completed()),
    "failed": lambda hands, job: run(hands, failed()),
    "cancelled": lambda hands, job: job.cancel(),
    "completed and cleaned": lambda hands, job: (run(hands, completed()), QUEUE.clean("completed")),
    "failed and removed": lambda hands, job: (run(hands, failed()), job.remove()),
    "removed while waiting": lambda hands, job: job.remove(),
    "removed while active": lambda hands, job: (hands.take_one(), job.remove()),
    "emptied": lambda hands, job: QUEUE.empty(),
    "completed, and not kept": lambda hands, job: run(hands, b"C0|1|"),
}


@committed
@pytest.mark.parametrize("became", BECAME)
def test_a_row_that_is_sent_again_makes_no_second_job_whatever_became_of_the_first(became: str) -> None:
    with transaction.atomic():
        job = boxed.enqueue(1)
    BECAME[became](Hands(), job)
    before = QUEUE.counts()
    send_again(job)
    assert QUEUE.counts() == before
    assert audit("default") == []


@committed
def test_retention_leaves_ids_behind_too() -> None:
    with override_settings(KUE={**kue_settings_dict(), "QUEUES": {"default": {"KEEP_COMPLETED": 0}}}):
        with transaction.atomic():
            job = boxed.enqueue(1)
        run(Hands(), completed())
        with pytest.raises(JobDoesNotExist):
            job.refresh()
        send_again(job)
        assert waiting() == []


def kue_settings_dict() -> dict[str, Any]:
    from django.conf import settings

    return dict(settings.KUE)


@committed
def test_an_id_is_remembered_for_ten_minutes_and_only_of_jobs_that_came_by_an_outbox() -> None:
    plain = app_jobs.add.enqueue(1)
    searched = app_jobs.add.using(search_keys=("a",)).enqueue(1)
    job = boxed.enqueue(1)
    for one in (plain, searched, job):
        one.remove()
    [key] = redis_client().keys("kue:{default}:gn:*")
    assert key.decode().endswith(job.key)
    assert 590 < redis_client().ttl(key) <= 600


# ── the relay ─────────────────────────────────────────────────────────────────────────────────────


@committed
def test_rows_are_relayed_in_the_order_of_their_insertion() -> None:
    jobs = left_behind(boxed, *[(number,) for number in range(700)])
    others = left_behind(boxed.using(queue="other"), *[(number,) for number in range(5)])
    assert outbox.relay("default") == outbox.Relayed(500, {})
    assert outbox.relay("default") == outbox.Relayed(205, {})
    assert waiting() == [job.id for job in jobs]
    assert waiting("other") == [job.id for job in others]


@committed
def test_a_row_of_this_second_is_left_to_who_committed_it() -> None:
    [job] = left_behind()
    Outbox.objects.update(created_at=UtcNow())
    assert outbox.relay("default") == outbox.Relayed(0, {})
    grown_old(1.1)
    assert outbox.relay("default").sent == 1
    assert waiting() == [job.id]


@committed
def test_a_row_that_cant_be_sent_stays_with_the_reason_and_holds_up_no_other() -> None:
    [lost] = left_behind(boxed)
    [newer] = left_behind(boxed, (2,))
    [broken] = left_behind(boxed, (3,))
    [good] = left_behind(boxed, (4,))
    table = Outbox.objects
    table.filter(key=lost.key).update(queue="bygone")
    table.filter(key=newer.key).update(record=b"v99,b1|name|")
    table.filter(key=broken.key).update(record=b"nonsense")
    assert outbox.relay("default").sent == 1
    assert waiting() == [good.id]
    reasons = dict(table.values_list("key", "error"))
    assert "No queue 'bygone' is declared" in reasons[lost.key]
    assert "this release reads up to 1" in reasons[newer.key]
    assert "not a job's record" in reasons[broken.key]
    assert set(table.values_list("attempts", flat=True)) == {1}
    assert outbox.relay("default") == outbox.Relayed(0, {})  # not again at once
    table.update(retry_at=UtcNow() - timedelta(seconds=1))
    assert len(outbox.relay("default").errors) == 3
    assert set(table.values_list("attempts", flat=True)) == {2}
    table.filter(key=lost.key).update(queue="default", retry_at=None)
    assert outbox.relay("default").sent == 1
    assert waiting() == [good.id, lost.id]


DAMAGES: dict[str, dict[str, Any]] = {
    "a key that's none": {"key": "short", "terms": {"run_at": 1}},
    "a key that isn't ASCII": {"key": "ä" * 22},
    "terms that are a list": {"terms": [1]},
    "terms that are nothing": {"terms": Value(None, JSONField())},
    "a time that's a truth": {"terms": {"delay": True}},
    "a time in words": {"terms": {"run_at": "soon"}},
    "a negative time": {"terms": {"expires": -1}},
    "a time beyond Redis's numbers": {"terms": {"delay": 2**60}},
    "a record that's nothing": {"record": b""},
    "a name that isn't Unicode": {"record": b"b1|\xff\xfe|[1]"},
    "no name": {"record": b"b1||[1]"},
    "a priority that there isn't": {"record": b"b1,p1000|tests.app.jobs.add|[1]"},
    "a keep below zero": {"record": b"b1,q-5|tests.app.jobs.add|[1]"},
    "a hash that's none": {"record": b"b1,u{x}:w|tests.app.jobs.add|[1]"},
    "a unique key without states": {"record": b"b1,u" + b"h" * 22 + b"|tests.app.jobs.add|[1]"},
    "options that are a list": {"record": b'b1,o9|tests.app.jobs.add|[["a",1]][1]'},
    "options that aren't JSON": {"record": b"b1,o4|tests.app.jobs.add|{no}[1]"},
    "a model instance in headers": {"record": b""},
    "a queue that's none": {"queue": "a:{b}*"},
}


def with_model_in_headers() -> bytes:
    """As releases wrote it that didn't refuse it."""
    options = codecs.dumps({"h": {"user": User.objects.create(username="ada")}})
    return b"b1,o%d|tests.app.jobs.add|%s[1]" % (len(options), options)


@committed
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_row_stays_with_the_reason_and_keeps_none_of_its_batch_back(damage: str) -> None:
    first, bad, last = left_behind(boxed, (1,), (2,), (3,))
    changes = DAMAGES[damage]
    if "headers" in damage:
        changes = {"record": with_model_in_headers()}
    row = Outbox.objects.get(key=bad.key)
    Outbox.objects.filter(pk=row.pk).update(**changes)
    heard: list[str] = []

    def receiver(job: Job, **kwargs: Any) -> None:
        heard.append(job.id)

    signals.job_enqueued.connect(receiver)
    try:
        relayed = outbox.relay("default")
    finally:
        signals.job_enqueued.disconnect(receiver)
    assert relayed.sent == 2
    assert waiting() == heard == [first.id, last.id]
    row.refresh_from_db()
    assert row.error == relayed.errors[row.pk]
    assert row.attempts == 1
    assert row.retry_at is not None
    assert audit("default") == []


@committed
def test_a_row_that_redis_refuses_doesnt_take_its_neighbours_with_it() -> None:
    """Foreign data stand where one of three jobs would be found by its search key."""
    first, second, third = left_behind(boxed.using(search_keys=("a",)), (1,), (2,), (3,))
    where = f"kue:{{default}}:s:{codecs.search_hash('a', 2)}"
    redis_client().set(where, "foreign")
    for _ in range(2):
        relayed = outbox.relay("default")
        assert left() == [second.id]
        Outbox.objects.update(retry_at=None)
    assert (relayed.sent, len(relayed.errors)) == (0, 1)
    assert waiting() == [first.id, third.id]
    redis_client().delete(where)
    assert outbox.relay("default").sent == 1
    assert waiting() == [first.id, third.id, second.id]
    assert audit("default") == []


@committed
def test_a_queue_with_foreign_data_holds_up_no_other_queue() -> None:
    left_behind(boxed.using(queue="other"), (1,), (2,))
    [good] = left_behind(boxed)
    redis_client().set("kue:{other}:d", "foreign")
    relayed = outbox.relay("default")
    assert relayed.sent == 1
    assert len(relayed.errors) == 2
    assert all("WRONGTYPE" in reason for reason in relayed.errors.values())
    assert waiting() == [good.id]


@committed
def test_what_a_queue_refuses_keeps_no_other_queue_waiting(caplog: pytest.LogCaptureFixture) -> None:
    redis_client().set("kue:{other}:d", "foreign")
    boxed.using(queue="other").enqueue(1)
    assert not outbox.silence.holds(), "Redis isn't away"
    assert "Jobs of queue other stay in the outbox" in caplog.text
    good = boxed.enqueue(2)
    assert waiting() == [good.id]


@committed
def test_a_connection_that_the_database_closed_costs_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*args: object) -> None:
        raise InterfaceError("connection already closed")

    monkeypatch.setattr(outbox, "_clear", closed)
    with transaction.atomic():
        job = boxed.enqueue(1)
    assert waiting() == [job.id]


@committed
def test_while_redis_is_away_rows_stay_as_they_are() -> None:
    left_behind()
    with redis_away(), pytest.raises(EnqueueError):
        outbox.relay("default")
    assert list(Outbox.objects.values_list("attempts", "error")) == [(0, "")]


@committed
def test_chosen_rows_are_sent_now_however_young_and_whatever_was_wrong_with_them() -> None:
    first, second = left_behind(boxed, (1,), (2,))
    Outbox.objects.update(created_at=UtcNow(), retry_at=UtcNow() + timedelta(hours=1), attempts=9)
    chosen = Outbox.objects.get(key=second.key)
    assert outbox.relay("default", only=[chosen.pk]) == outbox.Relayed(1, {})
    assert waiting() == [second.id]
    assert left() == [first.id]


# ── where jobs may be ─────────────────────────────────────────────────────────────────────────────


@committed
def test_a_job_that_only_a_call_gave_to_an_outbox_while_redis_was_away_is_relayed(
    second_database: str,
) -> None:
    """Nothing but its row knows of it: the process that left it is gone."""
    with redis_away(), transaction.atomic(using=second_database):
        job = app_jobs.add.using(outbox=second_database).enqueue(1)
    assert waiting() == []
    grown_old(alias=second_database)
    Relay().tick()
    assert waiting() == [job.id]
    assert left(second_database) == []


@committed
def test_where_nothing_says_that_there_is_an_outbox_a_relay_looks_once_a_minute(second_database: str) -> None:
    relay = Relay()
    assert relay.tick() > 40
    with assert_queries(0, second_database):
        relay.tick()
    with override_settings(KUE={"OUTBOX": True}):
        relay._next.clear()
        assert 1 < relay.tick() < 3
        with assert_queries(0, second_database):
            relay.tick()


@committed
def test_where_a_job_was_left_a_relay_looks_again_soon_until_nothing_is(second_database: str) -> None:
    left_behind(app_jobs.add.using(outbox=second_database), alias=second_database)
    relay = Relay()
    assert relay.tick() < 3
    relay._next.clear()
    assert relay.tick() > 40


@committed
@pytest.mark.parametrize("age", [0, None])
def test_a_relay_holds_no_connection_to_a_database_whose_outbox_nobody_uses(
    second_database: str, age: float | None
) -> None:
    connection = connections[second_database]
    connection.settings_dict["CONN_MAX_AGE"] = age
    Relay().tick()
    assert connection.connection is None
    with override_settings(KUE={"OUTBOX": second_database}):
        Relay().tick()
        assert connection.connection is not None


@committed
def test_an_idle_relay_asks_redis_nothing() -> None:
    commands = redis_client().info("commandstats")
    with override_settings(KUE={**kue_settings_dict(), "OUTBOX": True}):
        Relay().tick()
    now = redis_client().info("commandstats")
    assert {
        name for name, stats in now.items() if stats["calls"] > commands.get(name, {"calls": 0})["calls"]
    } == {"cmdstat_info"}


@committed
def test_databases_without_the_table_and_those_that_are_away_are_passed_over(
    second_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [job] = left_behind()
    with connections[second_database].schema_editor() as editor:
        editor.delete_model(Outbox)
    relay = Relay()
    assert relay.tick() < 3
    assert "second" not in caplog.text
    cut_off(second_database, OperationalError, monkeypatch)
    for _ in range(2):
        relay._next.clear()
        relay.tick()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the outbox of second can't be relayed; trying again: gone" in caplog.text
    assert waiting() == [job.id]


class NotOnSecond:
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db == "second" else None


@committed
@pytest.mark.parametrize("said_by", ["router", "mirror", "dummy"])
def test_a_replica_is_none_of_the_databases_that_are_looked_at(second_database: str, said_by: str) -> None:
    assert outbox.possible() == {"default", "second"}
    settings = connections.settings[second_database]
    if said_by == "mirror":
        settings["TEST"] = {**settings["TEST"], "MIRROR": "default"}
    elif said_by == "dummy":
        settings["ENGINE"] = "django.db.backends.dummy"
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.NotOnSecond"] if said_by == "router" else []):
        assert outbox.possible() == {"default"}
        with override_settings(KUE={"OUTBOX": second_database}):
            assert outbox.possible() == {"default", "second"}, "the settings have the last word"


def test_settings_and_decorators_say_which_outboxes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outbox.declared() == set()
    for kue in ({"OUTBOX": True}, {"QUEUES": {"email": {"OUTBOX": "default"}}}):
        with override_settings(KUE=kue):
            assert outbox.declared() == {"default"}
    definition = app_jobs.add.using(outbox=True)
    monkeypatch.setitem(registry._by_name, definition.name, definition)
    assert outbox.declared() == {"default"}


def test_what_was_written_is_read_back_as_it_was() -> None:
    job = OutboxJob(
        b"A" * 22, "shop.send", b'[1,"\xc3\xa9"]', priority=5, options={"title": "x"}, delay=7, expires=9,
        keep=0, unique="h" * 22, unique_mode="t", unique_for=60_000, search=("s" * 22, "t" * 22),
    )  # fmt: skip
    assert OutboxJob.restored(job.key, job.encode(), job.terms()) == job
    plain = OutboxJob(b"A" * 22, "shop.send")
    assert OutboxJob.restored(plain.key, plain.encode(), plain.terms()) == plain
    assert plain.terms() == {}


@pytest.mark.parametrize(
    ("record", "terms", "error"),
    [
        (b"b1,w7|name|", {}, NewerRecord),
        (b"b1|name|", {"group": 1}, NewerRecord),
        (b"b1,o5|name|{no}}[]", {}, UnreadableRecord),
        (b"b1,px|name|", {}, UnreadableRecord),
        (b"b1|name|", {"delay": "soon"}, UnreadableRecord),
    ],
)
def test_what_this_release_cant_read_is_refused(record: bytes, terms: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        OutboxJob.restored(b"A" * 22, record, terms)


@committed
def test_arguments_are_sealed_in_the_table_and_opened_where_the_job_runs() -> None:
    pytest.importorskip("cryptography")
    with override_settings(
        KUE={"ENCRYPTION_KEYS": [urlsafe_b64encode(bytes([1]) * 32).decode()], "OUTBOX": True}
    ):
        [job] = left_behind(app_jobs.add, (4711,))
        assert b"4711" not in bytes(Outbox.objects.get().record)
        outbox.relay("default")
        assert job.refresh().args == (4711,)
