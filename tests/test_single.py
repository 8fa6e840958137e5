"""The short way of enqueue(): what it stores is what the long way stores, and what it leaves to that one."""

from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.db import transaction
from django.test import override_settings

from django_kue import EnqueueError, get_queue, job, registry, signals, single
from django_kue.decorators import JobFunction
from tests.conftest import redis_client


@pytest.fixture(autouse=True)
def _forget_jobs(monkeypatch):
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))


@pytest.fixture
def send():
    """A job as most are."""
    return define()


def define(name="tests.send", **options):
    def send(order_id: int, *, copy_to: str | None = None) -> None: ...

    return job(name=name, **options)(send)


@pytest.fixture
def both_ways(monkeypatch):
    """Gives what a call comes to by the short way, and by the long one."""

    def both(call):
        found = [outcome(call)]
        with monkeypatch.context() as patched:
            patched.setattr(single, "enqueue", lambda *call: None)
            found.append(outcome(call))
        return found

    return both


def outcome(call):
    """What's stored of a call's job, and what its handle says; or the error."""
    heard = []
    signals.job_enqueued.connect(listen := lambda **told: heard.append((told["sender"], told["job"].id)))
    try:
        handle = call()
    except EnqueueError as error:
        return str(error), heard
    finally:
        signals.job_enqueued.disconnect(listen)
    assert [told for _, told in heard] == [handle.id]
    shown = (
        handle.name,
        handle.priority,
        handle.attempts,
        handle.args,
        handle.kwargs,
        handle.state,
        handle.title,
    )
    key = handle.key.encode()
    redis = redis_client()
    lists = {name for name in redis.keys("*:w:*") if key in redis.lrange(name, 0, -1)}
    return redis.hget("kue:{default}:d", key), lists, [sender for sender, _ in heard], shown


PLAIN = {
    "nothing": {},
    "a priority": {"priority": 7},
    "options of its own": {"attempts": 3, "backoff": 5, "timeout": 60},
    "a retention": {"keep": timedelta(hours=1)},
}


@pytest.mark.parametrize("options", PLAIN.values(), ids=PLAIN.keys())
def test_it_stores_and_tells_what_the_long_way_does(send, both_ways, options):
    function = send.using(**options) if options else send
    assert is_short(function)
    for call in (
        lambda: function.enqueue(17),
        lambda: function.enqueue(17, copy_to="me@example.org"),
        lambda: function.enqueue(order_id=17),
    ):
        short, long = both_ways(call)
        assert short == long
        record, lists, senders, _ = short
        assert record
        assert len(lists) == 1
        assert senders == [send]


def test_it_refuses_what_the_long_way_refuses(send, both_ways):
    for call in (
        lambda: send.enqueue(),
        lambda: send.enqueue(object()),
        lambda: send.enqueue("x" * (settings.KUE.get("MAX_ARGUMENTS", 1 << 20) + 1)),
        lambda: send.using(queue="default").enqueue(1, 2),
    ):
        short, long = both_ways(call)
        assert short == long
        assert short[1] == []
    assert get_queue("default").counts()["waiting"] == 0


DECISIONS = {
    "a unique key": {"unique": True},
    "search keys": {"search_keys": ["order_id"]},
    "an outbox": {"outbox": True},
}


@pytest.mark.parametrize("options", DECISIONS.values(), ids=DECISIONS.keys())
def test_a_job_that_takes_a_decision_is_left_to_the_long_way(options):
    assert not is_short(define(**options))


@pytest.mark.parametrize("option", ["delay", "expires"])
def test_so_is_one_that_has_its_time(send, option):
    assert not is_short(send.using(**{option: 60}))


def test_settings_that_concern_a_job_on_its_way_leave_it_to_the_long_one(send):
    assert is_short(send)
    for setting in (
        {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]},
        {"MIDDLEWARE": ["tests.test_middleware.chain.Stamping"]},
        {"CONTEXT": ["language"]},
        {"OUTBOX": True},
    ):
        with override_settings(KUE={**settings.KUE, **setting}):
            assert not is_short(send), setting
        assert is_short(send)


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_is_open_leaves_it_to_the_long_way(send):
    with transaction.atomic():
        assert not is_short(send)
        assert is_short(define(name="tests.at_once", on_commit=False))
    assert is_short(send)


def is_short(function: JobFunction) -> bool:
    before = get_queue("default").counts()["waiting"]
    handle = single.enqueue(function, (17,), {})
    assert get_queue("default").counts()["waiting"] == before + (handle is not None)
    return handle is not None
