"""Money: a job that may run twice, and must count once.

The rule for every job that changes something outside: choose the name of the change *before* the first try
(here ``reference``), send it with every try, and let the other side, and the database, refuse doubles.
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
    """A checkout: the order's row and its payment's job come into being together, or not at all.

    The job is written into the outbox, in the same transaction, and sent after the commit. Were that rolled
    back, there would be neither the order nor a job that looks for it; and should this process die between
    the commit and the sending, a worker sends it.
    """
    with transaction.atomic():
        order = Order.objects.create(customer=customer, total_cents=total_cents)
        return order, record_payment.enqueue(order.pk, f"order-{order.pk}", card)


# retry_on: what the network does to us is worth another try. All other exceptions are bugs of ours, or final;
# they fail at once, and someone looks.
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
    """Charge the customer's card and write the payment down. Returns the bank's name for the charge."""
    order = Order.objects.get(pk=order_id)
    if order.total_cents < SMALLEST_CENTS:
        raise Discard(f"{order.total_cents} cents: the bank takes no less than {SMALLEST_CENTS}")
    known = Payment.objects.filter(reference=reference).first()
    if known:
        return known.charge  # an earlier run did it all, and died before it could say so
    charged = charge(reference, order.total_cents, card)
    # get_or_create and the unique columns: should two runs come this far, the second finds the first's row.
    payment, _ = Payment.objects.get_or_create(
        reference=reference,
        defaults={"order": order, "charge": charged, "amount_cents": order.total_cents},
    )
    return payment.charge


# every: by elapsed time, whatever the clocks do. After an outage it comes once: one look is enough.
@job(queue="payments", every=timedelta(minutes=15), timeout=30)
def look_for_stuck_payments() -> list[int]:
    """Orders that have waited for their payment for more than an hour. Somebody should look at them."""
    long_ago = timezone.now() - timedelta(hours=1)
    stuck = Order.objects.filter(status=Order.Status.PLACED, placed_at__lt=long_ago)
    numbers = list(stuck.order_by("pk").values_list("pk", flat=True)[:100])
    current_job().log("%d orders wait for their payment", len(numbers))
    return numbers
