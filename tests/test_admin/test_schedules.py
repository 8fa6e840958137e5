"""The schedules' pages: when each comes, how it went, orders to them, adding and editing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.admin.utils import quote
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.html import escape

from django_kue import bulk, get_queue, registry, schedules
from django_kue.admin import index
from django_kue.errors import ScheduleDoesNotExist
from django_kue.store import transport
from tests.app import jobs
from tests.app.classified import log_in
from tests.conftest import NOBODY
from tests.settings import KUE
from tests.test_admin.conftest import redis_unchanged
from tests.test_admin.test_hostile_text import CORPUS, assert_harmless
from tests.test_engine.hands import Hands, completed_kept, failed
from tests.test_schedules.conftest import Make
from tests.test_schedules.hands import now_ms, set_next, tick

LIST = "/admin/django_kue/schedule/"
WHEN = {"timezone": "Europe/Berlin", "catch_up": "last", "overlap": "on", "unit": "60"}
MONDAYS = {**WHEN, "cron": "30 2 * * mon"}


@pytest.fixture(autouse=True)
def known_anew() -> Iterator[None]:
    index.forget()
    yield
    index.forget()


def url(name: str, view: str = "change", site: str = "admin") -> str:
    return reverse(f"admin:django_kue_schedule_{view}", args=[quote(name)], current_app=site)


def text_of(response: Any) -> str:
    return unescape(response.content.decode())


def page(client: Client, address: str = LIST) -> str:
    response = client.get(address)
    assert response.status_code == 200, (address, response.status_code)
    return text_of(response)


def made(name: str = "north", function: Any = jobs.add, **said: Any) -> schedules.Schedule:
    return schedules.create(name, function, **({"cron": "30 2 * * mon", "args": [1]} | said))


def declared(make: Make, name: str = "tests.digest", **options: Any) -> None:
    """A schedule that the code declares, and that a worker has found."""

    def digest() -> None:
        pass

    make(digest, name=name, **({"cron": "0 8 * * *"} | options))
    tick()


def ran(name: str, outcome: Any = None) -> str:
    """A run of a schedule that ended so; its job's id."""
    job = schedules.run_now(name)
    hands = Hands(job.queue)
    hands.take_one()
    hands.settle(job.id.partition(".")[2], completed_kept(None, 3) if outcome is None else outcome)
    return job.id


def said(client: Client, response: Any) -> str:
    """The page after a POST, with its messages."""
    assert response.status_code == 302, response.status_code
    return page(client, response["Location"])


def ordered(client: Client, action: str, *names: str, **data: Any) -> Any:
    return client.post(LIST, {"action": action, "_selected": names, **data})


# ── looking ──


def test_a_schedule_is_listed_in_words_with_its_zone_its_next_and_its_last_run(viewer: Client) -> None:
    made(timezone="Europe/Berlin")
    job_id = ran("north", failed())
    html = page(viewer)
    for words in (
        f'href="{url("north")}"',
        'title="30 2 * * mon">At 02:30 on Monday (Europe/Berlin)',
        "02:30:00 CE",  # of the next run, in its own zone
        f'href="{reverse("admin:django_kue_job_change", args=[quote(job_id)])}"',
        '<span class="kue-badge kue-failed">failed</span>',
        "tests.<wbr>app.<wbr>jobs.<wbr>add",
    ):
        assert words in html, words


def test_the_words_are_in_the_readers_language(viewer: Client) -> None:
    made(timezone="Europe/Berlin")

    with translation.override(translation.get_language()):  # the client leaves the request's language on
        html = text_of(viewer.get(LIST, headers={"accept-language": "de"}))

    assert 'title="30 2 * * mon">Jeden Montag um 02:30 Uhr (Europe/Berlin)<' in html


def test_an_interval_is_told_in_the_readers_time_zone(viewer: Client) -> None:
    made("m", cron=None, every=3600)

    with timezone.override("Asia/Tokyo"):
        assert ":00:00 JST" in page(viewer)
        html = page(viewer, url("m"))

    assert ":00:00 JST" in html
    assert "UTC" not in html
    assert "Your time zone" not in html


