"""The store in memory tells the same as Redis does: one story is told by both, and compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.test import override_settings

from django_kue import IllegalTransition, Job, JobDoesNotExist, get_queue, queues
from django_kue.testing import fake
from django_kue.testing.worker import WorkerThread
from tests.app.jobs import add, fail, noop
from tests.settings import KUE

NEEDS_REDIS = True  # see conftest.py


def facts(job: Job) -> Any:
    """What of a job doesn't depend on the moment, the id or the worker."""
    error = job.error.type if job.error else None
    due = bool(job.run_at), bool(job.started_at), bool(job.finished_at)
    return (
        job.name, job.queue, job.args, job.kwargs, job.state, job.priority, job.attempts, job.attempts_made,
        job.progress, job.result, job.title, error, due, job.is_parked,
    )  # fmt: skip


def tried(verb: Callable[[], Any]) -> str:
    try:
        verb()
    except (IllegalTransition, JobDoesNotExist) as error:
        return type(error).__name__
    return "done"


def story(run: Callable[[], None]) -> list[Any]:
    """What's seen while jobs are enqueued, steered and run."""
    seen: list[Any] = []
    queue = get_queue("other")
    here = add.using(queue="other")

    def look() -> None:
        seen.append(queue.counts())
        for state in ("waiting", "delayed", "completed", "failed", "cancelled"):
            for newest_first in (True, False):
                page = queue.jobs(state, newest_first=newest_first, limit=50)
                # What finishes in one millisecond has no order.
                order = (
                    page if state in ("waiting", "delayed") else sorted(page, key=lambda job: str(job.args))
                )
                seen.append([facts(job) for job in order])

    jobs = [here.using(priority=priority).enqueue(priority) for priority in (0, 5, -5, 5)]
    jobs += here.enqueue_many([(10,), {"a": 11, "b": 1}])
    jobs.append(here.using(delay=3600, search_keys=["a"]).enqueue(20))
    jobs.append(here.using(delay=7200, title="The last", expires=5).enqueue(21))
    look()
    seen.append([facts(job) for job in queue.find(a=20)])
    unique = here.using(unique=True)
    first = unique.enqueue(30)
    seen.append((unique.enqueue(30).id == first.id, unique.enqueue(31).id == first.id))
    unique_for = unique.using(unique_for=60)
    seen.append(unique_for.enqueue(40).id == unique_for.enqueue(40).id)
    for verb in ("promote", "retry", "cancel", "remove"):
        seen.append([tried(getattr(job, verb)) for job in (jobs[6], jobs[1])])
        look()
    jobs[0].set_priority(50)
    jobs[4].set_priority(-50)
    look()
    seen.append((queue.pause(), queue.pause(), queue.is_paused, queue.resume(), queue.is_paused))
    fail.using(queue="other", attempts=2).enqueue("no")
    noop.using(queue="other", keep=0).enqueue()
    run()
    look()
    [failed] = queue.jobs("failed")
    seen.append([(entry.attempt, entry.outcome, entry.delay) for entry in failed.runs()])
    seen.append(tried(first.retry))
    seen.append(tried(unique.enqueue(30).retry))
    seen.append([facts(failed.retry()), queue.retry_failed()])
    look()
    seen.append((queue.clean("completed"), queue.clean("cancelled"), queue.empty()))
    look()
    seen.append([one.name for one in queues()])
    return seen


def told_by_both(story: Callable[[Callable[[], None]], list[Any]]) -> list[Any]:
    """What the story sees, which is the same with Redis and a worker as in memory."""

    def work() -> None:
        WorkerThread("other", threads=1, is_burst=True).start().join()

    by_redis = story(work)
    with fake() as kue:
        by_memory = story(lambda: kue.drain(within=0, raise_failures=False) and None)

    for number, (redis, memory) in enumerate(zip(by_redis, by_memory, strict=True)):
        assert memory == redis, f"step {number}"
    return by_memory


def test_memory_and_redis_tell_the_same_story() -> None:
    told_by_both(story)


def test_so_they_do_of_a_queue_that_keeps_nothing() -> None:
    def story(run: Callable[[], None]) -> list[Any]:
        queue = get_queue("other")
        done, bad = add.using(queue="other").enqueue(2), fail.using(queue="other", attempts=1).enqueue("no")
        kept = add.using(queue="other", keep=60).enqueue(3)
        given_up = noop.using(queue="other", delay=60).enqueue()
        given_up.cancel()
        run()
        jobs = (done, bad, kept, given_up)
        return [queue.counts(), [tried(job.refresh) for job in jobs], done.wait(timeout=5)]

    keeps_none = {"KEEP_COMPLETED": 0, "KEEP_FAILED": 0, "KEEP_CANCELLED": 0}
    with override_settings(KUE=KUE | {"QUEUES": {"other": keeps_none}}):
        counts, tries, result = told_by_both(story)

    assert counts == dict.fromkeys(counts, 0) | {"completed": 1}
    assert tries == ["JobDoesNotExist", "JobDoesNotExist", "done", "JobDoesNotExist"]
    assert result == 4


def test_a_queue_keeps_its_newest_finished_jobs_and_those_that_say_so_themselves() -> None:
    """In memory exactly so many: Redis, which works by batches, may hold some more for a while."""
    with override_settings(KUE=KUE | {"QUEUES": {"other": {"KEEP_COMPLETED": 2}}}), fake() as kue:
        here = add.using(queue="other")
        jobs = [here.using(keep=60).enqueue(0), *here.enqueue_many([(1,), (2,), (3,)])]
        kue.drain()

        assert [tried(job.refresh) for job in jobs] == ["done", "JobDoesNotExist", "done", "done"]
        assert [job.result for job in kue.jobs] == [2, 3, 4, 5]
