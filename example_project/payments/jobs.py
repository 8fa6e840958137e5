"""Payments: a job that may run twice, but must charge only once.

The rule for every job that changes something outside: choose a name for the change *before* the first attempt
(here ``reference``), send it with every attempt, and let the other side and the database refuse duplicates.
"""

from __future__ import annotations

from datetime import timedelta

import httpx
from django.db import transaction
from django.utils import timezone
from django_kue import Backoff, Discard, Job, current_job, job

from payments.bank import CardDeclined, charge
from payments.models import Payment
from storefront.models import Order

SMALLEST_CENTS = 100


def place_order(customer: str, total_cents: int, card: str) -> tuple[Order, Job]:
    """Check out: create the order's row and its payment's job, both or neither.

    The job is written into the outbox, in the same transaction, and sent after the commit. If the transaction
    is rolled back, there's neither an order nor a job that looks for it. If this process dies between the
    commit and the sending, a worker sends the job.
    """
    with transaction.atomic():
        order = Order.objects.create(customer=customer, total_cents=total_cents)
        return order, record_payment.enqueue(order.pk, f"order-{order.pk}", card)


# retry_on: network trouble is worth another attempt. Any other exception is a bug of ours, or final: the job
# fails at once, and somebody looks at it.
@job(
    queue="payments",
    outbox=True,
    attempts=5,
    backoff=Backoff.exponential(0.5, max=60),
    timeout=15,
    retry_on=(httpx.HTTPError,),
    discard_on=(CardDeclined,),
    title="Payment of order {order_id}",
    search_keys=("order_id",),
)
def record_payment(order_id: int, reference: str, card: str) -> str:
    """Charge the customer's card and record the payment. Returns the bank's name for the charge."""
    order = Order.objects.get(pk=order_id)
    if order.total_cents < SMALLEST_CENTS:
        raise Discard(f"{order.total_cents} cents: the bank takes no less than {SMALLEST_CENTS}")
    known = Payment.objects.filter(reference=reference).first()
    if known:
        return known.charge  # an earlier run did everything, and died before it could report that
    charged = charge(reference, order.total_cents, card)
    # get_or_create and the unique columns: if two runs get this far, the second finds the first one's row.
    payment, _ = Payment.objects.get_or_create(
        reference=reference,
        defaults={"order": order, "charge": charged, "amount_cents": order.total_cents},
    )
    return payment.charge


# every: by elapsed time, whatever the clocks do. After an outage it runs once: one look is enough.
@job(queue="payments", every=timedelta(minutes=15), timeout=30)
def look_for_stuck_payments() -> list[int]:
    """Find orders that have waited for their payment for more than an hour, for somebody to look at."""
    long_ago = timezone.now() - timedelta(hours=1)
    stuck = Order.objects.filter(status=Order.Status.PLACED, placed_at__lt=long_ago)
    numbers = list(stuck.order_by("pk").values_list("pk", flat=True)[:100])
    current_job().log("%d orders are waiting for their payment", len(numbers))
    return numbers
