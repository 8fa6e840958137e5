"""``@task`` functions are jobs, on the same queues and workers; Django sees its own kind of result."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connections, transaction
from django.test import override_settings

from django_kue import Backoff, EnqueueError, Job, bulk, execution, get_queue, registry, signals
from django_kue.execution import Run
from django_kue.options import RunRules
from django_kue.states import State
from django_kue.tasks import KueBackend
from django_kue.tasks.api import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from django_kue.tasks.results import past_runs
from django_kue.testing import fake
from django_kue.testing.worker import WorkerThread
from tests.conftest import redis_client
from tests.test_engine.hands import STOPPED, Hands, job_of, put_one, retried
from tests.test_tasks import functions
from tests.test_tasks.functions import add

KUE = "django_kue.tasks.KueBackend"
RETRYING = {"attempts": 3, "backoff": 0}


def tasks(options: dict[str, Any] | None = None, **backends: Any) -> Any:
    return override_settings(TASKS={"default": {"BACKEND": KUE, "OPTIONS": options or {}}, **backends})


@pytest.fixture(autouse=True)
def _kue(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test's tasks leave behind is forgotten: the registry, and who listens to signals."""
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))
    for signal in signals.BY_EVENT.values():
        monkeypatch.setattr(signal, "receivers", list(signal.receivers))
    functions.attempts_seen.clear()
    with tasks():
        yield
    for signal in signals.BY_EVENT.values():
        signal.sender_receivers_cache.clear()


def work() -> None:
    """A worker runs all that waits, and has told of it."""
    WorkerThread(is_burst=True).start().join()


@pytest.fixture
def heard() -> Iterator[list[tuple[str, Any, Any]]]:
    """Django's signals: which, of what status, and the exception at hand."""
    told: list[tuple[str, Any, Any]] = []
    receivers = []
    for name, signal in (("enqueued", task_enqueued), ("started", task_started), ("finished", task_finished)):

        def hear(sender: Any, task_result: Any, name: str = name, **kwargs: Any) -> None:
            told.append((name, task_result, sys.exc_info()[1]))

        signal.connect(hear)
        receivers.append((signal, hear))
    yield told
    for signal, hear in receivers:
        signal.disconnect(hear)


# ── a task is a job ──


def test_every_feature_is_supported() -> None:
    backend = task_backends["default"]

    assert isinstance(backend, KueBackend)
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


def test_a_task_waits_on_its_queue_as_the_job_whose_id_is_the_results() -> None:
    result = add.using(queue_name="email", priority=7).enqueue(1, b=5)

    job = Job.get(result.id)
    assert (job.name, job.queue, job.priority, job.state) == (add.module_path, "email", 7, State.WAITING)
    assert (job.args, job.kwargs) == ((1,), {"b": 5})
    assert (result.status, result.args, result.kwargs) == (TaskResultStatus.READY, [1], {"b": 5})
    assert result.enqueued_at == job.created_at
    assert result.task == add.using(queue_name="email", priority=7)


def test_a_worker_runs_it_and_the_result_tells_of_it() -> None:
    result = add.enqueue(1)
    work()

    assert add.get_result(result.id).return_value == 3
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, 3, 1)
    assert result.worker_ids == [Job.get(result.id).worker]
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at


def test_a_priority_that_a_task_does_not_name_is_djangos_not_the_queues() -> None:
    result = add.using(queue_name="email").enqueue(1)  # the queue's own is high

    assert Job.get(result.id).priority == result.task.priority == 0


def test_tasks_of_a_higher_priority_run_first() -> None:
    first = [add.using(priority=priority).enqueue(1).id for priority in (0, 100, -100, 1)]

    order = [job.id for job in get_queue().jobs("waiting", newest_first=False)]
    assert order == [first[1], first[3], first[0], first[2]]


def test_run_after_delays_it() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)

    result = add.using(run_after=later).enqueue(1)

    job = Job.get(result.id)
    assert job.state is State.DELAYED
    assert job.run_at is not None
    assert abs(job.run_at - later) < timedelta(milliseconds=2)
    assert add.get_result(result.id).status == TaskResultStatus.READY


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin")
def test_a_naive_run_after_is_in_the_projects_time_zone() -> None:
    result = add.using(run_after=datetime(2031, 7, 1, 12)).enqueue(1)

    assert Job.get(result.id).run_at == datetime(2031, 7, 1, 10, tzinfo=UTC)


