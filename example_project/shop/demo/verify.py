"""Whether everything went as it should. Each check looks at what was really made, sent and stored.

A check returns what it saw, in words, or raises :class:`Wrong`.
"""

from __future__ import annotations

import csv
import io
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import mean, median
from typing import NamedTuple

from django.conf import settings
from django.db.models import Count, Sum
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from images.jobs import SIZES
from images.models import Photo
from payments.models import Payment
from reports.models import Report, Sale
from shop.demo.crash import Crash, starts_of_ffmpeg
from shop.demo.customer import Customer
from shop.demo.data import CLIP_SECONDS, PHOTOS
from shop.demo.plan import Plan, Planned, unfinished_counts
from shop.demo.screen import reason
from shop.demo.servers import MailServer, PartnerServer
from storefront.models import Order
from video.models import Clip
from webhooks.models import Delivery


@dataclass
class Scene:
    """Everything that took part."""

    plan: Plan
    mail: MailServer
    partners: PartnerServer
    customer: Customer
    crash: Crash
    deadline: float  # on time.monotonic(): what hasn't ended by then is late


class Wrong(Exception):
    """Something isn't as it should be; the message says what."""


class Verdict(NamedTuple):
    """A check's outcome."""

    is_good: bool
    text: str


def expect(found: object, wanted: object, what: str) -> None:
    """Raise Wrong if the two differ."""
    if found == wanted:
        return
    if isinstance(found, set | Counter) and isinstance(wanted, set | Counter):
        raise Wrong(f"{what}: missing {wanted - found or 'none'}, not expected {found - wanted or 'none'}")
    raise Wrong(f"{what}: expected {wanted}, found {found}")


def verdicts(scene: Scene) -> Iterator[Verdict]:
    """Run every check."""
    for check in CHECKS:
        try:
            yield Verdict(True, check(scene))
        except Wrong as wrong:
            yield Verdict(False, str(wrong))
        except Exception as error:  # noqa: BLE001 - what should be there isn't, or can't be read: a finding like the others
            yield Verdict(False, f"{check.__name__}: {type(error).__name__}: {error}")


# ── Jobs ──────────────────────────────────────────────────────────────────────────────────────────


def every_job_ended_as_planned(scene: Scene) -> str:
    for planned in scene.plan.jobs:
        check_job(planned)
    failed = sum(planned.fails_on_purpose for planned in scene.plan.jobs)
    return (
        f"{len(scene.plan.jobs)} jobs ended as planned; {failed} of them failed, each for the expected reason"
    )


def check_job(planned: Planned) -> None:
    job, title = planned.job, f"{planned.job.queue}: {planned.job.title}"
    if job.state != planned.ends:
        raise Wrong(f"{title}: expected {planned.ends}, found {job.state} ({reason(job)})")
    expect(job.attempts_made, planned.runs, f"{title}: runs")
    if planned.because:
        error = f"{job.error.type}: {job.error.message}" if job.error else "none"
        if planned.because not in error:
            raise Wrong(f"{title}: expected an error with {planned.because!r}, found {error}")


def nothing_is_left(scene: Scene) -> str:
    expect(unfinished_counts(), {}, "jobs that are still waiting or running, by queue")
    return "no job is left waiting or running in any queue"


def the_crash_lost_nothing(scene: Scene) -> str:
    if scene.crash.killed is None:
        raise Wrong("no process was killed")
    if not scene.crash.is_healed:
        raise Wrong(f"nobody took over the clip from the killed process {scene.crash.killed}")
    again = starts_of_ffmpeg(scene.crash.clip.job) - scene.crash.starts
    expect(again, 1, "runs after the kill, by the log of the clip's job")
    count = len(scene.crash.victims)
    return f"process {scene.crash.killed} was killed with -9 in mid-job; its running jobs ({count}) ran again"


