"""The demo from its first line to its last."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
from django.conf import settings
from django_kue import embedded
from django_kue.priorities import PRIORITIES

from shop.demo import data
from shop.demo.crash import Crash
from shop.demo.customer import Customer
from shop.demo.plan import Plan
from shop.demo.processes import DemoError, ManagePy, wait_for
from shop.demo.screen import FAINT, GREEN, RED, Screen
from shop.demo.servers import HOST, MailServer, PartnerServer, free_port
from shop.demo.verify import Scene, Verdict, verdicts

LONGEST = 45  # seconds that the work may take
TICK = 0.2  # seconds between two looks
CUSTOMERS = 6
USUAL_PORT = 8000


def run(screen: Screen, *, once: bool, port: int | None) -> bool:
    """Run the demo. True if everything went as it should.

    Everything that's started here is stopped again when this function ends, however it ends.
    """
    with ExitStack() as stack:
        screen.heading("The scene")
        stack.enter_context(data.own_folder())
        data.make_database()
        stack.callback(embedded.stop, embedded.project_folder())
        data.empty_queues()
        mail = stack.enter_context(MailServer())
        partners = stack.enter_context(PartnerServer())
        port = port or usual_or_free_port()
        url = f"http://{HOST}:{port}"
        environment = {
            "SHOP_SMTP_PORT": str(mail.port),
            "SHOP_PARTNER_URL": partners.url,
            "SHOP_SITE_URL": url,
            "PYTHONUNBUFFERED": "1",
        }
        site = stack.enter_context(
            ManagePy("runserver", "--noreload", f"{HOST}:{port}", environment=environment)
        )
        worker = stack.enter_context(
            ManagePy("runworker", "--processes", "2", "--threads", "4", environment=environment)
        )
        screen.step(
            f"site {url}, worker {worker.process.pid} with two processes, SMTP server on port {mail.port},"
        )
        screen.step(f"bank and partners on {partners.url}; Redis: {settings.KUE['REDIS']}")

        customer = Customer(url)
        stack.callback(customer.http.close)
        browser = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(customer.leave)
        scene = work(screen, mail, partners, customer, browser, site, worker)
        results = list(verdicts(scene))
        if once:
            worker.stop()
            results.append(stopped_in_order(worker))
        summarize(screen, scene, results)
        if not once:
            stay(screen, url, site, worker)
        return all(result.is_good for result in results)


def work(
    screen: Screen,
    mail: MailServer,
    partners: PartnerServer,
    customer: Customer,
    browser: ThreadPoolExecutor,
    site: ManagePy,
    worker: ManagePy,
) -> Scene:
    """Make the data, enqueue the jobs, and watch until all have ended."""
    screen.step("making sales, photos and a clip …")
    sales, photos, broken = data.make_sales(), data.make_photos(), data.make_broken_photo()
    clip, people = data.make_clip(), data.make_customers(CUSTOMERS)
    width, height = data.PHOTO_SIZE
    screen.step(f"{sales:,} sales, {len(photos)} photos of {width} × {height} pixels, a clip")
    wait_for("the site", lambda: is_up(customer), timeout=20, alive=site)

    screen.heading("Heavy work: photos, reports, video")
    plan = Plan()
    filmed = plan.heavy_work(photos, broken, clip, data.SALES)
    crash = Crash(plan, filmed, worker.process.pid)
    scene = Scene(plan, mail, partners, customer, crash, deadline=time.monotonic() + LONGEST)
    watch(screen, scene, worker, until=lambda: crash.is_healed or filmed.job.is_finished)

    screen.heading("Many small jobs: mail, orders, webhooks, and a customer on the page")
    visit = browser.submit(customer.visit, data.photograph(99)[0], min(data.SALES), plan.add)
    for enqueue in (lambda: plan.mail(people), plan.orders, plan.webhooks, plan.later):
        enqueue()
        watch(screen, scene, worker, until=lambda: True)  # one look
    watch(screen, scene, worker, until=lambda: visit.done() and plan.is_over)
    customer.leave()
    try:
        visit.result()
    except httpx.HTTPError as error:
        raise DemoError(f"The page failed the customer: {error}\n{site.last_lines()}") from error
    return scene


def watch(screen: Screen, scene: Scene, worker: ManagePy, *, until: Callable[[], bool]) -> None:
    """Show what happens, and kill a process in between, until the condition holds or time runs out.

    The checks report what hasn't ended by then.
    """
    while time.monotonic() < scene.deadline:
        screen.tell(scene.plan.refresh())
        worker.check()
        if scene.crash.happens_now():
            jobs = f"with {len(scene.crash.victims)} jobs in hand"
            screen.step(screen.paint(f"☠ worker process {scene.crash.killed} is killed with -9, {jobs}", RED))
        screen.draw(scene.plan.jobs)
        if until():
            break
        time.sleep(TICK)
    screen.clear()


def summarize(screen: Screen, scene: Scene, results: list[Verdict]) -> None:
    """Say what ran, and whether it went as it should."""
    plan = scene.plan
    jobs = [planned.job for planned in plan.jobs]
    ended = Counter(str(job.state) for job in jobs)
    retried = [job for job in jobs if job.attempts_made > 1]
    names = {number: name for name, number in PRIORITIES.items()}
    by_priority = sorted(Counter(job.priority for job in jobs).items(), reverse=True)

    screen.heading("Summary")
    screen.say(
        f"  ran          {len(jobs)} jobs: " + ", ".join(f"{count} {state}" for state, count in ended.items())
    )
    screen.say(f"  on purpose   {sum(p.fails_on_purpose for p in plan.jobs)} failed for good")
    screen.say(
        f"  retried      {len(retried)} jobs, in {sum(job.attempts_made - 1 for job in retried)} extra runs"
    )
    screen.say(f"  run again    {len(scene.crash.victims)} because their process was killed")
    screen.say(f"  delayed      {sum(p.not_before is not None for p in plan.jobs)}")
    screen.say("  by priority  " + ", ".join(f"{names.get(p, p)} ({p}): {count}" for p, count in by_priority))
    screen.say(
        "  by queue     " + ", ".join(f"{queue}: {n}" for queue, n in Counter(j.queue for j in jobs).items())
    )
    screen.say(f"  files        {settings.MEDIA_ROOT}  (photos, reports, clips)")
    screen.say(f"  logs         {settings.BASE_DIR / 'runworker.log'}")

    screen.heading("Checked")
    for result in results:
        sign = screen.paint("✓", GREEN) if result.is_good else screen.paint("✗", RED)
        screen.say(f"  {sign} {result.text}")
    bad = sum(not result.is_good for result in results)
    screen.say()
    screen.say(f"{bad} of {len(results)} checks failed." if bad else f"All {len(results)} checks passed.")


def stay(screen: Screen, url: str, site: ManagePy, worker: ManagePy) -> None:
    """Leave the site and the worker running until Ctrl-C."""
    screen.heading("The shop is open")
    screen.say(f"  page   {url}/")
    screen.say(f"  admin  {url}/admin/   name {data.LOGIN}, password {data.LOGIN}")
    screen.say(f"  API    {url}/kue/docs   for anyone who is logged in")
    screen.say(screen.paint("  Ctrl-C stops everything.", FAINT))
    try:
        while True:
            site.check()
            worker.check()
            time.sleep(TICK)
    except KeyboardInterrupt:
        screen.say("\nStopping …")


def stopped_in_order(worker: ManagePy) -> Verdict:
    """Whether SIGTERM ended the worker as it should."""
    if worker.exit_code == 0:
        return Verdict(True, "the worker stopped gracefully when it was told to, with exit code 0")
    return Verdict(
        False, f"the worker was told to stop, and ended with {worker.exit_code}:\n{worker.last_lines()}"
    )


def is_up(customer: Customer) -> bool:
    """Whether the site answers."""
    try:
        return customer.http.get("/").is_success
    except httpx.TransportError:
        return False


def usual_or_free_port() -> int:
    """8000, or any free port if something already listens there."""
    with socket.socket() as probe:
        return free_port() if probe.connect_ex((HOST, USUAL_PORT)) == 0 else USUAL_PORT