def test_an_operator_can_run_it_again_as_any_job() -> None:
    result = add.enqueue(20, b=3)
    work()

    copy = bulk.copy_of(Job.get(result.id))
    work()

    assert add.get_result(copy.id).return_value == 23


async def test_async_code_enqueues_and_reads_without_a_thread() -> None:
    result = await functions.aadd.aenqueue(1)
    await asyncio.to_thread(work)

    assert (await functions.aadd.aget_result(result.id)).return_value == 3
    await result.arefresh()
    assert result.status == TaskResultStatus.SUCCESSFUL


# ── retries, errors ──


@pytest.mark.parametrize("task", [functions.fail_until, functions.afail_until], ids=lambda task: task.name)
def test_retried_attempts_show_in_the_result(task: Any) -> None:
    with tasks(RETRYING):
        result = task.enqueue(3)
        work()
        result.refresh()

    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.return_value in (3, result.id)
    assert result.attempts == 3
    assert len(set(result.worker_ids)) == 1
    assert [error.exception_class for error in result.errors] == [ConnectionError] * 2
    assert [error.traceback.splitlines()[-1] for error in result.errors] == [
        "ConnectionError: attempt 1 failed",
        "ConnectionError: attempt 2 failed",
    ]
    assert result.started_at < result.last_attempted_at


def test_a_context_knows_the_attempts_before() -> None:
    with tasks(RETRYING):
        functions.fail_until.enqueue(3)
        work()

    running = TaskResultStatus.RUNNING
    assert functions.attempts_seen == [(1, 0, running), (2, 1, running), (3, 2, running)]


def test_a_failed_task_has_all_of_its_errors_and_no_value() -> None:
    with tasks(RETRYING):
        result = functions.fail_until.enqueue(9)
        work()
        result.refresh()

    assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.FAILED, 3, 3)
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018


def test_attempts_that_are_not_remembered_count_all_the_same() -> None:
    kue = {"PREFIX": "kue", "QUEUES": {"default": {}}, "MAX_RUNS": 1}
    with tasks(RETRYING), override_settings(KUE=kue):
        result = functions.fail_until.enqueue(3)
        work()
        result.refresh()

    assert functions.attempts_seen[-1][0] == 3
    assert result.attempts == 3
    assert result.worker_ids[0] == "(forgotten)"


def test_a_job_that_is_run_again_by_hand_begins_with_fresh_attempts() -> None:
    result = functions.fail_until.enqueue(2)
    work()
    Job.get(result.id).retry()
    result.refresh()
    assert (result.status, result.attempts, result.errors) == (TaskResultStatus.READY, 0, [])

    work()
    result.refresh()

    assert (result.attempts, len(result.errors)) == (1, 1)


def test_a_cancelled_task_is_failed_and_says_why() -> None:
    result = add.enqueue(1)
    Job.get(result.id).cancel()
    result.refresh()

    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 0)
    assert result.errors[0].exception_class_path == "django_kue.errors.JobCancelled"


def test_the_class_of_a_stored_error_is_never_imported() -> None:
    result = functions.fail.enqueue()
    work()
    result.refresh()
    [error] = result.errors
    assert error.exception_class is ValueError
    assert "antigravity" not in sys.modules

    object.__setattr__(error, "exception_class_path", "antigravity.geohash")

    with pytest.raises(ImportError, match="no loaded module has"):
        error.exception_class  # noqa: B018
    assert "antigravity" not in sys.modules


# ── Django's rules for values ──


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ((1, (2,)), [1, [2]]),
        (b"text", "text"),
        ({1: {"a": None}}, {"1": {"a": None}}),
        ({"$date": 1}, {"$date": 1}),
    ],
    ids=repr,
)
def test_arguments_and_results_are_json_by_djangos_rules(given: Any, stored: Any) -> None:
    result = functions.give.enqueue(given)
    work()
    result.refresh()

    assert Job.get(result.id).args == (stored,)
    assert result.args == [stored]
    assert result.return_value == stored