def delayed_jobs_waited(scene: Scene) -> str:
    delayed = [planned for planned in scene.plan.jobs if planned.not_before]
    for planned in delayed:
        started = planned.job.started_at
        # The due time is by the host's clock, the start by Redis's: on one machine they agree.
        if not started or not planned.not_before or started < planned.not_before - timedelta(seconds=0.05):
            raise Wrong(f"{planned.job.title}: not before {planned.not_before}, started {started}")
    return f"{len(delayed)} delayed jobs started when they were due, and not before"


# ── Mail ──────────────────────────────────────────────────────────────────────────────────────────


def confirmations_arrived(scene: Scene) -> str:
    found = Counter(mail["To"] for mail in scene.mail.received if mail["Subject"].startswith("Your order"))
    expect(found, Counter(order.customer for order in scene.plan.paid_orders), "confirmations by address")
    for mail in scene.mail.received:
        if mail["Subject"].startswith("Your order"):
            number = mail["Subject"].split()[-1]
            total = Order.objects.get(pk=number).total
            if f"payment of {total} EUR" not in mail.get_content():
                raise Wrong(f"the confirmation of order {number} doesn't name its total {total}")
    return f"{found.total()} order confirmations arrived by SMTP: one for each paid order"


def every_mail_job_sent_its_mail(scene: Scene) -> str:
    wanted = {p.job.id for p in scene.plan.jobs if p.job.queue == "mail" and p.ends == "completed"}
    found = Counter(
        mail["Message-ID"].strip("<>").removesuffix("@shop.example") for mail in scene.mail.received
    )
    expect(set(found), wanted, "jobs whose mail arrived")
    expect(found.total(), len(wanted), "mails that arrived")
    return f"{len(wanted)} mails arrived in all, none twice"


def resets_overtook_newsletters(scene: Scene) -> str:
    resets, newsletters = (starts_of(jobs) for jobs in (scene.plan.resets, scene.plan.newsletters))
    overtaken = [sum(start < other for other in newsletters) for start in resets]
    # Some newsletters may already be running when the resets come, and a busy process may start a reset late.
    # The median reset has to overtake all the others.
    wanted = len(newsletters) - settings.KUE["QUEUES"]["mail"]["CONCURRENCY"]
    if median(overtaken) < wanted:
        raise Wrong(f"password resets overtook only {overtaken} of {len(newsletters)} earlier newsletters")
    count = f"{mean(overtaken):.0f} of {len(newsletters)}"
    return f"{len(resets)} password resets overtook {count} earlier newsletters"


def starts_of(jobs: list[Planned]) -> list[datetime]:
    """When these jobs started; those that didn't are left out."""
    return [planned.job.started_at for planned in jobs if planned.job.started_at]


# ── Files ─────────────────────────────────────────────────────────────────────────────────────────


def photos_open(scene: Scene) -> str:
    photos = Photo.objects.annotate(sizes=Count("renditions")).filter(sizes__gt=0)
    expect(photos.count(), PHOTOS + 1, "photos with renditions (ours and the customer's)")
    for photo in photos:
        expect({r.size for r in photo.renditions.all()}, set(SIZES), f"sizes of {photo}")
        for rendition in photo.renditions.all():
            with Image.open(rendition.file.path) as image:
                image.load()
                expect(image.size, (rendition.width, rendition.height), f"size of {rendition}")
                expect(max(image.size), SIZES[rendition.size], f"longer side of {rendition}")
    return f"{photos.count()} photos in {len(SIZES)} sizes each: every file opens, in the right size"


def reports_agree_with_the_database(scene: Scene) -> str:
    rows = 0
    for report in Report.objects.all():
        sales = Sale.objects.filter(sold_on__year=report.year).aggregate(
            rows=Count("pk"), cents=Sum("amount_cents")
        )
        with report.table.open("r") as table:
            in_table = sum(int(line["cents"]) for line in csv.DictReader(table))
        expect(report.rows, sales["rows"], f"rows of {report}")
        expect(report.total_cents, sales["cents"], f"total of {report}")
        expect(in_table, sales["cents"], f"total of {report} in its CSV")
        with Image.open(report.chart.path) as chart:
            chart.load()
        rows += report.rows
    return f"{Report.objects.count()} sales reports over {rows:,} rows: their totals match the database's"


