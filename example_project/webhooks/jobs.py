"""Notifying partners over HTTP: coroutines, because all they do is wait.

A coroutine function runs on the worker's event loop, hundreds at a time, beside the threads that run plain
functions. A sync job and an async job look the same to the code that enqueues them.
"""

from __future__ import annotations

import ssl

import httpx
from django.conf import settings
from django.utils import timezone
from django_kue import Backoff, Discard, Job, Retry, job

from storefront.models import Order
from webhooks.models import Delivery

PARTNERS = ("warehouse", "bookkeeping")
TOO_MANY_REQUESTS = 429
# Made once: it takes long enough to hold up every other coroutine of the loop.
TLS = ssl.create_default_context()


def announce(order: Order, partners: tuple[str, ...] = PARTNERS) -> list[Job]:
    """Tell all partners about an order. ``enqueue_many`` sends any number of jobs in a few round trips."""
    deliveries = [Delivery(order=order, partner=partner) for partner in partners]
    Delivery.objects.bulk_create(deliveries, ignore_conflicts=True)
    keys = Delivery.objects.filter(order=order, partner__in=partners).values_list("pk", flat=True)
    return deliver.enqueue_many([(key,) for key in keys])


# Backoff.exponential(0.5): after 0.5 s, 1 s, 2 s, … Jitter adds a little chance, so that jobs that failed in
# a partner's outage don't all return at once. A timeout cancels the coroutine where it waits, and counts as a
# failed attempt.
@job(
    queue="webhooks",
    attempts=4,
    backoff=Backoff.exponential(0.5, max=60, jitter=0.2),
    timeout=10,
    title="Delivery {delivery_id}",
)
async def deliver(delivery_id: int) -> int:
    """Post one delivery to its partner. Returns the HTTP status.

    Raises:
        Discard: the partner says that our message is wrong (4xx); sending it again won't make it right.
        Retry: the partner asks us to come back later (429), and says when.
        httpx.HTTPError: the partner is down or can't be reached; the backoff says when to try again.
    """
    delivery = await Delivery.objects.select_related("order").aget(pk=delivery_id)
    if delivery.delivered_at and delivery.answer:
        return delivery.answer  # an earlier run got through, and its worker died before it could report that
    answer = await post(delivery)
    delivery.answer = answer.status_code
    if answer.is_success:
        delivery.delivered_at = timezone.now()
    await delivery.asave(update_fields=["answer", "delivered_at"])

    if answer.status_code == TOO_MANY_REQUESTS:
        raise Retry(delay=float(answer.headers.get("Retry-After", 1)))
    if answer.is_client_error:
        raise Discard(f"{delivery.partner} refuses it: {answer.status_code} {answer.text}")
    answer.raise_for_status()
    return answer.status_code


async def post(delivery: Delivery) -> httpx.Response:
    """Send a delivery. The key lets a partner that gets it twice see that it's the same one."""
    async with httpx.AsyncClient(base_url=settings.PARTNER_URL, verify=TLS) as client:
        return await client.post(
            f"/hooks/{delivery.partner}",
            json={"order": delivery.order_id, "total_cents": delivery.order.total_cents},
            headers={"Idempotency-Key": str(delivery.key)},
        )