def test_what_is_not_json_is_refused_though_a_job_would_take_it() -> None:
    with pytest.raises(TypeError, match="Unsupported type"):
        functions.give.enqueue(datetime.now(UTC))

    assert get_queue().counts()["waiting"] == 0


def test_a_result_that_is_not_json_fails_the_task_at_once() -> None:
    with tasks(RETRYING):
        result = functions.give_odd.enqueue()
        work()
        result.refresh()

    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)
    assert result.errors[0].exception_class is TypeError
    assert "Unsupported type" in result.errors[0].traceback


def test_arguments_that_do_not_fit_the_function_are_an_error_at_once() -> None:
    with pytest.raises(EnqueueError, match="missing a required argument: 'a'"):
        add.enqueue()


# ── results of what's gone ──


def forget(function: Any) -> None:
    for name in [name for name, known in registry._by_name.items() if name == function.module_path]:
        del registry._by_name[name]


def test_the_result_of_a_removed_function_stays_readable() -> None:
    result = add.enqueue(1)
    work()
    forget(add)

    found = task_backends["default"].get_result(result.id)

    assert (found.return_value, found.args) == (3, [1])
    assert found.task.module_path == add.module_path
    found.refresh()


def test_the_task_of_a_removed_function_cannot_be_enqueued_or_called() -> None:
    result = add.enqueue(1)
    forget(add)

    gone = task_backends["default"].get_result(result.id).task

    with pytest.raises(InvalidTask, match="No function .*add is known here any more"):
        gone.enqueue(1)
    with pytest.raises(LookupError, match="no function .*add is known here any more"):
        gone.call(1)


def test_a_result_on_a_queue_that_is_not_declared_any_more_stays_readable() -> None:
    result = add.using(queue_name="email").enqueue(1)

    with override_settings(KUE={"PREFIX": "kue"}):
        assert task_backends["default"].get_result(result.id).task.queue_name == "email"


def test_there_is_no_result_of_an_unknown_id() -> None:
    for unknown in ("123", "default.AAAAAAAAAAAAAAAAAAAAAA"):
        with pytest.raises(TaskResultDoesNotExist):
            task_backends["default"].get_result(unknown)


# ── signals ──


def test_signals_are_sent_once_each(heard: list[Any]) -> None:
    result = add.enqueue(1)
    work()

    assert [(name, told.id, told.status) for name, told, _ in heard] == [
        ("enqueued", result.id, TaskResultStatus.READY),
        ("started", result.id, TaskResultStatus.RUNNING),
        ("finished", result.id, TaskResultStatus.SUCCESSFUL),
    ]
    assert heard[-1][1].return_value == 3
    assert heard[-1][1].attempts == 1


def test_task_finished_is_sent_while_the_exception_is_at_hand(heard: list[Any]) -> None:
    with tasks(RETRYING):
        functions.fail_until.enqueue(9)
        work()

    names = [name for name, _, _ in heard]
    assert names == ["enqueued", "started", "started", "started", "finished"]
    _, told, exception = heard[-1]
    assert str(exception) == "attempt 3 failed"
    assert (told.status, told.attempts, len(told.errors)) == (TaskResultStatus.FAILED, 3, 3)


def test_a_task_that_was_cancelled_has_finished(heard: list[Any]) -> None:
    Job.get(add.enqueue(1).id).cancel()

    assert [name for name, _, _ in heard] == ["enqueued", "finished"]


def test_nobody_listens_to_jobs_where_there_are_no_tasks() -> None:
    """Each receiver of a signal costs every job."""
    code = "import django; django.setup(); import sys; sys.exit('django_kue.tasks' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)


# ── transactions ──


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_is_sent_after_the_commit(heard: list[Any]) -> None:
    with transaction.atomic():
        result = add.enqueue(1)
        with pytest.raises(TaskResultDoesNotExist):
            add.get_result(result.id)
        assert heard == []

    assert add.get_result(result.id).status == TaskResultStatus.READY
    assert [name for name, _, _ in heard] == ["enqueued"]


