"""Takes the pictures of the admin's pages for the documentation: ``make screenshots``.

The example shop's demo runs with its worker and its site, while this script goes on enqueuing real jobs for
some minutes, so that there's something to see. Then Chromium visits each page: light, dark, and on a phone.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
SHOP = DOCS.parent / "example_project"
WIDE, PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 844}
LOOKS = (("light", WIDE, "light"), ("dark", WIDE, "dark"), ("phone", PHONE, "light"))
CHROMIUM = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5, help="how long jobs are enqueued (%(default)s)")
    parser.add_argument("--to", type=Path, default=DOCS / "images", help="folder (default: docs/images)")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kue-screens-") as folder, shop(Path(folder)) as site:
        keep_busy(60 * options.minutes)
        take_all(site, options.to)


@contextmanager
def shop(folder: Path) -> Iterator[str]:
    """Run the demo. Yields the URL of its site, once it has shown everything and stays open."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"SHOP_VAR": str(folder / "var"), "DJANGO_SETTINGS_MODULE": "shop.settings"}
    log = folder / "demo.log"
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [sys.executable, str(SHOP / "manage.py"), "demo", "--port", str(port)],
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        while "Ctrl" not in log.read_text():
            if demo.poll() is not None:
                raise SystemExit(f"the demo ended:\n{log.read_text()}")
            time.sleep(0.2)
        sys.path.insert(0, str(SHOP))
        import django

        django.setup()
        yield f"http://127.0.0.1:{port}"
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(60)


def keep_busy(seconds: float) -> None:
    """Imitate a shop on a good day: orders, newsletters, now and then a report or a photo, some trouble."""
    from images.jobs import make_sizes
    from images.models import Photo
    from mail.jobs import ask_for_review, send_newsletter
    from payments.jobs import place_order
    from reports.jobs import sales_report
    from webhooks.jobs import announce

    from django_kue import schedules

    start, number = time.monotonic(), 0
    photos = list(Photo.objects.values_list("pk", flat=True))
    while (spent := time.monotonic() - start) < seconds:
        number += 1
        card = random.choices(["card_good", "card_declined"], [30, 1])[0]
        order, _ = place_order(f"buyer{number}@people.example", random.randrange(500, 20_000), card)
        send_newsletter.enqueue_many([(f"reader{i}@people.example", 7) for i in range(random.randrange(9))])
        if number % 3 == 0:
            announce(order, random.choices(["flaky", "busy", "down", "strict"], [8, 4, 1, 1])[:1])
        if number % 25 == 0:
            ask_for_review.using(delay=3600 * random.randrange(1, 72)).enqueue(order.pk)
        if number % 12 == 0:
            make_sizes.enqueue(random.choice(photos))
        if number % 40 == 0:
            sales_report.enqueue(random.choice([2024, 2025]))
            schedules.run_now(random.choice([one.name for one in schedules.all()]))
        time.sleep(random.uniform(0.05, 0.4) * (1.5 if spent % 120 < 50 else 0.7))
    from video.jobs import transcode
    from video.models import Clip

    from django_kue import get_queue

    get_queue("reports").pause()
    sales_report.enqueue(2025)
    for clip in Clip.objects.values_list("pk", flat=True)[:2]:
        transcode.enqueue(clip, realtime=True)
    time.sleep(4)


def take_all(site: str, to: Path) -> None:
    from playwright.sync_api import sync_playwright

    pages, cookie = pages_and_session()
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=list(CHROMIUM))
        for look, size, scheme in (
            ("light", WIDE, "light"),
            ("dark", WIDE, "dark"),
            ("phone", PHONE, "light"),
        ):
            context = browser.new_context(base_url=site, viewport=size, color_scheme=scheme, locale="en")
            context.add_cookies([{"name": "sessionid", "value": cookie, "url": site}])
            page = context.new_page()
            for name, url in pages.items():
                take(page, url, to / f"{name}-{look}.png")
            context.close()
        browser.close()


def take(page: Any, url: str, to: Path) -> None:
    from PIL import Image

    page.goto(url)
    page.wait_for_timeout(2500)  # plots are drawn, live regions have been swapped once
    page.screenshot(path=to)
    with Image.open(to) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(to, optimize=True)
    print(to)


def pages_and_session() -> tuple[dict[str, str], str]:
    """The pages by name, and the session key of a user who may see them all."""
    from django.contrib.admin.utils import quote
    from django.contrib.auth import get_user_model
    from django.test import Client

    from django_kue import queues

    user = get_user_model().objects.filter(is_superuser=True).first()
    client = Client()
    client.force_login(user)
    newest = {
        state: next((job for queue in queues() for job in queue.jobs(state, limit=1)), None)
        for state in ("failed", "active")
    }
    admin = "/admin/django_kue"
    pages = {
        "dashboard": f"{admin}/dashboard/",
        "jobs": f"{admin}/job/",
        "failed": f"{admin}/job/?state__exact=failed",
        "queues": f"{admin}/queue/",
        "schedules": f"{admin}/schedule/",
        "schedule": f"{admin}/schedule/{quote('sales of the last 7 days')}/change/",
        "workers": f"{admin}/worker/",
        "index": "/admin/",
        "api": "/kue/docs",
    }
    for state, job in newest.items():
        if job:
            pages[f"job-{state}"] = f"{admin}/job/{quote(job.id)}/change/"
    if job := newest["failed"]:
        pages["run-again"] = f"{admin}/job/{quote(job.id)}/run-again/"
    return pages, client.cookies["sessionid"].value


if __name__ == "__main__":
    main()