def test_what_is_declared_and_no_worker_has_taken_up_is_told(viewer: Client, make_job: Make) -> None:
    def report() -> None: ...

    make_job(report, cron="0 4 * * *", queue="email")
    told = 'tests.report (<code dir="ltr">manage.py runworker --queues email</code>)'

    assert told in page(viewer)
    tick()
    assert told not in page(viewer)


def test_that_its_queue_is_paused_is_told(viewer: Client) -> None:
    made(queue="email")
    assert "Its queue is paused" not in page(viewer, url("north"))

    get_queue("email").pause()

    assert "Its queue is paused" in page(viewer, url("north"))


def test_without_schedules_the_page_says_how_to_declare_one(viewer: Client) -> None:
    assert '@job(cron="30 2 * * mon")' in page(viewer)


def test_the_strip_tells_outcomes_by_sign_and_word_with_the_newest_last(viewer: Client) -> None:
    made()
    ran("north")
    ran("north", failed())
    set_next("north", now_ms() - 3 * 7 * 86_400_000)
    tick()
    html = page(viewer, url("north"))
    strip = html[html.index('class="kue-strip"') :]
    strip = strip[: strip.index("</ol>")]
    assert re.findall(r'kue-tick kue-(\w+)"', strip) == ["completed", "failed", "missed", "waiting"]
    assert re.findall(r'aria-hidden="true">(.)<', strip) == ["✓", "✕", "–", "…"]
    assert "completed (run now), " in strip
    assert "missed (" in strip
    assert re.search(r'aria-label="Last ticks: [^"]*1 failed, 1 completed"', html)


def test_a_page_tells_all_of_a_schedule(viewer: Client) -> None:
    made(timezone="America/New_York", kwargs={"b": 5}, catch_up="all", overlap=False)
    ran("north")
    html = page(viewer, url("north"))
    for words in (
        "At 02:30 on Monday (America/New_York)", "run once for each missed tick", "none starts",
        "no: it was made at run time", '"a": 1', '"b": 5', "Your time zone", "run now",
        f'href="{reverse("admin:django_kue_queue_change", args=["default"])}"',
    ):  # fmt: skip
        assert words in html, words
    assert len(re.findall(r"02:30:00 E[DS]T", html)) == 6  # the next run, and five


def test_where_its_zone_is_the_readers_runs_are_told_once(viewer: Client) -> None:
    made(timezone="UTC")
    assert "Your time zone" not in page(viewer, url("north"))


def test_the_run_of_a_tick_tells_how_long_it_took_while_its_job_is_kept(viewer: Client) -> None:
    made()
    job_id = ran("north")
    row = page(viewer, url("north")).split('id="kue-ticks"')[1]
    assert re.search(r'<td class="kue-number">[\d.,]+ d</td>', row)  # the hands say that it began in 1970
    get_queue("default").get(job_id).remove()
    row = page(viewer, url("north")).split('id="kue-ticks"')[1]
    assert '<td class="kue-number">–</td>' in row


def test_a_job_that_was_removed_before_its_end_is_no_link(viewer: Client) -> None:
    made()
    schedules.run_now("north").remove()
    for address in (LIST, url("north")):
        html = page(viewer, address)
        assert "job removed (run now), " in html
        assert "/django_kue/job/default" not in html


