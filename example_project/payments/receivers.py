"""What happens after a payment: signal receivers, as for any of Django's signals.

They run in the worker, after the job's outcome has been stored. ``sender`` is the ``@job`` function. A
receiver is for reactions: if the worker dies at this very moment, it isn't called again. What counts is the
Payment row that the job itself wrote.
"""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver
from django_kue import Job
from django_kue.signals import job_completed, job_failed

from mail.jobs import send_confirmation
from payments.jobs import record_payment
from storefront.models import Order


@receiver(job_completed, sender=record_payment)
def mark_paid(job: Job, **kwargs: Any) -> None:
    """Mark the order as paid, and write to the customer."""
    order_id = job.args[0]
    if Order.objects.filter(pk=order_id, status=Order.Status.PLACED).update(status=Order.Status.PAID):
        send_confirmation.enqueue(order_id)


@receiver(job_failed, sender=record_payment)
def mark_failed(job: Job, **kwargs: Any) -> None:
    """Mark the order as failed, for somebody to look at."""
    Order.objects.filter(pk=job.args[0], status=Order.Status.PLACED).update(
        status=Order.Status.PAYMENT_FAILED
    )