@pytest.mark.django_db(transaction=True)
def test_an_option_sends_it_at_once() -> None:
    with tasks({"on_commit": False}), transaction.atomic():
        result = add.enqueue(1)

        assert add.get_result(result.id).status == TaskResultStatus.READY


def test_outside_a_transaction_no_database_connection_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(alias: str) -> None:
        raise AssertionError("a connection was made")

    for alias in connections:
        if hasattr(connections._connections, alias):
            monkeypatch.delattr(connections._connections, alias)

    monkeypatch.setattr(connections, "create_connection", refuse)

    assert Job.get(add.enqueue(1).id).state is State.WAITING


# ── what's wrong in the settings ──


def test_a_queue_that_is_not_declared_is_an_invalid_task() -> None:
    with pytest.raises(InvalidTask, match="No queue 'emial' is declared. Did you mean 'email'"):
        add.using(queue_name="emial")


def test_queues_of_the_backend_are_all_unless_it_names_some() -> None:
    with tasks(narrow={"BACKEND": KUE, "QUEUES": ["email"]}):
        assert add.using(queue_name="email", backend="narrow").queue_name == "email"
        with pytest.raises(InvalidTask, match="Queue 'default' is not valid for backend"):
            add.using(backend="narrow")


def checked(**backend: Any) -> list[Any]:
    with override_settings(TASKS={"default": {"BACKEND": KUE, **backend}}):
        return task_backends["default"].check()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"QUEUES": ["email", "post"]}, 'TASKS["default"]["QUEUES"] names \'post\''),
        ({"OPTIONS": {"attempts": 0}}, 'TASKS["default"]["OPTIONS"]: attempts must be a whole number from 1'),
        ({"OPTIONS": {"atempts": 3}}, 'TASKS["default"]["OPTIONS"] doesn\'t take \'atempts\'; it takes '),
        ({"OPTIONS": {"title": "x"}}, 'TASKS["default"]["OPTIONS"] doesn\'t take \'title\''),
    ],
    ids=repr,
)
def test_each_mistake_in_the_settings_is_an_error_of_the_check(wrong: dict[str, Any], said: str) -> None:
    [error] = checked(**wrong)

    assert error.id == "django_kue.E006"
    assert error.msg.startswith(said)
    assert error.hint


@pytest.mark.django_db  # Django 6.1's own checks ask the database
def test_good_settings_pass_djangos_check() -> None:
    assert checked(QUEUES=["email"], OPTIONS={**RETRYING, "timeout": 5, "keep": 60, "unique": True}) == []
    assert run_checks() == []


def test_wrong_options_are_an_error_at_use_too() -> None:
    with tasks({"attempts": 0}), pytest.raises(Exception, match="attempts must be a whole number"):
        add.enqueue(1)


def test_options_of_another_backend_hold_for_the_tasks_that_are_sent_there() -> None:
    with tasks(stubborn={"BACKEND": KUE, "OPTIONS": {"attempts": 7, "timeout": 5}}):
        plain, stubborn = add.enqueue(1), add.using(backend="stubborn").enqueue(1)

    assert (Job.get(plain.id).attempts, Job.get(stubborn.id).attempts) == (1, 7)


def test_what_another_backend_leaves_open_the_queue_decides() -> None:
    stubborn = {"BACKEND": KUE, "OPTIONS": {"attempts": 20}}
    with tasks({"attempts": 3, "backoff": 10, "timeout": 60, "outbox": False}, stubborn=stubborn):
        fresh = functions.task(functions.never_enqueued_before)
        plain, other = fresh.enqueue(), fresh.using(backend="stubborn").enqueue()
        rules = [rules_of(result.id) for result in (plain, other)]
    assert [(one.attempts, one.backoff, one.timeout) for one in rules] == [
        (3, Backoff.fixed(10), 60),
        (20, None, None),
    ]


def rules_of(job_id: str) -> RunRules:
    """What holds for the job's runs."""
    queue, key = job_id.split(".")
    run = Run(queue, key.encode(), b"1|1|w", redis_client().hget(f"kue:{{{queue}}}:d", key), 1, 1.0)
    assert execution.load(run) is None
    assert run.rules is not None
    return run.rules


