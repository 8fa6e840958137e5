"""The list of jobs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.http import urlencode

from django_kue import Job, admin, listing
from django_kue.states import State
from tests.test_admin.hands import (
    LIST,
    delayed_job,
    failed_job,
    listed,
    one_of_each,
    waiting_job,
)
from tests.test_cli.hands import enqueued

STATES = [str(state) for state in State]


def page(client: Client, query: str = "", url: str = LIST) -> str:
    return " ".join(client.get(url + query).content.decode().split())


def tabs(client: Client, query: str = "") -> dict[str, str]:
    return {tab.state: tab.count for tab in client.get(LIST + query).context["cl"].tabs}


def test_all_jobs_the_newest_first(boss: Client) -> None:
    ids = [waiting_job(queue=queue) for queue in ("default", "email", "default")]
    assert listed(boss) == ids[::-1]


@pytest.mark.parametrize("state", STATES)
def test_each_tab_has_the_jobs_of_its_state(boss: Client, state: str) -> None:
    ids = one_of_each()
    assert listed(boss, f"?state__exact={state}") == [ids[state]]
    assert listed(boss, f"?state={state}") == [ids[state]]


def test_tabs_count_exactly_and_keep_the_other_filters(boss: Client) -> None:
    one_of_each("default")
    one_of_each("email")
    delayed_job(queue="email")
    assert tabs(boss) == dict.fromkeys(STATES, "2") | {"delayed": "3", "all": "13"}
    assert tabs(boss, "?queue__exact=email") == dict.fromkeys(STATES, "1") | {"delayed": "2", "all": "7"}
    cl = boss.get(LIST + "?queue__exact=email&state__exact=failed&p=1&o=-5").context["cl"]
    by_state = {tab.state: tab for tab in cl.tabs}
    assert by_state["failed"].is_current
    assert not by_state["all"].is_current
    assert by_state["waiting"].url == "?queue__exact=email&state__exact=waiting"
    assert by_state["all"].url == "?queue__exact=email"


def test_tabs_say_no_number_that_would_be_wrong(boss: Client) -> None:
    failed_job("no tea")
    failed_job("no milk")
    waiting_job()
    assert tabs(boss, "?state__exact=failed&q=tea") == dict.fromkeys([*STATES, "all"], "") | {"failed": "1"}


def test_queues_are_counted_for_the_open_tab(boss: Client) -> None:
    one_of_each("default")
    waiting_job(queue="email")
    assert "default (1)" in page(boss, "?state__exact=failed")
    assert "email (0)" in page(boss, "?state__exact=failed")
    assert "email (1)" in page(boss)


def test_filters_go_together(boss: Client) -> None:
    failed_job(queue="default")
    wanted = failed_job(queue="email", name="tests.app.jobs.add")
    failed_job(queue="email")
    assert listed(boss, "?queue__exact=email&name__exact=tests.app.jobs.add&state__exact=failed") == [wanted]


def test_failed_functions_that_nobody_knows_any_more_can_be_chosen(boss: Client) -> None:
    failed_job(name="shop.jobs.long_gone")
    assert "?name__exact=shop.jobs.long_gone" in page(boss, "?state__exact=failed")


def test_facets_count_functions_and_dates(boss: Client) -> None:
    failed_job(name="shop.jobs.long_gone")
    failed_job(name="tests.app.jobs.add")
    text = page(boss, "?state__exact=failed&_facets=True")
    assert "shop.<wbr>jobs.<wbr>long_<wbr>gone (1)" in text, "a long name breaks where its parts end"
    assert "tests.<wbr>app.<wbr>jobs.<wbr>noop (0)" in text
    assert "Today (2)" in text
    waiting_job()
    delayed_job()
    assert "Today (1)" in page(boss, "?state__exact=waiting&_facets=True")
    assert "Any date (4)" in page(boss, "?_facets=True")
    assert "Today (1)" in page(boss, "?_facets=True&q=long_gone")
    assert "Any date (0)" in page(boss, "?_facets=True&q=nothing")


def test_the_date_filter(boss: Client) -> None:
    job_id = failed_job()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    def between(since: datetime, until: datetime) -> str:
        return "?" + urlencode({"state__exact": "failed", "at__gte": str(since), "at__lt": str(until)})

    day = timedelta(days=1)
    assert listed(boss, between(today, today + day)) == [job_id]
    assert listed(boss, between(today - day, today)) == []


@pytest.mark.parametrize(
    "query",
    [
        "?state__exact=bogus",
        "?title__contains=x",
        "?nonsense=1",
        "?at__gte=yesterday",
        "?queue__in=a,b",
        "?p=99",
    ],
)
def test_a_filter_that_makes_no_sense_leads_to_the_list_without_any(boss: Client, query: str) -> None:
    for _ in range(60):
        waiting_job()
    assert boss.get(LIST + query).headers.get("Location") == f"{LIST}?e=1"
    assert boss.get(f"{LIST}?e=1").status_code == 200


def test_an_id_leads_to_its_job(boss: Client) -> None:
    job_id = failed_job()
    [url] = re.findall(r'href="([^"?]+/change/)', page(boss, "?state__exact=failed"))
    assert boss.get(LIST, {"q": f" {job_id} "}).headers["Location"] == url
    assert boss.get(url).status_code == 200


def test_the_part_of_an_id_after_its_queue_is_enough(boss: Client) -> None:
    job_id = failed_job(queue="email")
    failed_job()
    assert listed(boss, f"?q={job_id.partition('.')[2]}") == [job_id]


def test_an_id_of_no_job_finds_nothing(boss: Client) -> None:
    waiting_job()
    assert listed(boss, "?q=default.AAAAAAAAAAAAAAAAAAAAAA") == []


def test_words_of_title_function_and_error_are_found(boss: Client) -> None:
    by_error = failed_job("the kettle is empty")
    by_title = enqueued(options={"title": "Boil the kettle"})
    by_name = enqueued("shop.kettle.boil")
    waiting_job()
    assert set(listed(boss, "?q=KETTLE")) == {by_error, by_title, by_name}


def test_a_search_says_how_far_it_looked(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting_job()
    assert "Searched" not in page(boss, "?q=add")
    monkeypatch.setattr(listing.Listing, "scope", lambda self: listing.Scope(10_000, 48_213, False))
    assert re.search("Searched the newest 10,?000 of 48,?213 jobs.", page(boss, "?q=add"))


def test_pages_go_as_far_as_a_list_of_many_queues_does_and_say_so(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOKED_AT", 100)
    monkeypatch.setattr(admin.changelist, "LOOKED_AT", 100)
    for queue in ("default", "email"):
        for _ in range(80):
            waiting_job(queue=queue)
    cl = boss.get(LIST).context["cl"]
    assert (cl.result_count, cl.paginator.num_pages) == (160, 4)
    assert "Pages go as far as the newest 100 jobs" in page(boss)
    assert len(listed(boss, "?p=4")) == 25
    one = boss.get(f"{LIST}?state__exact=waiting&queue__exact=email").context["cl"]
    assert (one.result_count, one.paginator.num_pages) == (80, 4)


def test_only_the_date_sorts(boss: Client) -> None:
    ids = [failed_job() for _ in range(3)]
    assert listed(boss, "?state__exact=failed") == ids[::-1]
    assert listed(boss, "?state__exact=failed&o=3") == ids  # the date's column, rising
    for column in (1, 2, 4, 5):
        assert listed(boss, f"?state__exact=failed&o={column}") == ids[::-1]


def test_delayed_jobs_that_are_due_first_come_first(boss: Client) -> None:
    later, sooner = delayed_job(delay=9_000_000), delayed_job(delay=5_000_000)
    assert listed(boss, "?state__exact=delayed") == [sooner, later]


def test_columns_say_what_matters_about_a_state(boss: Client) -> None:
    one_of_each()
    failed_text = page(boss, "?state__exact=failed")
    assert "ValueError: it broke" in failed_text
    assert "1 of 1" in failed_text
    assert "in 59 min" in page(boss, "?state__exact=delayed")
    active_text = page(boss, "?state__exact=active")
    assert '<progress class="kue-progress" max="100" value="0"' in active_text
    assert re.search(r'href="/admin/django_kue/worker/[^"]+">host:1:a</a>', active_text)
    assert "Took" in page(boss, "?state__exact=completed")


def test_waiting_jobs_have_a_place_in_their_queue(boss: Client) -> None:
    ids = [waiting_job() for _ in range(60)]
    query = "?state__exact=waiting&queue__exact=default"

    def places(query: str) -> list[str]:
        return re.findall(r':place"><span class="kue-number">([^<]+)<', page(boss, query))

    assert listed(boss, query)[0] == ids[-1]
    assert places(query)[:2] == ["60", "59"]
    assert places(f"{query}&p=3")[-1] == "1"
    assert places(f"{query}&o=3")[:2] == ["1", "2"]
    assert set(places("?state__exact=waiting")) == {"–"}


@pytest.mark.parametrize(
    ("query", "advice"),
    [
        ("", "No jobs yet."),
        ("?state__exact=failed", "No failed jobs."),
        ("?state__exact=waiting", "workers keep up"),
        ("?q=tea", "No job matches."),
    ],
)
def test_an_empty_list_helps(boss: Client, query: str, advice: str) -> None:
    assert advice in page(boss, query)


def test_no_sql_is_made_for_jobs(boss: Client) -> None:
    def queries(query: str) -> list[str]:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert boss.get(LIST + query).status_code == 200
        return [one["sql"] for one in captured]

    queries("")
    for query in ("", "?state__exact=failed", "?q=tea", "?_facets=True"):
        made = queries(query)
        assert len(made) == 2, made  # the session, and the user
        assert not any("django_kue" in sql for sql in made)
    for _ in range(60):
        waiting_job()
    assert len(queries("?p=2")) == 2


def test_lists_are_live_but_searches_less_often(boss: Client) -> None:
    waiting_job()
    assert 'data-kue-live="2"' in page(boss)
    assert 'data-kue-live="10"' in page(boss, "?q=tea")


def test_nothing_on_the_page_is_inline(boss: Client) -> None:
    one_of_each()
    for query in ("", "?state__exact=active", "?state__exact=failed"):
        text = boss.get(LIST + query).content.decode()
        own = text[
            text.index('class="kue kue-jobs"') : text.index("</footer>") if "</footer>" in text else None
        ]
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", own)


def test_another_site_links_to_itself(boss: Client) -> None:
    job_id = failed_job()
    text = page(boss, "?state__exact=failed", "/ops/django_kue/job/")
    assert "/ops/django_kue/job/" in text
    assert 'href="/admin/' not in text
    location = boss.get("/ops/django_kue/job/", {"q": job_id}).headers["Location"]
    assert location.startswith("/ops/")


def test_a_job_that_leaves_while_the_page_is_read_is_left_out(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [failed_job() for _ in range(2)]
    read = listing._read_jobs

    def gone_meanwhile(keys: object) -> list[Job]:
        return [job for job in read(keys) if job.id != ids[0]]

    monkeypatch.setattr(listing, "_read_jobs", gone_meanwhile)
    assert listed(boss, "?state__exact=failed") == [ids[1]]


def test_numbers_are_said_as_the_project_wants_them_but_not_in_what_is_posted(boss: Client, settings) -> None:
    settings.USE_THOUSAND_SEPARATOR = True
    for _ in range(1001):
        enqueued()
    assert tabs(boss)["waiting"] == "1,001"
    hidden = re.search(r'name="kue_until" value="([^"]+)"', page(boss))
    assert hidden
    assert hidden[1].isdecimal()
