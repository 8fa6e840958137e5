"""The test mode for ``unittest``'s and Django's test cases."""

from __future__ import annotations

import unittest
from typing import Literal

from django_kue.testing.modes import Kue, fake, inline


class KueTestMixin(unittest.TestCase):
    """Kue's test mode for each test of a class; ``self.kue`` is it.

    >>> class ReceiptTests(KueTestMixin, TestCase):  # doctest: +SKIP
    ...     def test_paying_sends_a_receipt(self):
    ...         self.client.post("/orders/17/pay")
    ...         self.kue.assert_enqueued(send_receipt, 17)
    """

    kue: Kue
    kue_mode: Literal["fake", "inline"] = "fake"

    def setUp(self) -> None:
        self.kue = self.enterContext(inline() if self.kue_mode == "inline" else fake())
        super().setUp()
