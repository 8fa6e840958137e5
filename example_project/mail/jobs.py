"""E-mail: the classic background job. The customer's page doesn't wait for a mail server.

Read this file first: it shows the everyday options of ``@job``.
"""

from __future__ import annotations

import smtplib

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django_kue import Backoff, Discard, current_job, job

from storefront.models import Order


# Jobs take ids, not objects: by the time a job runs, the row may have changed, and the id finds it as it is.
#
# attempts and backoff: mail servers may refuse for a while. Wait 1 s, 2 s, 4 s, … at most 10 minutes.
# timeout: a server that never answers must not occupy one of our four slots forever.
# search_keys: get_queue("mail").find(order_id=17) answers "did this customer get a mail?".
@job(
    queue="mail",
    attempts=5,
    backoff=Backoff.exponential(1, max=600),
    timeout=30,
    title="Confirmation of order {order_id}",
    search_keys=("order_id",),
)
def send_confirmation(order_id: int) -> str:
    """Tell the customer that we have the order and the money. Returns the address."""
    order = Order.objects.get(pk=order_id)
    return send(order.customer, f"Your order {order.pk}", "confirmation", order=order)


# Somebody is waiting for this one: it overtakes everything that's less urgent in its queue.
@job(
    queue="mail", priority="high", attempts=3, backoff=2, timeout=30, title="Password reset of user {user_id}"
)
def send_password_reset(user_id: int) -> str:
    """Mail a link for choosing a new password. Returns the address."""
    # The secret link is made here, not by the caller: a job's arguments are stored, and staff can read them.
    user = get_user_model().objects.get(pk=user_id)
    token = default_token_generator.make_token(user)
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    link = settings.SITE_URL + reverse("password_reset_confirm", args=[uid, token])
    return send(user.email, "Choose a new password", "password_reset", link=link)


# Nobody is waiting for this one. `expires`: yesterday's newsletter isn't worth sending any more.
@job(
    queue="mail", priority="low", attempts=2, timeout=30, expires=24 * 3600, title="Newsletter for {address}"
)
def send_newsletter(address: str, issue: int) -> str:
    """Mail one issue of the newsletter to one reader. Returns the address."""
    return send(address, f"News from the shop, issue {issue}", "newsletter", issue=issue)


# Enqueued with a delay: `ask_for_review.using(delay=timedelta(days=7)).enqueue(order.pk)`.
@job(queue="mail", attempts=3, backoff=60, timeout=30, title="Review of order {order_id}?")
def ask_for_review(order_id: int) -> str:
    """Ask a customer how they like their order. Returns the address."""
    order = Order.objects.get(pk=order_id)
    return send(order.customer, "How do you like it?", "review", order=order)


def send(address: str, subject: str, template: str, **context: object) -> str:
    """Send one mail, and tell the server's permanent refusals from its temporary ones.

    Raises:
        Discard: the server will never accept it (SMTP 5xx); the job fails at once.
        smtplib.SMTPException: anything else; the job is tried again if its ``attempts`` allow it.
    """
    running = current_job().job  # None when this is called directly, in a shell or a test
    message = EmailMessage(
        subject,
        render_to_string(f"mail/{template}.txt", context),
        to=[address],
        # A job runs *at least* once: if its worker dies right after the server accepted the mail, it's sent
        # again. The job's id is the same in every run, so the reader's mail program can drop the duplicate.
        headers={"Message-ID": f"<{running.id}@shop.example>"} if running else {},
    )
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as refused:
        code, text = refused.recipients[address]
        if code >= 500:
            raise Discard(
                f"{address} is refused for good: {code} {text.decode(errors='replace')}"
            ) from refused
        raise
    return address
