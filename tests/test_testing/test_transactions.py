"""The test mode in Django's test cases: their transaction is the test's, and not the project's."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from django_kue import Job, JobDoesNotExist, get_queue, job, signals
from django_kue.models import Outbox
from django_kue.testing import Kue, KueTestMixin, fake, inline
from django_kue.testing.modes import active

ran: list[int] = []


@job(name="tests.transactions.receipt")
def receipt(order_id: int) -> int:
    ran.append(order_id)
    return order_id


@contextmanager
def signals_heard(receiver: Any) -> Iterator[None]:
    signals.job_enqueued.connect(receiver)
    try:
        yield
    finally:
        signals.job_enqueued.disconnect(receiver)


class CountsSignals:
    """How often job_enqueued was sent."""

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        ran.clear()
        self.sent: list[str] = []
        signals.job_enqueued.connect(self.hear)
        self.addCleanup(signals.job_enqueued.disconnect, self.hear)  # type: ignore[attr-defined]

    def hear(self, job: Job, **kwargs: Any) -> None:
        self.sent.append(job.id)


class InTestCase(CountsSignals, KueTestMixin, TestCase):
    def test_the_tests_own_transaction_holds_nothing_back(self) -> None:
        enqueued = receipt.enqueue(17)

        assert self.kue.assert_enqueued(receipt, 17).id == enqueued.id
        assert self.kue.drain()[0].result == 17
        assert self.sent == [enqueued.id]

    def test_a_job_can_be_looked_at_as_soon_as_it_is_enqueued(self) -> None:
        enqueued = receipt.enqueue(17)

        assert self.sent == [enqueued.id]  # as where there's no transaction
        assert enqueued.refresh().args == (17,)
        assert get_queue().counts()["waiting"] == 1
        assert enqueued.cancel().state == "cancelled"

    def test_so_can_one_whose_block_has_ended(self) -> None:
        with transaction.atomic():
            enqueued = receipt.enqueue(17)
            with pytest.raises(JobDoesNotExist):
                enqueued.refresh()

        assert enqueued.refresh().args == (17,)

    async def test_so_can_one_that_a_sync_view_enqueued(self) -> None:
        enqueued = await sync_to_async(transaction.atomic(receipt.enqueue))(17)

        assert (await enqueued.arefresh()).args == (17,)

    def test_many_jobs_of_one_block_come_in_their_order_whoever_looks_meanwhile(self) -> None:
        def look(job: Job, **kwargs: Any) -> None:
            job.refresh()

        with signals_heard(look), transaction.atomic():
            for number in range(200):
                receipt.enqueue(number)

        assert [job.args[0] for job in self.kue.jobs] == list(range(200))
        assert len(set(self.sent)) == len(self.sent) == 200

    def test_neither_does_an_outbox(self) -> None:
        boxed = receipt.using(outbox=True, delay=60)
        with transaction.atomic():
            enqueued = boxed.enqueue(17)
            self.kue.assert_nothing_enqueued()

        assert self.kue.assert_enqueued(boxed, 17).id == enqueued.id
        assert not Outbox.objects.exists()
        assert self.kue.drain()[0].result == 17
        assert self.sent == [enqueued.id]

    def test_neither_does_a_block_that_has_ended(self) -> None:
        with transaction.atomic():
            receipt.enqueue(17)
            with transaction.atomic():
                receipt.enqueue(18)

        self.kue.assert_count(2)

    async def test_an_async_test_sees_what_sync_code_enqueued_in_its_thread(self) -> None:
        """As a sync view does, which the test's async client asks."""

        def pay() -> Job:
            with transaction.atomic():
                return receipt.enqueue(17)

        enqueued = await sync_to_async(pay)()
        with pytest.raises(AssertionError, match="1 job was enqueued"):
            self.kue.assert_nothing_enqueued()
        assert self.kue.assert_enqueued(receipt, 17).id == enqueued.id
        assert self.sent == [enqueued.id]

    def test_what_was_rolled_back_was_not_enqueued(self) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            receipt.enqueue(17)
            raise ZeroDivisionError

        self.kue.assert_nothing_enqueued()
        assert self.kue.drain() == []

    def test_in_the_middle_of_a_block_it_waits_and_the_message_says_so(self) -> None:
        with transaction.atomic():
            receipt.enqueue(17)
            self.kue.assert_nothing_enqueued()
            with pytest.raises(AssertionError) as caught:
                self.kue.assert_enqueued(receipt, 17)

        assert str(caught.value) == (
            "tests.transactions.receipt(17) was not enqueued. Nothing was.\n"
            "1 job was waiting for the commit of a transaction that's still open:\n"
            "  tests.transactions.receipt(17)\n"
            "Check after the end of its atomic() block."
        )

    def test_captured_callbacks_are_djangos_own(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            receipt.enqueue(17)
        assert len(callbacks) == 1
        callbacks[0]()

        self.kue.assert_count(1, receipt, 17)
        assert len(self.sent) == 1

    def test_executed_callbacks_enqueue_once(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            with transaction.atomic():
                receipt.enqueue(17)
            self.kue.assert_count(1)  # looked at before they're executed
            receipt.enqueue(18)

        assert len(callbacks) == 2
        self.kue.assert_count(2)
        assert len(self.sent) == 2

    def test_what_came_before_the_mode_is_not_its_own(self) -> None:
        with fake() as inner:
            inner.assert_nothing_enqueued()
            receipt.enqueue(18)
        receipt.enqueue(19)

        inner.assert_count(1, receipt, 18)  # also after its end
        self.kue.assert_count(1, receipt, 19)

    def test_after_its_end_nothing_is_sent_anywhere(self) -> None:
        with fake() as inner:
            pass
        receipt.enqueue(17)

        inner.assert_nothing_enqueued()
        self.kue.assert_count(1)

    def test_jobs_of_jobs_are_drained(self) -> None:
        with transaction.atomic():
            receipt.enqueue(1)
        self.kue.drain()
        receipt.enqueue(2)
        self.kue.drain()

        assert ran == [1, 2]


class WithDataOfTheClass(KueTestMixin, TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        receipt.enqueue(1)
        receipt.using(on_commit=False).enqueue(2)
        with cls.captureOnCommitCallbacks(execute=True), transaction.atomic():
            receipt.enqueue(3)

    def test_a_test_begins_with_nothing(self) -> None:
        self.kue.assert_nothing_enqueued()

    def test_so_does_the_next(self) -> None:
        self.kue.assert_nothing_enqueued()

    def test_the_class_has_a_mode_of_its_own_for_its_set_up(self) -> None:
        assert sorted(job.args for job in type(self).kue.jobs) == [(1,), (2,), (3,)]


class InlineWithDataOfTheClass(KueTestMixin, TestCase):
    kue_mode = "inline"

    @classmethod
    def setUpTestData(cls) -> None:
        ran.clear()
        receipt.enqueue(1)
        cls.ran_at_once = ran == [1]

    def test_it_is_inline_there_as_well(self) -> None:
        assert self.ran_at_once
        self.kue.assert_nothing_enqueued()


def run_alone(case: type[unittest.TestCase]) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    return result


@pytest.mark.parametrize("goes_well", [True, False])
def test_the_mode_of_a_class_ends_with_it(goes_well: bool) -> None:
    class Receipts(KueTestMixin):
        @classmethod
        def setUpClass(cls) -> None:
            super().setUpClass()
            receipt.enqueue(1)
            assert goes_well

        def test_nothing(self) -> None:
            self.kue.assert_nothing_enqueued()

    assert run_alone(Receipts).wasSuccessful() == goes_well
    with pytest.raises(RuntimeError, match="Kue's test mode is off"):
        active()


class InlineInTestCase(CountsSignals, KueTestMixin, TestCase):
    kue_mode = "inline"

    def test_jobs_run_at_once(self) -> None:
        receipt.enqueue(17)

        assert ran == [17]

    def test_in_a_block_they_run_when_its_callbacks_do(self) -> None:
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            receipt.enqueue(17)
            assert ran == []

        assert ran == [17]


class InTransactionTestCase(KueTestMixin, TransactionTestCase):
    def test_a_commit_is_a_commit(self) -> None:
        with transaction.atomic():
            enqueued = receipt.enqueue(17)
            with pytest.raises(JobDoesNotExist):
                enqueued.refresh()
            self.kue.assert_nothing_enqueued()

        self.kue.assert_enqueued(receipt, 17)


@pytest.mark.django_db
def test_pytests_db_holds_nothing_back(kue: Kue) -> None:
    with transaction.atomic():
        receipt.enqueue(17)

    kue.assert_enqueued(receipt, 17)


@pytest.mark.django_db(transaction=True)
def test_with_real_transactions_inline_jobs_run_at_the_commit() -> None:
    ran.clear()
    with inline():
        with transaction.atomic():
            receipt.enqueue(17)
            assert ran == []
        assert ran == [17]


@fake()
def test_the_mode_can_be_a_decorator() -> None:
    receipt.enqueue(17)
