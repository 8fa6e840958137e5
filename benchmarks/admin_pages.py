"""How long the admin's pages take, and how many SQL queries they make, with a million jobs in Redis.

    python benchmarks/admin_pages.py [--jobs 1000000]

It starts a Redis of its own, fills it, and requests each page eleven times with Django's test client and
``DEBUG`` off; the first time, which loads templates, doesn't count. Times are medians, in milliseconds, on
this machine: compare them with each other, not with those of another machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

ASKED = 10
FAILED, DELAYED = 0.02, 0.1  # of all jobs; the rest are waiting. By default 10,000 failed ones are kept.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1_000_000, help="default: %(default)s")
    total = parser.parse_args().jobs

    from tests.conftest import free_port, start_redis

    with tempfile.TemporaryDirectory(prefix="kue-bench-") as folder:
        port = free_port()
        server = start_redis(port, folder, "--save", "", "--appendonly", "no")
        try:
            os.environ["KUE_TEST_REDIS"] = f"redis://127.0.0.1:{port}/0"
            os.environ["KUE_TEST_DB"] = f"{folder}/db.sqlite3"
            measure(total)
        finally:
            server.terminate()
            server.wait(30)


def measure(total: int) -> None:
    client = prepared_client()
    print(f"{'page':<44} {'ms, few jobs':>12} {'ms, ' + format(total, ','):>14} {'SQL':>4}")
    fill(1_000)
    few = [timed(client, url) for _, url in pages()]
    fill(total)
    for (name, url), (before, _) in zip(pages(), few, strict=True):
        after, queries = timed(client, url)
        print(f"{name:<44} {before:>12.1f} {after:>14.1f} {queries:>4}")


def prepared_client() -> object:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    settings.ALLOWED_HOSTS = ["testserver"]
    call_command("migrate", verbosity=0)
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("bench"))
    return client


def pages() -> list[tuple[str, str]]:
    from django.contrib.admin.utils import quote

    from django_kue import get_queue

    job = get_queue("default").jobs("failed", limit=1)[0]
    jobs = "/admin/django_kue/job/"
    return [
        ("list: all states, all queues", jobs),
        ("list: failed, all queues", f"{jobs}?state__exact=failed"),
        ("list: failed in one queue", f"{jobs}?state__exact=failed&queue__exact=default"),
        ("list: waiting in one queue", f"{jobs}?state__exact=waiting&queue__exact=default"),
        ("list: … its page 5,000", f"{jobs}?state__exact=waiting&queue__exact=default&p=5000"),
        ("list: failed of one function", f"{jobs}?state__exact=failed&name__exact={job.name}"),
        ("list: waiting, with counts", f"{jobs}?state__exact=waiting&_facets=True"),
        ("search: an id", f"{jobs}?q={job.id}"),
        ("search: words that nothing has", f"{jobs}?q=nothing+has+these+words"),
        ("job", f"{jobs}{quote(job.id)}/change/"),
        ("dashboard", "/admin/django_kue/dashboard/"),
        ("dashboard: an hour's numbers", "/admin/django_kue/dashboard/data/?window=1h"),
        ("queues", "/admin/django_kue/queue/"),
        ("workers", "/admin/django_kue/worker/"),
        ("admin index", "/admin/"),
    ]


def timed(client: object, url: str) -> tuple[float, int]:
    """Milliseconds and SQL queries of a page."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def ask() -> None:
        response = client.get(url, follow=True)  # type: ignore[attr-defined]
        assert response.status_code == 200, (url, response.status_code)

    with CaptureQueriesContext(connection) as captured:
        ask()
        queries = len(captured)  # the next request forgets them
    return statistics.median(times_of(ask)), queries


def times_of(ask: Callable[[], None]) -> Iterator[float]:
    for _ in range(ASKED):
        start = time.perf_counter()
        ask()
        yield 1000 * (time.perf_counter() - start)


def fill(total: int) -> None:
    """Enqueue this many jobs: some fail, some are delayed, the others wait."""
    from django_kue import get_queue
    from tests.app.jobs import add
    from tests.test_engine.hands import Hands, failed

    queue = get_queue("default")
    for first in range(0, total, 50_000):
        count = min(50_000, total - first)
        failing = int(count * FAILED)
        add.using(delay=86_400).enqueue_many((number, 1) for number in range(int(count * DELAYED)))
        add.using(priority="high").enqueue_many((number, 1) for number in range(failing))
        hands = Hands(queue.name, "bench")
        for left in range(failing, 0, -500):
            hands.take(min(500, left))
            hands.settle_all(failed())
        add.enqueue_many((number, 1) for number in range(count - int(count * (FAILED + DELAYED))))


if __name__ == "__main__":
    main()
