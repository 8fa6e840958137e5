"""The test mode for ``unittest``'s and Django's test cases."""

from __future__ import annotations

import unittest
from contextlib import AbstractContextManager
from typing import Literal

from django_kue.testing.modes import Kue, fake, inline


class KueTestMixin(unittest.TestCase):
    """Kue's test mode for each test of a class, as ``self.kue``.

    The set-up of the class, including ``setUpTestData``, has a test mode of its own, ``cls.kue``: its jobs
    don't belong to any of the tests.

    >>> class ReceiptTests(KueTestMixin, TestCase):
    ...     def test_paying_sends_a_receipt(self):
    ...         self.client.post("/orders/17/pay")
    ...         self.kue.assert_enqueued(send_receipt, 17)
    """

    kue: Kue
    kue_mode: Literal["fake", "inline"] = "fake"

    @classmethod
    def setUpClass(cls) -> None:
        cls.kue = cls.enterClassContext(cls._mode())
        super().setUpClass()

    def setUp(self) -> None:
        self.kue = self.enterContext(self._mode())
        super().setUp()

    @classmethod
    def _mode(cls) -> AbstractContextManager[Kue]:
        return inline() if cls.kue_mode == "inline" else fake()
