"""Each line with a comment is a type error of this kind, and no other line is."""

from django_kue import JobContext, job, schedule


@job
def plain(order_id: int, *, copy_to: str | None = None) -> str:
    return f"{order_id} {copy_to}"


@job(takes_context=True)
def with_context(context: JobContext, order_id: int) -> int:
    return order_id


@job(queue="email")
async def in_a_coroutine(order_id: int) -> None: ...


plain.enqueue("17")  # arg-type
plain.enqueue()  # call-arg
plain.enqueue(17, "me")  # call-arg
plain.enqueue(17, copyto="me")  # call-arg
plain.using(priority="low").enqueue("17")  # arg-type
plain.enqueue_many([1, 2])  # list-item
plain.using(dely=60)  # call-arg
plain.using(attempts="5")  # arg-type
plain.using(retry_on=OSError)  # call-arg
plain.using(unique="{order_id}")  # arg-type
plain("17")  # arg-type
plain(17).bit_length()  # attr-defined
with_context.enqueue("17")  # arg-type
with_context.enqueue(JobContext(), 17)  # arg-type, call-arg
in_a_coroutine.enqueue("17")  # arg-type
job(delay=60)  # call-overload
job(atempts=5)  # call-overload
job(attempts="5")  # call-overload
job(cron=5)  # call-overload
job(retry_on=["OSError"])  # list-item
job(discard_on=[BaseException])  # list-item
job(unique=True, unique_for="waiting")  # arg-type
plain.using(unique=True, unique_for="waiting")  # arg-type
schedule(evry=60)  # call-arg
schedule(every="5m")  # arg-type
schedule(every=60)(print)  # type-var


async def use() -> None:
    await in_a_coroutine.aenqueue("17")  # arg-type
    await in_a_coroutine.aenqueue(17, 18)  # call-arg
    plain.aenqueue(17)  # unused-coroutine


@job(takes_context=True)  # arg-type
def no_context(order_id: int) -> None: ...
