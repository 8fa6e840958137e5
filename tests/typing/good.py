"""How jobs are used: mypy --strict has nothing to say about this file."""

from datetime import timedelta
from typing import assert_type

from django_kue import Backoff, Job, JobContext, job, schedule, schedules
from django_kue.states import State


@job
def plain(order_id: int, *, copy_to: str | None = None) -> str:
    return f"{order_id} {copy_to}"


@job(queue="email", priority="high", attempts=5, backoff=Backoff.exponential(2, max=600), timeout=30)
def with_options(order_id: int) -> str:
    return str(order_id)


@job(backoff=lambda attempt: attempt * 10.0, retry_on=(OSError,), discard_on=KeyError, unique="{order_id}")
async def in_a_coroutine(order_id: int) -> dict[str, int]:
    return {"order": order_id}


@job(takes_context=True, title="Order {order_id}")
def with_context(context: JobContext, order_id: int) -> int:
    context.log("order %d", order_id)
    return order_id


WORTH_A_RETRY = [ConnectionError, TimeoutError]
BEFORE_IT_RUNS = [State.WAITING, State.DELAYED]


class CardDeclined(Exception): ...


@job(retry_on=[ConnectionError], discard_on=[CardDeclined], unique=True, unique_for=["waiting", "delayed"])
def with_lists(order_id: int) -> int:
    return order_id


@job(retry_on={OSError}, discard_on=frozenset({KeyError}), unique=True, unique_for={"waiting", State.ACTIVE})
def with_sets(order_id: int) -> int:
    return order_id


@job(
    retry_on=WORTH_A_RETRY, unique=True, unique_for=BEFORE_IT_RUNS, search_keys=["order_id"], aliases=["old"]
)
def with_lists_of_others(order_id: int) -> int:
    return order_id


@job()
def without_arguments() -> None: ...


@job(cron="*/5 * * * *")
def every_five_minutes() -> None: ...


@schedule(cron="30 2 * * mon", args=("north",), name="north", timezone="Europe/Berlin")
@schedule(every=timedelta(hours=1), kwargs={"region": "south"}, name="south", overlap=False)
@job(queue="email")
def report(region: str) -> int:
    return len(region)


assert_type(report.enqueue("east"), Job)
assert_type(report("east"), int)
assert_type(schedules.create("west", report, every=60, args=["west"]), schedules.Schedule)
assert_type(schedules.run_now("west"), Job)


assert_type(plain.enqueue(17), Job)
assert_type(plain.enqueue(order_id=17, copy_to="me"), Job)
assert_type(plain(17), str)
assert_type(with_options.using(delay=60, priority="low", title="Receipt 17").enqueue(17), Job)
assert_type(with_options.using(delay=timedelta(days=1), backoff=None, timeout=None)(17), str)
assert_type(plain.enqueue_many([(1,), (2,), {"order_id": 3}]), list[Job])
assert_type(with_context.enqueue(17), Job)
assert_type(with_context(17), int)
assert_type(with_lists.enqueue(17), Job)
assert_type(with_lists(17), int)
assert_type(with_sets(17), int)
assert_type(with_lists_of_others(17), int)
assert_type(with_lists.using(unique=True, unique_for=["active"]).enqueue(17), Job)
assert_type(with_lists.using(unique=True, unique_for=timedelta(hours=1))(17), int)
assert_type(without_arguments.enqueue(), Job)
assert_type(plain.name, str)
assert_type(plain.is_async, bool)


async def use_schedules() -> None:
    assert_type(await schedules.aget("west"), schedules.Schedule)
    assert_type(await schedules.acreate("w", report, every=60, args=["west"]), schedules.Schedule)


async def use() -> None:
    assert_type(await in_a_coroutine(17), dict[str, int])
    assert_type(await in_a_coroutine.aenqueue(17), Job)
    assert_type(await plain.aenqueue_many([(1,)]), list[Job])
    assert_type(await with_context.using(on_commit=False).aenqueue(17), Job)
