"""Which jobs the demo enqueues, and how each of them has to end. Trouble is planned, so that it can be told
from trouble that isn't."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django_kue import Job, get_queue, queues

from images.jobs import make_sizes
from images.models import Photo
from mail.jobs import ask_for_review, send_newsletter, send_password_reset
from payments.jobs import place_order
from reports.jobs import sales_report
from shop.demo.servers import CARD_DECLINED, CARD_REPLY_LOST, GREYLISTED, NOBODY
from storefront.models import Order
from video.jobs import transcode
from video.models import Clip
from webhooks.jobs import announce, deliver
from webhooks.models import Delivery

PATIENCE = 4  # seconds that delayed jobs wait
NEWSLETTERS = 24


@dataclass
class Planned:
    """A job, and what's expected of it."""

    job: Job
    ends: str = "completed"
    because: str = ""  # if it fails: what its error says
    runs: int = 1  # that end by themselves; one that dies with its process isn't counted
    not_before: datetime | None = None

    @property
    def fails_on_purpose(self) -> bool:
        return self.ends == "failed"


class Rollback(Exception):
    """Raised to roll a transaction back on purpose."""


@dataclass
class Plan:
    """All jobs so far, and what else the checks need."""

    jobs: list[Planned] = field(default_factory=list)
    resets: list[Planned] = field(default_factory=list)
    newsletters: list[Planned] = field(default_factory=list)
    paid_orders: list[Order] = field(default_factory=list)  # those that have to be paid in the end
    confirmations: dict[int, Planned] = field(default_factory=dict)  # by order
    refused_mail: set[str] = field(default_factory=set)  # job ids

    def add(self, job: Job, **expected: Any) -> Planned:
        """Add a job, with those fields of :class:`Planned` that differ from the defaults."""
        planned = Planned(job, **expected)
        self.jobs.append(planned)
        return planned

    # ── First: work that takes a while ────────────────────────────────────────────────────────────

    def heavy_work(self, photos: Iterable[Photo], broken: Photo, clip: Clip, years: Iterable[int]) -> Planned:
        """Photos, reports and video. Returns the clip's job, whose process is killed in mid-work."""
        filmed = self.add(transcode.using(title=clip.title).enqueue(clip.pk, realtime=True))
        too_long = transcode.using(timeout=1, attempts=1, title=f"{clip.title}, in 1 second")
        self.add(too_long.enqueue(clip.pk, realtime=True), ends="failed", because="JobTimeout")
        for photo in photos:
            self.add(make_sizes.using(title=photo.title).enqueue(photo.pk))
        self.add(
            make_sizes.using(title="A photo that isn't one").enqueue(broken.pk),
            ends="failed",
            because="UnidentifiedImageError",
        )
        for year in years:
            self.add(sales_report.enqueue(year))
        return filmed

    # ── Then: many short jobs ─────────────────────────────────────────────────────────────────────

    def mail(self, customers: Iterable[User]) -> None:
        """Newsletters first, and then password resets, which overtake them."""
        mail = get_queue("mail")
        mail.pause()  # so that the resets really come later
        addresses = [(f"reader{number}@people.example", 7) for number in range(NEWSLETTERS)]
        self.newsletters = [self.add(job) for job in send_newsletter.enqueue_many(addresses)]
        gone = send_newsletter.enqueue(f"reader@{NOBODY}", 7)
        self.refused_mail.add(gone.id)
        self.add(gone, ends="failed", because="refused for good: 550")
        self.resets = [self.add(send_password_reset.enqueue(customer.pk)) for customer in customers]
        mail.resume()

    def orders(self) -> None:
        """Orders with their payments: good ones, some lost replies, two that fail, one that's rolled back."""
        for number in range(12):
            reply_lost, greylisted = number % 4 == 1, number % 5 == 2
            customer = f"buyer{number}@{GREYLISTED if greylisted else 'people.example'}"
            order, job = place_order(
                customer, 1990 + number * 500, CARD_REPLY_LOST if reply_lost else "card_good"
            )
            self.add(job, runs=2 if reply_lost else 1)
            self.paid_orders.append(order)
        _, job = place_order("poor@people.example", 9900, CARD_DECLINED)
        self.add(job, ends="failed", because="CardDeclined")
        _, job = place_order("thrifty@people.example", 1, "card_good")
        self.add(job, ends="failed", because="the bank takes no less than 100")
        try:
            with transaction.atomic():
                place_order("undecided@people.example", 5000, "card_good")
                raise Rollback
        except Rollback:
            pass  # neither the order nor its job exists now

    def find_confirmations(self) -> None:
        """Add the mails that the receivers in ``payments/receivers.py`` have enqueued by now."""
        for order in self.paid_orders:
            if order.pk in self.confirmations:
                continue
            for job in get_queue("mail").find(order_id=order.pk):
                greylisted = order.customer.endswith(GREYLISTED)
                self.confirmations[order.pk] = self.add(job, runs=2 if greylisted else 1)

    def later(self) -> None:
        """Delayed jobs, with each way of saying when."""
        now = timezone.now()
        delays: list[dict[str, Any]] = [
            {"delay": PATIENCE},
            {"delay": timedelta(seconds=PATIENCE)},
            {"run_at": now + timedelta(seconds=PATIENCE)},
        ]
        for order, when in zip(self.paid_orders[-3:], delays, strict=True):
            job = ask_for_review.using(**when).enqueue(order.pk)
            self.add(job, not_before=now + timedelta(seconds=PATIENCE))

    def webhooks(self) -> None:
        """Deliveries to partners, some of whom are in trouble."""
        for order in self.paid_orders[:4]:
            for job in announce(order):
                self.add(job)
        troubled: dict[str, dict[str, Any]] = {
            "flaky": {"runs": 3},  # 503, 503, 200
            "busy": {"runs": 2},  # 429 with Retry-After, 200
            "moved": {"ends": "failed", "because": "moved refuses it: 404"},
            "strict": {"ends": "failed", "because": "strict refuses it: 422"},
            "down": {"ends": "failed", "because": "503", "runs": 4},  # all its attempts
        }
        for partner, expected in troubled.items():
            for job in announce(self.paid_orders[0], (partner,)):
                self.add(job, **expected)
        slow = Delivery.objects.create(order=self.paid_orders[0], partner="slow")
        self.add(deliver.using(timeout=2).enqueue(slow.pk), runs=2)  # no answer in time, 200

    # ── How it goes ───────────────────────────────────────────────────────────────────────────────

    def refresh(self) -> list[tuple[Planned, Job]]:
        """Read unfinished jobs again. Returns those that changed, each with the job as it was before."""
        self.find_confirmations()
        changed = []
        for planned in self.jobs:
            if not planned.job.is_finished:
                before, planned.job = planned.job, planned.job.refresh()
                changed.append((planned, before))
        return changed

    @property
    def is_over(self) -> bool:
        """Whether everything has been enqueued and has ended."""
        return len(self.confirmations) == len(self.paid_orders) and all(p.job.is_finished for p in self.jobs)


def unfinished_counts() -> dict[str, int]:
    """How many jobs are waiting, delayed or running, by queue; empty if there are none."""
    counts = {queue.name: queue.counts() for queue in queues()}
    left = {name: c["waiting"] + c["delayed"] + c["active"] for name, c in counts.items()}
    return {name: count for name, count in left.items() if count}
