"""What Prometheus is told, read as Prometheus' own client reads it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from prometheus_client import CollectorRegistry, parser
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.openmetrics import parser as openmetrics_parser

from django_kue import get_queue, measures, schedules
from django_kue.contrib import prometheus
from django_kue.contrib.prometheus import BUCKETS, METRICS, KueCollector, metrics
from django_kue.measures import Row
from django_kue.store import ask, moves, send
from django_kue.testing import WorkerThread
from tests.app import jobs
from tests.conftest import redis_client
from tests.test_cli.hands import ended, enqueued
from tests.test_cli.test_workers import announce
from tests.test_engine.hands import completed, failed, parked

Labels = frozenset[tuple[str, str]]


class Scraped:
    """A scrape's samples, by name and labels."""

    def __init__(self, text: str, parse: Any = parser.text_string_to_metric_families) -> None:
        self.families = list(parse(text))
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __getitem__(self, name: str) -> float:
        return self.get(name)

    def get(self, name: str, **labels: str) -> float:
        return self._samples[name, frozenset(labels.items())]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self._samples}

    def __iter__(self) -> Iterator[tuple[str, Labels]]:
        return iter(self._samples)


def registry(**options: Any) -> CollectorRegistry:
    found = CollectorRegistry()
    found.register(KueCollector(**options))
    return found


def scrape(**options: Any) -> Scraped:
    return Scraped(generate_latest(registry(**options)).decode())


def ran(
    queue: str = "email", *, times: int = 1, kind: str = "c", wait: float = 0.5, run: float = 0.1
) -> None:
    """As a worker tells it of its runs."""
    one = Row()
    one.count_run(kind, times=times, work=run * times)
    one.time_run(measures.cell_of(wait), measures.cell_of(run), times)
    send(moves.measure(queue, one, {"shop.jobs.send": one}))


def test_jobs_are_told_by_queue_and_state() -> None:
    enqueued(queue="email")
    enqueued(queue="email", delay=60_000)
    ended(completed())
    ended(failed())
    found = scrape()
    assert found.get("kue_jobs", queue="email", state="waiting") == 1
    assert found.get("kue_jobs", queue="email", state="delayed") == 1
    assert found.get("kue_jobs", queue="default", state="failed") == 1
    assert found.get("kue_jobs_finished_total", queue="default", state="completed") == 1


def test_how_often_no_worker_could_run_a_job_is_told() -> None:
    ended(parked())
    assert scrape().get("kue_jobs_parked_total", queue="default") == 1
    assert scrape().get("kue_jobs_parked_total", queue="email") == 0


def test_the_age_of_the_oldest_waiting_job_and_a_pause_are_told() -> None:
    enqueued(queue="email")
    get_queue("email").pause()
    found = scrape()
    assert 0 <= found.get("kue_oldest_waiting_seconds", queue="email") < 60
    assert found.get("kue_oldest_waiting_seconds", queue="default") == 0
    assert found.get("kue_queue_paused", queue="email") == 1
    assert found.get("kue_queue_paused", queue="default") == 0


def test_runs_are_counted_by_outcome_and_by_function() -> None:
    ran(times=3)
    ran(kind="f")
    ran(kind="r", times=2)
    ran(kind="x")
    found = scrape()
    for outcome, count in {"completed": 3, "failed": 1, "retried": 2, "other": 1}.items():
        assert found.get("kue_runs_total", queue="email", outcome=outcome) == count
        of_function = {"queue": "email", "function": "shop.jobs.send", "outcome": outcome}
        assert found.get("kue_function_runs_total", **of_function) == count
    seconds = found.get("kue_function_run_seconds_total", queue="email", function="shop.jobs.send")
    assert seconds == pytest.approx(0.7)