@pytest.mark.parametrize(
    ("own", "others"),
    [
        ({}, {"backoff": lambda attempt: 1.0}),
        ({}, {"retry_on": (ConnectionError,)}),
        ({"discard_on": (ConnectionError,)}, {}),
        ({"keep": 60}, {}),
    ],
    ids=["a function", "retry_on", "discard_on", "keep"],
)
def test_what_another_backend_cannot_have_of_a_task_is_an_invalid_task(
    own: dict[str, Any], others: dict[str, Any]
) -> None:
    [name] = own or others
    with tasks({"timeout": 60, **own}, other={"BACKEND": KUE, "OPTIONS": others}):
        fresh = functions.task(functions.never_enqueued_before)
        with pytest.raises(InvalidTask, match=rf'on TASKS\["other"\]: {name} can.*@task\(backend=…\)'):
            fresh.using(backend="other")
        fresh.enqueue()


def test_what_two_backends_have_in_common_neither_minds() -> None:
    common = {"backoff": backoff_by_attempt, "retry_on": (ConnectionError,), "keep": 60}
    with tasks(common, other={"BACKEND": KUE, "OPTIONS": {**common, "attempts": 2}}):
        assert Job.get(add.using(backend="other").enqueue(1).id).attempts == 2


def backoff_by_attempt(attempt: int) -> float:
    return 1.0


def test_what_holds_only_together_can_be_taken_back() -> None:
    unique = {"unique": True, "unique_for": 60, "outbox": True}
    with tasks(unique, other={"BACKEND": KUE, "OPTIONS": {"on_commit": False}}):
        assert add.enqueue(1).id == add.enqueue(1).id
        one, two = (add.using(backend="other").enqueue(1) for _ in range(2))
        assert one.id != two.id


def test_unique_tasks_are_one_job() -> None:
    with tasks({"unique": True}):
        assert add.enqueue(1).id == add.enqueue(1).id
        assert add.enqueue(2).id != add.enqueue(1).id


# ── what may run ──


def module_with(**names: Any) -> ModuleType:
    module = ModuleType("shop.tasks")
    vars(module).update(names)
    return module


def test_tasks_of_other_backends_are_known_once_their_module_is_found() -> None:
    with tasks(now={"BACKEND": DUMMY}):
        other = add.using(backend="now")
        assert registry.get(add.module_path) is None

        task_backends["default"].adopt([module_with(other=other, number=1)])

    assert registry.get(add.module_path) is not None


def test_a_name_in_redis_that_is_no_task_runs_nothing_and_imports_nothing() -> None:
    result = add.enqueue(1)
    client = redis_client()
    [(key, record)] = client.hgetall("kue:{default}:d").items()
    client.hset("kue:{default}:d", key, record.replace(add.module_path.encode(), b"antigravity.geohash"))

    work()

    assert Job.get(result.id).is_parked
    assert "antigravity" not in sys.modules


def test_a_generator_function_cannot_be_a_task() -> None:
    with pytest.raises(InvalidTask, match="a generator function would never run"):
        functions.task(generator)


def generator() -> Iterator[int]:
    yield 1


DUMMY = f"{KueBackend.__mro__[1].__module__.removesuffix('.base')}.dummy.DummyBackend"


# ── Kue's test mode ──


def test_the_test_mode_knows_tasks() -> None:
    with fake() as kue:
        result = add.using(priority=5).enqueue(1)

        kue.assert_enqueued(add, 1)
        kue.assert_enqueued(add, a=1, b=2)
        kue.assert_enqueued(add.using(priority=5), 1)
        kue.assert_not_enqueued(add.using(priority=6), 1)
        with tasks(RETRYING):
            failing = functions.fail_until.enqueue(2)
            kue.drain()
            failing.refresh()
        result.refresh()

    assert result.return_value == 3
    assert (failing.attempts, len(failing.errors)) == (2, 1)
    assert redis_client().keys() == []


def test_a_run_that_was_cut_off_is_no_attempt_of_a_task() -> None:
    key, hands = put_one(options={"attempts": 9}), Hands()
    hands.settle(hands.take_one(), retried())
    hands.settle(hands.take_one(), STOPPED)
    job = job_of(key)
    assert [run.outcome for run in past_runs(job, job.runs())] == ["retried"]