def the_clip_plays(scene: Scene) -> str:
    clip = Clip.objects.get()
    read = subprocess.run(
        [get_ffmpeg_exe(), "-v", "error", "-i", clip.playable.path, "-progress", "pipe:1", "-f", "null", "-"],
        capture_output=True,
        text=True,
    )
    if read.returncode or read.stderr:
        raise Wrong(f"ffmpeg can't read {clip.playable.name}: {read.stderr}")
    frames = [line.split("=")[1] for line in read.stdout.splitlines() if line.startswith("frame=")][-1]
    expect(int(frames), CLIP_SECONDS * 25, "frames of the clip")
    return f"the clip plays: {frames} frames of H.264, read to the end"


# ── Partners and money ────────────────────────────────────────────────────────────────────────────


def payments_count_once(scene: Scene) -> str:
    orders = {order.pk: order.total_cents for order in scene.plan.paid_orders}
    expect(dict(Payment.objects.values_list("order", "amount_cents")), orders, "payments by order")
    at_the_bank = {reference: charge["amount_cents"] for reference, charge in scene.partners.charges.items()}
    expect(at_the_bank, {f"order-{pk}": cents for pk, cents in orders.items()}, "charges at the bank")
    twice = sum(count > 1 for count in scene.partners.charge_requests.values())
    if not twice:
        raise Wrong("the bank never lost a reply, though it should have")
    return (
        f"{len(orders)} payments, each recorded once and charged once, though the bank lost {twice} replies"
    )


def receivers_marked_the_orders(scene: Scene) -> str:
    found = Counter(Order.objects.values_list("status", flat=True))
    wanted = Counter({"paid": len(scene.plan.paid_orders), "payment failed": 2})
    expect(found, wanted, "orders by status")
    return "signal receivers marked the orders: " + ", ".join(
        f"{count} {status}" for status, count in found.items()
    )


def deliveries_arrived(scene: Scene) -> str:
    stored = {(d.partner, str(d.key)) for d in Delivery.objects.filter(delivered_at__isnull=False)}
    expect(stored, scene.partners.accepted, "deliveries that partners accepted")
    refused = Delivery.objects.filter(delivered_at=None).order_by("partner").values_list("partner", "answer")
    expect(list(refused), [("down", 503), ("moved", 404), ("strict", 422)], "deliveries that failed")
    attempts = sum(scene.partners.hooks.values())
    return f"{len(stored)} webhooks were delivered and 3 refused, in {attempts} requests"


def the_customer_got_it(scene: Scene) -> str:
    got = scene.customer.downloads
    expect(set(got), {*SIZES, "CSV", "Chart"}, "links on the customer's page")
    for size, longest in SIZES.items():
        with Image.open(io.BytesIO(got[size])) as image:
            expect(max(image.size), longest, f"longer side of the customer's {size} picture")
    with Image.open(io.BytesIO(got["Chart"])) as chart:
        chart.verify()
    expect(got["CSV"].splitlines()[0], b"month,product,cents", "the CSV's first line")
    return f"a customer uploaded a picture and asked for a report on the page, and fetched {len(got)} files"


CHECKS: list[Callable[[Scene], str]] = [
    every_job_ended_as_planned,
    nothing_is_left,
    the_crash_lost_nothing,
    delayed_jobs_waited,
    confirmations_arrived,
    every_mail_job_sent_its_mail,
    resets_overtook_newsletters,
    photos_open,
    reports_agree_with_the_database,
    the_clip_plays,
    payments_count_once,
    receivers_marked_the_orders,
    deliveries_arrived,
    the_customer_got_it,
]