def test_arguments_that_no_key_opens_are_said_to_be_so_and_stay(boss: Client) -> None:
    """Whoever lacks the key may still change when it comes."""
    with override_settings(KUE=KUE | {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}):
        made()
    with override_settings(KUE=KUE | {"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}):
        assert "no key in" in page(boss, url("north"))
        assert "can’t be read" in page(boss, url("north", "edit"))
        assert (
            boss.post(url("north", "edit"), {**MONDAYS, "cron": "0 4 * * *", "arguments": "{}"}).status_code
            == 302
        )
        assert "no key in" in page(boss, url("north"))


def test_secrets_among_the_arguments_are_on_no_page(boss: Client) -> None:
    made("north", jobs.noop, args=["x"])
    schedules.create("login", log_in, every=60, kwargs={"user": "bob", "password": "geheimnis"})
    for address in (LIST, url("login"), url("login", "edit")):
        assert "geheimnis" not in page(boss, address)
    assert "•••" in page(boss, url("login"))


def test_the_states_are_told_and_listed_alone(viewer: Client, make_job: Make) -> None:
    declared(make_job)
    for name in ("paused", "late", "failing", "good"):
        made(name)
    schedules.pause("paused")
    schedules.update("tests.digest", catch_up="none")
    ran("failing", failed())
    set_next("late", now_ms() - 120_000)
    html = page(viewer)
    for words in (">paused</span>", ">overdue</span>", ">changed here</span>"):
        assert words in html, words
    for state, name in (
        ("paused", "paused"), ("late", "late"), ("failing", "failing"), ("changed", "tests.digest"),
    ):  # fmt: skip
        assert listed(viewer, f"?state={state}") == [name], state


def listed(client: Client, query: str = "") -> list[str]:
    html = page(client, LIST + query).replace("<wbr>", "")
    return re.findall(r'<a class="kue-title" href="[^"]+">([^<]+)</a>', html)


def test_schedules_are_found_by_name_function_and_queue(viewer: Client) -> None:
    made("north")
    made("South", jobs.noop, args=[], queue="email")
    assert listed(viewer, "?q=sou") == ["South"]
    assert listed(viewer, "?q=jobs.add") == ["north"]
    assert listed(viewer, "?queue=email") == ["South"]
    assert listed(viewer, "?q=nothing") == []
    assert listed(viewer, "?state=rubbish&p=99&queue=") == ["South", "north"]


def test_of_many_a_page_at_a_time_is_shown_for_few_calls(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(55):
        made(f"s{number:02}")
        schedules.run_now(f"s{number:02}")
    index.failed_count()
    sent: list[int] = []
    link = transport.borrow()
    kind = type(link)
    transport.give_back(link)
    send = kind.send

    def counted(self: Any, *calls: Any, **options: Any) -> Any:
        sent.append(len(calls))
        return send(self, *calls, **options)

    monkeypatch.setattr(kind, "send", counted)
    assert listed(viewer) == [f"s{number:02}" for number in range(50)]
    assert "Page 1 of 2" in page(viewer)
    assert listed(viewer, "?p=2") == [f"s{number:02}" for number in range(50, 55)]
    assert len(sent) == 3 * 3
    sent.clear()
    page(viewer, url("s00"))
    assert len(sent) <= 5


def test_who_may_not_see_jobs_is_led_to_none(client_with: Callable[..., Client]) -> None:
    made()
    ran("north")
    for address in (LIST, url("north")):
        html = page(client_with("view_schedule"), address)
        assert "/django_kue/job/" not in html
        assert "/django_kue/queue/" not in html


def test_the_index_names_the_page_where_there_are_schedules_or_somebody_may_add_one(
    viewer: Client, boss: Client
) -> None:
    assert LIST not in page(viewer, "/admin/")
    assert LIST in page(boss, "/admin/")
    made()
    index.forget()
    assert LIST in page(viewer, "/admin/")


def test_another_site_links_to_itself(boss: Client) -> None:
    made()
    ran("north")
    for address in (
        reverse("admin:django_kue_schedule_changelist", current_app="ops"),
        url("north", site="ops"),
    ):
        html = page(boss, address)
        assert 'href="/admin/' not in html


@pytest.mark.parametrize("view", ["change", "edit", "delete", "history"])
def test_what_isnt_there_leads_to_the_list(boss: Client, view: str) -> None:
    response = boss.get(url("nobody", view))
    assert response.status_code == 302
    if view != "history":
        assert "There’s no schedule nobody" in page(boss, response["Location"])


NAMES = [
    "a/b//c", "it's \"quoted\"", "Nächtlich 夜 ☾", "x" * 200, "add", "preview", "?q#top", "..", "100%", "_5F",
    "north/change", "history",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_any_name_has_pages_and_takes_orders(boss: Client, name: str) -> None:
    made(name)
    assert f'href="{escape(url(name))}"' in boss.get(LIST).content.decode()
    for view in ("change", "edit", "delete", "history"):
        assert escape(name) in boss.get(url(name, view)).content.decode(), view
    assert boss.post(url(name, "pause")).status_code == 302
    assert schedules.get(name).is_paused
    ordered(boss, "resume", name)
    assert not schedules.get(name).is_paused
    boss.post(url(name, "delete"), {"post": "yes"})
    assert schedules.all() == []


@pytest.mark.parametrize("text", [text for text in CORPUS if text.isprintable() and "|" not in text])
def test_hostile_text_is_text(boss: Client, text: str) -> None:
    text = text.replace(",", ";")
    made(text, jobs.noop, args=[text])
    for address in (LIST, f"{LIST}?q={text}&state={text}&queue={text}", *(
        url(text, view) for view in ("change", "edit", "delete", "history")
    )):  # fmt: skip
        assert_harmless(boss.get(address).content.decode())
    for html in (
        boss.post(url(text, "edit"), {"cron": text, "timezone": text, "arguments": text}).content.decode(),
        boss.post(
            f"{LIST}add/", dict.fromkeys(("name", "function", "queue", "arguments"), text)
        ).content.decode(),
    ):
        assert "Please correct" in html
        assert_harmless(html)
    response = boss.post(url(text, "run"))
    assert_harmless(boss.get(response["Location"]).content.decode())


def test_while_redis_is_away_every_page_says_so(boss: Client) -> None:
    away = KUE | {"REDIS": NOBODY, "ENQUEUE_TIMEOUT": 0.1}
    with override_settings(KUE=away):
        for address in (LIST, url("north"), url("north", "edit"), url("north", "delete")):
            assert boss.get(address).status_code == 503
        for address in (url("north", "run"), url("north", "pause"), LIST):
            assert boss.post(address, {"action": "pause"}).status_code == 503
        answer = boss.post(
            f"{LIST}add/", {**MONDAYS, "name": "n", "function": jobs.noop.name, "arguments": "{}"}
        )
        assert answer.status_code == 503


# ── orders ──


def test_run_now_makes_a_job_and_tells_which(client_with: Callable[..., Client]) -> None:
    made()
    client = client_with("view_schedule", "run_schedule")
    html = said(client, client.post(url("north", "run")))
    [job] = get_queue("default").jobs("waiting")
    assert f"Run now, as job {job.id}." in html
    [entry] = LogEntry.objects.all()
    assert (entry.object_id, entry.change_message) == ("north", f"Run now, as job {job.id}.")


def test_a_run_that_isnt_possible_is_said(boss: Client) -> None:
    made(overlap=False)
    boss.post(url("north", "run"))
    assert "its last run is still running" in said(boss, boss.post(url("north", "run")))
    assert get_queue("default").counts()["waiting"] == 1
    assert LogEntry.objects.count() == 1


def test_another_holder_of_the_unique_key_is_told(boss: Client, make_job: Make) -> None:
    declared(make_job, unique=True)
    boss.post(url("tests.digest", "run"))
    [job] = get_queue("default").jobs("waiting")
    html = said(boss, boss.post(url("tests.digest", "run")))
    assert f"Another job holds the unique key: {job.id}" in html


def test_pause_and_resume_are_told_and_logged_once(operator: Client) -> None:
    made()
    assert "Paused: its ticks are skipped" in said(operator, operator.post(url("north", "pause")))
    assert schedules.get("north").is_paused
    assert "is already like that" in said(operator, operator.post(url("north", "pause")))
    assert "This schedule is paused" in page(operator, url("north"))
    assert "Resumed" in said(operator, operator.post(url("north", "resume")))
    assert not schedules.get("north").is_paused
    assert [entry.object_id for entry in LogEntry.objects.all()] == ["north", "north"]


def test_a_schedule_is_deleted_after_asking_and_its_jobs_stay(boss: Client) -> None:
    made()
    schedules.run_now("north")
    with redis_unchanged():
        assert "These schedules will be forgotten" in page(boss, url("north", "delete"))
    assert "Deleted" in said(boss, boss.post(url("north", "delete"), {"post": "yes"}))
    assert schedules.all() == []
    assert get_queue("default").counts()["waiting"] == 1
    assert LogEntry.objects.get().action_flag == DELETION


def test_what_is_declared_isnt_deleted(boss: Client, make_job: Make) -> None:
    declared(make_job)
    assert url("tests.digest", "delete") not in page(boss, url("tests.digest"))
    assert "Yes, delete" not in page(boss, url("tests.digest", "delete"))
    html = said(boss, boss.post(url("tests.digest", "delete"), {"post": "yes"}))
    assert "is declared in code or settings, and would come back" in html
    assert schedules.get("tests.digest")
    assert not LogEntry.objects.exists()


def test_orders_to_many_are_logged_each_and_needless_ones_left_out(boss: Client) -> None:
    for name in ("a", "b", "c"):
        made(name)
    schedules.pause("c")
    assert "2 schedules paused." in said(boss, ordered(boss, "pause", "a", "b", "c"))
    assert all(schedule.is_paused for schedule in schedules.all())
    assert {entry.object_id for entry in LogEntry.objects.all()} == {"a", "b"}
    assert "2 schedules run now." in said(boss, ordered(boss, "run", "a", "c"))
    assert "3 schedules resumed." in said(boss, ordered(boss, "resume", "a", "b", "c"))
    assert "No schedule was chosen." in said(boss, ordered(boss, "pause"))


def test_deleting_many_asks_first_and_spares_what_is_declared(boss: Client, make_job: Make) -> None:
    declared(make_job)
    made("a")
    made("b")
    with redis_unchanged():
        html = text_of(ordered(boss, "delete", "a", "b", "tests.digest"))
    assert re.findall(r'name="_selected" value="([^"]+)"', html) == ["a", "b"]
    assert "These stay: they’re declared" in html
    html = said(boss, ordered(boss, "delete", "a", "tests.digest", post="yes"))
    assert "1 schedule deleted." in html
    assert "is declared in code or settings" in html
    assert [schedule.name for schedule in schedules.all()] == ["b", "tests.digest"]


@pytest.mark.parametrize("action", ["", "rubbish", "__class__", "deed"])
def test_an_order_that_there_isnt_is_refused(boss: Client, action: str) -> None:
    made()
    assert ordered(boss, action, "north").status_code == 403


RIGHTS = {
    "run": "run_schedule", "pause": "change_schedule", "resume": "change_schedule",
    "reset": "change_schedule", "edit": "change_schedule", "delete": "delete_schedule",
}  # fmt: skip


@pytest.mark.parametrize("right", ["view_schedule", *sorted(set(RIGHTS.values())), "add_schedule"])
def test_each_order_needs_its_own_permission(client_with: Callable[..., Client], right: str) -> None:
    made()
    made("paused")
    schedules.pause("paused")
    client = client_with("view_schedule", right)
    html = page(client, url("north"))
    for verb, needed in RIGHTS.items():
        if needed == right:
            assert client.post(url("north", verb), {**MONDAYS, "arguments": "{}"}).status_code in (200, 302)
        else:
            with redis_unchanged():
                assert client.post(url("north", verb), {"post": "yes"}).status_code == 403, verb
                assert ordered(client, verb, "north", "paused", post="yes").status_code == 403, verb
        if verb not in ("resume", "reset"):
            assert (f'"{url("north", verb)}"' in html) == (needed == right), verb
    may_add = right == "add_schedule"
    assert client.get(f"{LIST}add/").status_code == (200 if may_add else 403)
    assert (f'"{LIST}add/"' in page(client)) == may_add


def test_who_may_run_but_not_see_is_refused(client_with: Callable[..., Client]) -> None:
    made()
    with redis_unchanged():
        assert client_with("run_schedule").post(url("north", "run")).status_code == 403


@pytest.mark.parametrize("verb", ["run", "pause", "resume", "reset"])
def test_a_get_is_no_order(boss: Client, verb: str) -> None:
    made()
    with redis_unchanged():
        assert boss.get(url("north", verb)).status_code == 405
        page(boss, f"{LIST}?action={verb}&_selected=north&post=yes")


# ── adding and editing ──


def test_a_schedule_is_added(boss: Client) -> None:
    new = {**MONDAYS, "name": "north", "function": "tests.app.jobs.add", "arguments": '{"a": 3, "b": 4}'}
    html = said(boss, boss.post(f"{LIST}add/", {**new, "queue": "email", "catch_up": "all"}))
    assert "Added." in html
    schedule = schedules.get("north")
    assert (schedule.words, schedule.queue) == ("At 02:30 on Monday (Europe/Berlin)", "email")
    assert (schedule.args, schedule.kwargs, schedule.catch_up) == ((3, 4), {}, "all")
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.action_flag) == ("north", ADDITION)
    made("other")  # a name that's taken
    assert "There’s a schedule with this name already." in text_of(boss.post(f"{LIST}add/", new))


def test_an_interval_is_added(boss: Client) -> None:
    new = {**WHEN, "name": "often", "function": "tests.app.jobs.noop", "arguments": "{}", "timezone": ""}
    assert boss.post(f"{LIST}add/", {**new, "every": "1.5", "unit": "3600"}).status_code == 302
    assert schedules.get("often").every == 5400
    html = page(boss, url("often", "edit"))
    assert 'name="every" value="90"' in html
    assert '<option value="60" selected>minutes' in html


BAD = [
    ({"cron": "61 2 * * *"}, "cron", "isn't a cron expression: bad minute"),
    ({"cron": "0 0 30 2 *"}, "cron", "isn't a cron expression: bad day-of-month"),
    ({"cron": "x" * 201}, "cron", "at most 200 characters"),
    ({"cron": ""}, "cron", "Write either a cron expression or an interval"),
    ({"every": "5"}, "cron", "not both"),
    ({"cron": "", "every": "0"}, "every", "must be from one second to ten years"),
    ({"cron": "", "every": "1e300"}, "every", "must be from one second to ten years"),
    ({"cron": "", "every": "nan"}, "every", "Enter a number"),
    ({"timezone": "Mars/Olympus"}, "timezone", "there's no time zone 'Mars/Olympus'"),
    ({"timezone": "../../etc/passwd"}, "timezone", "there's no time zone"),
    ({"catch_up": "never"}, "catch_up", "Select a valid choice"),
    ({"unit": "7"}, "unit", "Select a valid choice"),
    ({"arguments": "{"}, "arguments", "This isn’t JSON"),
    ({"arguments": "[1]"}, "arguments", "Write an object"),
    ({"arguments": "{}"}, "arguments", "The function takes (a: 'int', b: 'int' = 2)"),
    ({"arguments": '{"a": 1, "c": 2}'}, "arguments", "There’s no argument 'c'"),
]


@pytest.mark.parametrize(("wrong", "field", "reason"), BAD)
def test_a_mistake_stands_at_its_field(boss: Client, wrong: dict[str, str], field: str, reason: str) -> None:
    made()
    right = {**MONDAYS, "arguments": '{"a": 1}'}
    new = {**right, "name": "south", "function": "tests.app.jobs.add"}
    with redis_unchanged():
        for address, data in ((url("north", "edit"), right), (f"{LIST}add/", new)):
            html = text_of(boss.post(address, {**data, **wrong}))
            row = html.split(f"field-{'every' if field == 'unit' else field}")[1].split("form-row")[0]
            assert reason in row, address
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"name": "a,b"}, "name"), ({"name": "a\x00b"}, "name"), ({"function": "os.system"}, "function"),
     ({"function": ""}, "function"), ({"queue": "nowhere"}, "queue"), ({"name": ""}, "name")],
)  # fmt: skip
def test_only_what_there_is_can_be_scheduled(boss: Client, wrong: dict[str, str], field: str) -> None:
    new = {**MONDAYS, "name": "n", "function": "tests.app.jobs.noop", "arguments": "{}"}
    html = text_of(boss.post(f"{LIST}add/", {**new, **wrong}))
    assert "errorlist" in html.split(f"field-{field}")[1].split("form-row")[0]
    assert schedules.all() == []