def test_durations_are_histograms_whose_buckets_hold_what_was_measured() -> None:
    ran(times=4, run=0.1, wait=2.0)
    ran(run=30.0, wait=0.00001)
    found = scrape()
    buckets = [found.get("kue_run_duration_seconds_bucket", queue="email", le=repr(one)) for one in BUCKETS]
    assert [count for limit, count in zip(BUCKETS, buckets, strict=True) if limit < 0.09] == [0] * 10
    assert {count for limit, count in zip(BUCKETS, buckets, strict=True) if 0.14 < limit < 30} == {4}
    assert found.get("kue_run_duration_seconds_bucket", queue="email", le="+Inf") == 5
    assert found.get("kue_run_duration_seconds_count", queue="email") == 5
    assert found.get("kue_run_duration_seconds_sum", queue="email") == pytest.approx(30.4)
    assert found.get("kue_wait_duration_seconds_bucket", queue="email", le=repr(BUCKETS[0])) == 1


def test_a_counter_never_falls_when_the_measurements_of_a_week_are_gone() -> None:
    ran(times=7)
    before = scrape().get("kue_runs_total", queue="email", outcome="completed")
    for key in [*redis_client().scan_iter("kue:{email}:ms:*"), *redis_client().scan_iter("kue:{email}:mf:*")]:
        redis_client().delete(key)
    assert scrape().get("kue_runs_total", queue="email", outcome="completed") == before == 7


def test_sums_have_no_end_of_life() -> None:
    ran()
    assert [redis_client().ttl(f"kue:{{email}}:{key}") for key in ("rs", "rf")] == [-1, -1]


def test_functions_beyond_the_limit_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "MOST_FUNCTIONS", 3)
    one = Row(completed=1)
    for number in range(5):
        send(moves.measure("email", one, {f"shop.jobs.number{number}": one}))
    found = scrape()
    told = {dict(labels)["function"] for name, labels in found if name == "kue_function_runs_total"}
    assert told == {"shop.jobs.number0", "shop.jobs.number1", "shop.jobs.number2", "(others)"}
    of_others = {"queue": "email", "function": "(others)", "outcome": "completed"}
    assert found.get("kue_function_runs_total", **of_others) == 2
    assert "kue_function_runs_total" not in scrape(by_function=False).names


def test_a_real_worker_counts_its_runs() -> None:
    jobs.noop.enqueue_many([()] * 5)
    jobs.fail.enqueue()
    WorkerThread(is_burst=True).start().join()
    found = scrape()
    assert found.get("kue_runs_total", queue="default", outcome="completed") == 5
    assert found.get("kue_runs_total", queue="default", outcome="failed") == 1
    assert found.get("kue_wait_duration_seconds_bucket", queue="default", le="+Inf") == 6


def test_workers_are_told_as_sums_and_not_by_their_names() -> None:
    process = {"pid": 1, "jobs": [], "done": 0, "memory": 50, "busy": 3, "slots": 8}
    announce("w1", queues=["email"], processes=[process, process])
    announce("w2", queues=["email"], age=3000)
    found = scrape()
    assert found.get("kue_workers", state="running") == 1
    assert found.get("kue_workers", state="lost") == 1
    assert found.get("kue_queue_workers", queue="email") == 1
    assert found["kue_jobs_running"] == 6
    assert (found["kue_worker_processes"], found["kue_worker_memory_bytes"]) == (2, 100)
    assert not any("w1" in value for _, labels in found for _, value in labels)


def test_workers_are_full_when_their_threads_are_however_many_coroutines_they_could_run() -> None:
    assert scrape()["kue_workers_busy_ratio"] == 0
    ask(moves.announce("w1", b"{}", busy=750, slots=1000))
    assert scrape()["kue_workers_busy_ratio"] == 0.75


def test_a_schedules_last_success_and_next_run_are_told() -> None:
    made = schedules.create("every minute", jobs.noop, every=60)
    schedules.create("held", jobs.noop, every=60)
    schedules.pause("held")
    found = scrape()
    assert made.next_run is not None
    next_run = "kue_schedule_next_run_timestamp_seconds"
    assert found.get(next_run, schedule="every minute") == made.next_run.timestamp()
    assert found.get(next_run, schedule="held") == 0
    assert found.get("kue_schedule_last_success_timestamp_seconds", schedule="every minute") == 0
    schedules.run_now("every minute")
    began = time.time()
    WorkerThread(is_burst=True).start().join()
    told = scrape().get("kue_schedule_last_success_timestamp_seconds", schedule="every minute")
    assert told == pytest.approx(began, abs=60)


