"""Every page in Chromium: under a strict Content-Security-Policy, for people who can't see it, on a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.utils import quote
from django.http import HttpRequest, HttpResponse

from django_kue import get_queue, schedules
from tests.app.jobs import add, noop
from tests.test_engine.hands import Hands, failed, put
from tests.worker_process import WorkerProcess, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

HOSTILE = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
ADMIN = "/admin/django_kue"
POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"
Respond = Callable[[HttpRequest], HttpResponse]


def strict_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Nothing inline and nothing from elsewhere. A violation is an error on the console."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return middleware


@pytest.fixture(autouse=True)
def policy(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.strict_policy"]


@pytest.fixture
def pages() -> Iterator[dict[str, str]]:
    """The pages by name, with jobs in every state and with a worker."""
    put("default", 3, options={"title": HOSTILE})
    hands = Hands("default")
    hands.take(3)
    hands.settle_all(failed(message=HOSTILE))
    add.enqueue_many([(number, 1) for number in range(30)])
    noop.using(delay=3600).enqueue("later")
    noop.using(queue="email").enqueue()
    get_queue("other").pause()
    noop.using(queue="other").enqueue()
    schedules.create(HOSTILE, add, cron="30 2 * * mon", timezone="Europe/Berlin", args=[1])
    schedules.pause(HOSTILE)
    with WorkerProcess("--processes", "1", "--queues", "default,email") as worker:
        worker.wait_started()
        wait_for(lambda: get_queue("default").counts()["completed"] >= 30, 20, "the jobs to run")
        schedules.run_now(HOSTILE).wait(timeout=20)
        schedules.run_now(HOSTILE)
        broken = get_queue("default").jobs("failed")[0]
        done = next(job for job in get_queue("default").jobs("completed") if job.name == add.name)
        yield {
            "dashboard": f"{ADMIN}/dashboard/",
            "jobs": f"{ADMIN}/job/",
            **{
                state: f"{ADMIN}/job/?state__exact={state}"
                for state in ("failed", "delayed", "waiting", "active")
            },
            "a search": f"{ADMIN}/job/?q=script",
            "a failed job": f"{ADMIN}/job/{quote(broken.id)}/change/",
            "a completed job": f"{ADMIN}/job/{quote(done.id)}/change/",
            "its history": f"{ADMIN}/job/{quote(done.id)}/history/",
            "run again": f"{ADMIN}/job/{quote(done.id)}/run-again/",
            "queues": f"{ADMIN}/queue/",
            "a queue": f"{ADMIN}/queue/default/change/",
            "workers": f"{ADMIN}/worker/",
            "schedules": f"{ADMIN}/schedule/",
            "a schedule": f"{ADMIN}/schedule/{quote(HOSTILE)}/change/",
            "an edited schedule": f"{ADMIN}/schedule/{quote(HOSTILE)}/edit/",
        }


def go(page: Page, url: str) -> None:
    response = page.goto(url)
    assert response is not None
    assert response.status == 200, url
    page.wait_for_timeout(300)


@pytest.mark.timeout(300)  # it looks at all of them
def test_no_page_has_a_barrier_that_axe_finds(page: Page, pages: dict[str, str]) -> None:
    from axe_playwright_python.sync_playwright import Axe

    rules = {
        "light": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
        "dark": ["color-contrast"],  # nothing else is different there
    }
    found = {}
    for name, url in pages.items():
        go(page, url)
        page.add_style_tag(content="* { transition: none !important }")  # colours would change by and by
        for scheme in rules:
            page.emulate_media(color_scheme=scheme)
            # What's Django's own, around our pages' content, is not ours to mend.
            options = {"runOnly": rules[scheme], "resultTypes": ["violations"]}
            results = Axe().run(page, context=[["#content"]], options=options)
            if results.response["violations"]:
                found[f"{name}, {scheme}"] = results.generate_report()
    assert not found, "\n".join(f"── {name} ──\n{report}" for name, report in found.items())


def test_every_page_fits_a_phone(page: Page, pages: dict[str, str]) -> None:
    page.set_viewport_size({"width": 360, "height": 780})
    too_wide = {}
    for name, url in pages.items():
        go(page, url)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 360:
            too_wide[name] = width
    assert too_wide == {}


def test_every_page_keeps_itself_up_to_date(page: Page, pages: dict[str, str]) -> None:
    for name in ("dashboard", "jobs", "a failed job", "queues", "a queue", "workers"):
        go(page, pages[name])
        with page.expect_request(lambda request: "x-kue-live" in request.headers, timeout=15_000) as asked:
            pass
        response = asked.value.response()
        assert response is not None
        assert response.status == 200, name


def test_the_dashboard_draws_its_plots(page: Page, pages: dict[str, str]) -> None:
    from playwright.sync_api import expect

    go(page, pages["dashboard"])

    expect(page.locator("canvas").first).to_be_visible(timeout=10_000)
    assert page.locator("canvas").count() >= 3