def test_nobody_schedules_a_bulk_job_here(boss: Client) -> None:
    name = bulk.bulk_job.name
    assert f'value="{name}"' not in page(boss, f"{LIST}add/")
    new = {**MONDAYS, "name": "n", "function": name, "arguments": "{}"}
    assert "Select a valid choice" in text_of(boss.post(f"{LIST}add/", new))


def test_an_edit_is_taken_and_told(boss: Client) -> None:
    made(kwargs={"b": 5})
    html = said(
        boss, boss.post(url("north", "edit"), {**MONDAYS, "cron": "0 4 * * *", "arguments": '{"a": 9}'})
    )
    assert "Changed: Cron expression, Time zone, Arguments." in html
    schedule = schedules.get("north")
    assert (schedule.cron, schedule.timezone, schedule.args, schedule.kwargs) == (
        "0 4 * * *",
        "Europe/Berlin",
        (9,),
        {},
    )
    assert "Changed: Cron expression" in LogEntry.objects.get().change_message


def test_a_hidden_value_stays_when_its_mask_does(boss: Client) -> None:
    schedules.create("login", log_in, every=60, kwargs={"user": "bob", "password": "geheimnis"})
    data = {**WHEN, "every": "5", "arguments": '{"user": "eve", "password": "•••"}'}
    assert boss.post(url("login", "edit"), data).status_code == 302
    assert schedules.get("login").args == ("eve", "geheimnis")