def test_redis_memory_is_told() -> None:
    assert scrape()["kue_redis_memory_bytes"] > 100_000
    assert scrape()["kue_redis_memory_max_bytes"] == 0


def test_of_more_than_200_queues_the_rest_is_counted() -> None:
    redis_client().sadd("{kue}:queues", *(f"q{number}" for number in range(300)))
    found = scrape()
    told = {dict(labels)["queue"] for name, labels in found if name == "kue_jobs"}
    assert len(told) == 200
    assert {"default", "email", "slow"} <= told
    assert found["kue_queues_omitted"] == 300 + 5 - 200


def test_a_scrape_while_redis_is_away_says_so() -> None:
    with override_settings(KUE={"REDIS": "redis://127.0.0.1:1/0", "ENQUEUE_TIMEOUT": 0.2}):
        found = scrape()
    assert found.names == {"kue_up"}
    assert found["kue_up"] == 0


def test_to_be_registered_it_needs_no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(**options: Any) -> Any:
        raise AssertionError("Redis is asked")

    monkeypatch.setattr(prometheus, "overview", look)
    with pytest.raises(ValueError, match="Duplicated.*kue_redis_memory_bytes"):
        registry().register(KueCollector())


def test_what_is_scraped_is_what_is_described() -> None:
    ran()
    schedules.create("every minute", jobs.noop, every=60)
    found = scrape()
    assert found["kue_up"] == 1
    told = {family.name: family for family in found.families}
    assert len(told) == len(METRICS)
    for one in METRICS:
        family = told[one.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (one.kind, one.help)
        assert {tuple(sorted(set(sample.labels) - {"le"})) for sample in family.samples} == {
            tuple(sorted(one.labels))
        }


def test_it_is_good_openmetrics_too() -> None:
    ran()
    text = exposition.generate_latest(registry()).decode()
    found = Scraped(text, openmetrics_parser.text_string_to_metric_families)
    assert found.get("kue_runs_total", queue="email", outcome="completed") == 1


# ── the page for scraping ──


def get(view: Any, **headers: str) -> HttpResponse:
    answer: HttpResponse = view(RequestFactory().get("/metrics", headers=headers))
    return answer


def test_the_page_wants_the_token() -> None:
    view = metrics(token="a long random text")
    assert get(view).status_code == 401
    assert get(view, authorization="Bearer another").status_code == 401
    assert get(view, authorization="Basic a long random text").status_code == 401
    refused = get(view, authorization="Bearer ä")
    assert (refused.status_code, refused["WWW-Authenticate"]) == (401, "Bearer")
    assert b"kue_" not in refused.content
    assert Scraped(get(view, authorization="Bearer a long random text").content.decode())["kue_up"] == 1


def test_an_empty_token_opens_nothing() -> None:
    for empty in ("", " \n"):
        with pytest.raises(ImproperlyConfigured, match="empty"):
            metrics(token=empty)
    with pytest.raises(TypeError, match="token"):
        metrics()  # type: ignore[call-arg]


def test_the_page_is_open_where_that_is_said() -> None:
    answer = get(metrics(token=None))
    assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "no-store" in answer["Cache-Control"]
    assert Scraped(answer.content.decode())["kue_up"] == 1


def test_the_page_speaks_openmetrics_to_who_asks_for_it() -> None:
    answer = get(metrics(token=None), accept="application/openmetrics-text; version=1.0.0")
    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


def test_the_page_is_only_read() -> None:
    assert metrics(token=None)(RequestFactory().post("/metrics")).status_code == 405


def test_the_page_shows_a_registry_of_the_projects_own() -> None:
    assert get(metrics(token=None, registry=CollectorRegistry())).content.strip() == b""
