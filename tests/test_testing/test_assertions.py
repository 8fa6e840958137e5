"""What a test can say about what was enqueued, and what it's told when that isn't so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User

from django_kue import Backoff
from django_kue.testing import (
    Kue,
    assert_count,
    assert_enqueued,
    assert_not_enqueued,
    assert_nothing_enqueued,
)


@pytest.fixture
def send(define: Any) -> Any:
    def send(order_id: int, *, copy_to: str | None = None) -> str:
        return f"receipt {order_id}"

    return define(send)


@pytest.fixture
def sync(define: Any) -> Any:
    def sync(*names: str) -> None: ...

    return define(sync)


def said(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_an_enqueued_job_is_found_and_given(kue: Kue, send: Any) -> None:
    first = send.enqueue(17)
    send.enqueue(18)

    assert kue.assert_enqueued(send, 17).id == first.id
    assert kue.assert_enqueued(send).args == (17,)
    assert [job.args for job in kue.jobs_of(send)] == [(17,), (18,)]


@pytest.mark.parametrize(
    ("args", "kwargs"), [((17,), {}), ((), {"order_id": 17}), ((17,), {"copy_to": None})], ids=repr
)
def test_arguments_are_compared_as_the_signature_binds_them(
    kue: Kue, send: Any, args: Any, kwargs: Any
) -> None:
    send.enqueue(17)

    kue.assert_enqueued(send, *args, **kwargs)


def test_arguments_are_compared_as_they_come_through_the_codec(kue: Kue, sync: Any) -> None:
    sync.enqueue(("a", "b"), timedelta(seconds=1))

    kue.assert_enqueued(sync, ["a", "b"], timedelta(seconds=1))
    kue.assert_enqueued(sync, ("a", "b"), mock.ANY)
    kue.assert_not_enqueued(sync, ("a", "c"), mock.ANY)


@pytest.mark.django_db
def test_a_model_instance_is_compared_without_a_query(
    kue: Kue, sync: Any, django_assert_num_queries: Any
) -> None:
    ada, bob = User.objects.create(username="ada"), User.objects.create(username="bob")
    sync.enqueue(ada)

    with django_assert_num_queries(0):
        kue.assert_enqueued(sync, ada)
        kue.assert_not_enqueued(sync, bob)


def test_what_using_says_is_expected_too(kue: Kue, send: Any) -> None:
    later = datetime(2031, 1, 1, tzinfo=UTC)
    send.using(queue="email", priority="high", delay=60).enqueue(1)
    send.using(run_at=later, attempts=7, backoff=Backoff.exponential(2), keep=5, title="x").enqueue(2)

    kue.assert_enqueued(send.using(queue="email"), 1)
    kue.assert_enqueued(send.using(priority=10, delay=timedelta(minutes=1)), 1)
    kue.assert_enqueued(send.using(run_at=later, attempts=7, backoff=Backoff.exponential(2), keep=5), 2)
    kue.assert_not_enqueued(send.using(delay=61), 1)
    kue.assert_not_enqueued(send.using(queue="other"), 1)


@pytest.mark.parametrize(
    "option",
    [
        {"priority": 3},
        {"attempts": 2},
        {"timeout": 9},
        {"expires": 9},
        {"keep": 9},
        {"title": "y"},
        {"unique": True},
    ],
    ids=repr,
)
def test_each_option_that_differs_is_told(kue: Kue, send: Any, option: dict[str, Any]) -> None:
    send.enqueue(1)
    [name] = option

    assert f"{name} is " in said(kue.assert_enqueued, send.using(**option), 1)
    send.using(**option).enqueue(1)
    kue.assert_enqueued(send.using(**option), 1)


def test_an_option_that_was_taken_back_is_told_from_one_that_was_left(kue: Kue, define: Any) -> None:
    def slow() -> None: ...

    send = define(slow, timeout=30, backoff=5)
    send.enqueue()
    assert "timeout is as @job has it, not None" in said(kue.assert_enqueued, send.using(timeout=None))
    assert "backoff is as @job has it" in said(kue.assert_enqueued, send.using(backoff=None))
    send.using(timeout=None).enqueue()
    kue.assert_enqueued(send.using(timeout=None))


def test_a_parameter_may_be_called_as_those_of_the_assertions_are(kue: Kue, define: Any) -> None:
    def call(function: str) -> None: ...

    definition = define(call)
    enqueued = definition.enqueue(function="x")
    assert [job.id for job in kue.jobs_of(definition, function="x")] == [enqueued.id]
    assert kue.assert_enqueued(definition, function="x").id == enqueued.id


def test_a_delay_of_nothing_is_none(kue: Kue, send: Any) -> None:
    send.using(delay=0).enqueue(1)
    kue.assert_enqueued(send.using(delay=0), 1)


def test_a_failure_lists_what_was_enqueued_instead_the_nearest_first(kue: Kue, send: Any, sync: Any) -> None:
    sync.enqueue()
    send.enqueue(18, copy_to="me@example.org")
    send.enqueue(18)

    assert said(kue.assert_enqueued, send, 17) == (
        "shop.send(17) was not enqueued. 3 jobs were enqueued, the nearest first:\n"
        "  shop.send(18) on default                            order_id is 18, not 17\n"
        "  shop.send(18, copy_to='me@example.org') on default  order_id is 18, not 17; "
        "copy_to is 'me@example.org', not None\n"
        "  shop.sync() on default                              another function"
    )


def test_a_failure_tells_of_options(kue: Kue, send: Any) -> None:
    send.using(delay=60).enqueue(17)

    assert said(kue.assert_enqueued, send.using(delay=5, queue="email"), 17) == (
        "shop.send(17) using(queue='email', delay=5) was not enqueued. "
        "1 job was enqueued, the nearest first:\n"
        "  shop.send(17) on default  queue is 'default', not 'email'; delay is 60, not 5"
    )


def test_a_failure_shows_ten_jobs_at_most(kue: Kue, send: Any) -> None:
    send.enqueue_many([(number,) for number in range(12)])

    lines = said(kue.assert_enqueued, send, 99).splitlines()
    assert (len(lines), lines[-1]) == (12, "  … and 2 more")


def test_a_failure_says_when_nothing_was(kue: Kue, send: Any) -> None:
    assert said(kue.assert_enqueued, send, 17) == "shop.send(17) was not enqueued. Nothing was."


def test_what_must_not_have_been_enqueued_is_shown(kue: Kue, send: Any) -> None:
    kue.assert_nothing_enqueued()
    kue.assert_not_enqueued(send)
    send.enqueue(17)
    send.enqueue(17)

    kue.assert_not_enqueued(send, 18)
    assert said(kue.assert_not_enqueued, send, 17) == (
        "shop.send(17) was enqueued, twice:\n  shop.send(17) on default\n  shop.send(17) on default"
    )
    assert said(kue.assert_nothing_enqueued).startswith("2 jobs were enqueued:\n  shop.send(17) on default")


def test_jobs_are_counted(kue: Kue, send: Any, sync: Any) -> None:
    send.enqueue_many([(1,), (1,), (2,)])
    sync.enqueue()

    assert len(kue.assert_count(4)) == 4
    assert [job.args for job in kue.assert_count(2, send, 1)] == [(1,), (1,)]
    kue.assert_count(3, send)
    kue.assert_count(0, send, 3)
    assert said(kue.assert_count, 1).startswith("4 jobs were enqueued, not 1:\n")
    assert said(kue.assert_count, 3, send, 1).startswith("shop.send(1) was enqueued twice, not 3.")


def test_arguments_that_no_call_could_have_are_the_tests_own_mistake(kue: Kue, send: Any) -> None:
    for check in (kue.assert_enqueued, kue.assert_not_enqueued):
        with pytest.raises(TypeError, match="shop.send: got an unexpected keyword argument 'cc'; it takes"):
            check(send, 17, cc="x")
    with pytest.raises(TypeError, match="is not a @job function"):
        kue.assert_enqueued(len, 17)


def test_functions_ask_the_mode_that_is_on(kue: Kue, send: Any) -> None:
    assert_nothing_enqueued()
    send.enqueue(17)

    assert assert_enqueued(send, 17).args == (17,)
    assert_not_enqueued(send, 18)
    assert_count(1)


def test_without_a_mode_they_say_how_to_have_one(send: Any) -> None:
    with pytest.raises(RuntimeError, match="use the pytest fixture kue, django_kue.testing.KueTestMixin"):
        assert_enqueued(send, 17)


def test_a_job_that_is_not_kept_was_enqueued_all_the_same(kue: Kue, send: Any) -> None:
    send.using(keep=0).enqueue(17)
    kue.drain()

    kue.assert_enqueued(send, 17)


def test_forgetting_begins_anew(kue: Kue, send: Any) -> None:
    send.enqueue(17)
    kue.clear()

    kue.assert_nothing_enqueued()
    assert kue.drain() == []