def test_arguments_that_cant_be_read_stay_when_only_the_time_is_changed(boss: Client, make_job: Make) -> None:
    def greet(name: str) -> None:
        pass

    function = make_job(greet)
    schedules.create("greeting", function, every=60, args=["Ada"])

    def renamed(other: str, more: int) -> None:
        pass

    registry.unregister(function)
    make_job(renamed, name=function.name)
    html = page(boss, url("greeting", "edit"))
    assert "don’t fit the function as it is now" in html
    assert boss.post(url("greeting", "edit"), {**WHEN, "every": "5", "arguments": "{}"}).status_code == 302
    assert (schedules.get("greeting").every, schedules.get("greeting").args) == (300, ("Ada",))


def test_of_a_declared_one_only_what_can_be_overridden_is_edited(boss: Client, make_job: Make) -> None:
    declared(make_job)
    html = page(boss, url("tests.digest", "edit"))
    assert "This schedule is declared." in html
    assert "@job(cron=…) on tests.digest" in html
    assert 'name="arguments"' not in html
    assert (
        boss.post(
            url("tests.digest", "edit"), {**WHEN, "cron": "0 9 * * *", "arguments": '{"x": 1}'}
        ).status_code
        == 302
    )
    schedule = schedules.get("tests.digest")
    assert (schedule.cron, schedule.overrides, schedule.kwargs) == ("0 9 * * *", ("rule",), {})
    html = page(boss, url("tests.digest"))
    assert url("tests.digest", "reset") in html
    assert "Back to what’s declared." in said(boss, boss.post(url("tests.digest", "reset")))
    assert schedules.get("tests.digest").cron == "0 8 * * *"


