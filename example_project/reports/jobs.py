"""A long report, read in chunks, so that memory stays small and progress is accurate."""

from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import timedelta
from itertools import islice
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models import Count, Sum
from django.utils import timezone
from django_kue import current_job, job, schedule

from reports.chart import draw_months
from reports.models import Report, Sale

CHUNK = 2000  # rows

Totals = Counter[tuple[int, str]]  # (month, product): cents


# unique: asking again while a report is under way returns its Job, and the work is done once.
# api: other programs may ask for it, too, with POST /kue/jobs.
@job(queue="reports", attempts=2, backoff=5, timeout=120, unique=True, title="Sales report {year}", api=True)
def sales_report(year: int) -> dict[str, Any]:
    """Sum a year's sales by month and product, as a CSV and a chart. Returns totals and ``{"files": …}``."""
    run = current_job()
    sales = Sale.objects.filter(sold_on__year=year)
    rows = sales.count()
    run.log("%d sales in %d", rows, year)

    totals: Totals = Counter()
    done = 0
    lines = sales.values_list("sold_on", "product", "amount_cents").iterator(CHUNK)
    while chunk := list(islice(lines, CHUNK)):
        for sold_on, product, cents in chunk:
            totals[sold_on.month, product] += cents
        done += len(chunk)
        # Staff can cancel a running job. A job that checks now and then stops early and cleanly.
        run.raise_if_cancelled()
        run.progress(done, rows, {"rows": done})

    report = store(year, rows, totals)
    run.log("total %.2f, stored as %s", report.total_cents / 100, report.table.name)
    files = {"CSV": report.table.url, "Chart": report.chart.url}
    return {"report": report.pk, "rows": rows, "total_cents": report.total_cents, "files": files}


# Runs every night, by the clock of the shop's own town, whatever TIME_ZONE is. overlap: if a night's run is
# still going on when the next is due, that one is left out.
@schedule(
    cron="30 2 * * *", timezone="Europe/Berlin", args=(7,), name="sales of the last 7 days", overlap=False
)
@job(queue="reports", timeout=120, title="Sales of the last {days} days")
def recent_sales(days: int) -> dict[str, int]:
    """Count and sum the sales of the last ``days`` days."""
    since = timezone.localdate() - timedelta(days=days)
    found = Sale.objects.filter(sold_on__gte=since).aggregate(rows=Count("pk"), cents=Sum("amount_cents"))
    return {"rows": found["rows"], "total_cents": found["cents"] or 0}


def store(year: int, rows: int, totals: Totals) -> Report:
    """Write both files and the row: one set for each year, however often a report is made."""
    months = [sum(cents for (month, _), cents in totals.items() if month == m) for m in range(1, 13)]
    table = default_storage.save(f"reports/sales-{year}.csv", ContentFile(as_csv(totals)))
    chart = default_storage.save(
        f"reports/sales-{year}.png", ContentFile(draw_months(f"Sales of {year}", months))
    )
    report, _ = Report.objects.update_or_create(
        year=year,
        defaults={"rows": rows, "total_cents": totals.total(), "table": table, "chart": chart},
    )
    return report


def as_csv(totals: Totals) -> bytes:
    """The table, with a line for each month and product."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["month", "product", "cents"])
    writer.writerows([month, product, cents] for (month, product), cents in sorted(totals.items()))
    return text.getvalue().encode()
