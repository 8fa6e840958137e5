"""Our bank's HTTP interface: the part that we use."""

from __future__ import annotations

import ssl

import httpx
from django.conf import settings

TLS = ssl.create_default_context()  # made once: reading all certificates takes a while


class CardDeclined(Exception):
    """The bank said no, and will say so again."""


def charge(reference: str, amount_cents: int, card: str) -> str:
    """Charge a card. The same reference is never charged twice, however often it's sent.

    Args:
        reference: our name for this payment; the bank keeps it as the key of the charge.
        card: the token that the bank gave the customer's browser; card numbers never reach us.

    Returns:
        The bank's name for the charge.

    Raises:
        CardDeclined: the bank refuses, and that's final.
        httpx.HTTPError: no answer, or not a useful one; the money may or may not have moved. Ask again.
    """
    answer = httpx.post(
        f"{settings.PARTNER_URL}/bank/charges",
        json={"amount_cents": amount_cents, "card": card},
        headers={"Idempotency-Key": reference},
        timeout=5,
        verify=TLS,
    )
    if answer.status_code == httpx.codes.PAYMENT_REQUIRED:
        raise CardDeclined(answer.text)
    answer.raise_for_status()
    return str(answer.json()["id"])