def test_a_schedule_of_an_unknown_function_can_still_be_steered(boss: Client, make_job: Make) -> None:
    def greet(name: str) -> None:
        pass

    function = make_job(greet)
    schedules.create("greeting", function, every=60, args=["Ada"])
    registry.unregister(function)
    html = page(boss, url("greeting"))
    assert "This process doesn’t know the function" in html
    assert url("greeting", "run") not in html
    assert "isn't known here" in said(boss, boss.post(url("greeting", "run")))
    assert 'name="arguments"' not in page(boss, url("greeting", "edit"))
    assert boss.post(url("greeting", "edit"), {**WHEN, "every": "5"}).status_code == 302
    assert schedules.get("greeting").every == 300


def test_what_vanishes_while_its_edited_is_said(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made()

    def gone(name: str, **said: Any) -> None:
        raise ScheduleDoesNotExist(f"No schedule is called {name!r}")

    monkeypatch.setattr(schedules, "update", gone)
    assert "No schedule is called" in text_of(
        boss.post(url("north", "edit"), {**MONDAYS, "arguments": '{"a": 1}'})
    )


def test_a_rule_thats_typed_is_told_in_words(boss: Client, viewer: Client) -> None:
    address = reverse("admin:django_kue_schedule_preview")
    answer = boss.get(address, {"cron": "30 2 * * mon", "timezone": "Asia/Tokyo"}).json()
    assert answer["words"] == "At 02:30 on Monday (Asia/Tokyo)"
    assert "02:30:00 JST" in answer["next"]
    assert boss.get(address, {"cron": "rubbish"}).json() == {"words": "", "next": ""}
    assert viewer.get(address).status_code == 403
