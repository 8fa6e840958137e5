"""Everything has a size that it can't exceed, and what's at the limits comes through unharmed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client, override_settings

from django_kue import EnqueueError, Job, current_job, get_queue
from django_kue.conf import Settings
from django_kue.context import JobContext
from django_kue.execution import Run, of_result
from django_kue.failures import describe
from django_kue.signatures import LONGEST_TEXT
from django_kue.store.moves import Report
from tests.app import jobs
from tests.conftest import redis_client
from tests.test_cli.hands import enqueued
from tests.test_engine.hands import Hands, put

LIST = "/admin/django_kue/job/"


class Reports:
    """What a run said."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def put(self, queue: str, report: Report) -> None:
        self.said.append(report.text)

    def progressed(self, run: Run, text: bytes, percent: float, data: Any) -> None:
        self.said.append(text)


@pytest.fixture
def run() -> Run:
    """A run of a job, as its context has it."""
    job = jobs.noop.enqueue()
    text = redis_client().hget("kue:{default}:d", job.key)
    run = Run("default", job.key.encode(), b"1|1|w", text, 1, 1.0, reports=Reports())
    from django_kue import execution

    assert execution.load(run) is None
    return run


@override_settings(KUE={"MAX_ARGUMENTS": 100})
def test_arguments_over_the_limit_are_refused_and_redis_is_untouched() -> None:
    jobs.noop.enqueue("x" * 90)
    before = redis_client().dbsize()
    with pytest.raises(EnqueueError, match="MAX_ARGUMENTS"):
        jobs.noop.enqueue("x" * 100)
    with pytest.raises(EnqueueError, match="item 1"):
        jobs.noop.enqueue_many([("x",), ("x" * 100,)])
    assert get_queue("default").counts()["waiting"] == 1
    assert redis_client().dbsize() == before


@override_settings(KUE={"MAX_RESULT": 10})
def test_a_result_over_the_limit_fails_its_job(run: Run) -> None:
    assert of_result(run, "x" * 8).kind == "c"
    outcome = of_result(run, "x" * 9)
    assert outcome.kind == "f"
    assert outcome.error is not None
    assert "MAX_RESULT" in outcome.error.message
    assert len(outcome.text) < 2000


@override_settings(KUE={"MAX_LOG_LINE": 20, "MAX_LOG_LINES": 3})
def test_log_lines_are_cut_and_only_the_newest_are_kept(run: Run) -> None:
    context = JobContext(run)
    context.log("x" * 1000)
    context.log("é" * 15)
    assert run.reports.said == [b"x" * 20 + " … (cut)".encode(), ("é" * 10 + " … (cut)").encode()]
    key = put("default")[0]
    hands = Hands()
    hands.take(2)
    for number in range(5):
        hands.report(key, "l", b"%d" % number)
    assert [str(line) for line in Job.get(f"default.{key}").logs()] == ["2", "3", "4"]


@override_settings(KUE={"MAX_PROGRESS_DATA": 10})
def test_progress_data_over_the_limit_are_refused(run: Run) -> None:
    JobContext(run).progress(1, data="x" * 8)
    with pytest.raises(ValueError, match="MAX_PROGRESS_DATA"):
        JobContext(run).progress(1, data="x" * 9)
    with pytest.raises(ValueError, match="MAX_PROGRESS_DATA"):
        current_job().progress(1, data="x" * 9)


@override_settings(KUE={"MAX_ERROR": 400})
def test_messages_and_tracebacks_are_cut() -> None:
    error = describe(ValueError("x" * 100_000))
    assert len(error.message) < 200
    assert len(error.traceback) < 500


def test_titles_are_cut_wherever_they_come_from(boss: Client) -> None:
    long = "t" * 100_000
    titled = jobs.add.using(title=long, on_commit=False).enqueue(1)
    assert titled.title == "t" * (LONGEST_TEXT - 1) + "…"
    assert len(redis_client().hget("kue:{default}:d", titled.key)) < 400
    assert len(jobs.climb.title_for((long,), {})) == LONGEST_TEXT
    foreign = Job.get(enqueued("shop.jobs.gone", options={"title": long}))
    assert len(foreign.title) == LONGEST_TEXT
    assert len(boss.get(LIST).content) < 100_000


def test_every_size_has_a_setting_and_none_is_without_a_limit() -> None:
    import dataclasses

    sizes = {row.name for row in dataclasses.fields(Settings) if row.name.startswith("MAX_")}
    assert sizes == {
        "MAX_ARGUMENTS", "MAX_RESULT", "MAX_LOG_LINES", "MAX_LOG_LINE", "MAX_PROGRESS_DATA", "MAX_ERROR",
        "MAX_RUNS",
    }  # fmt: skip


# ── what JSON parsers trip over ──


@pytest.mark.parametrize(
    "value", [2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**64 - 1, 2**70, 0.1, 1e308, "\x00", "\ud7ff", "é" * 10]
)
def test_numbers_and_texts_survive_enqueue_claim_retry_and_read(value: Any) -> None:
    """Redis's Lua has no integers beyond 2**53: scripts pass arguments and results on as text."""
    job = jobs.noop.using(priority=3, unique=True).enqueue(value, {"deep": [value]})
    hands = Hands()
    key = hands.take_one()
    hands.settle(key, b'r0|1|{"type":"a","message":"b"}')
    get_queue("default").get(job.id).set_priority(5)
    hands.settle(hands.take_one(), b"b")
    assert job.refresh().args == (value, {"deep": [value]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": float("-inf")}, [[float("nan")]]])
def test_what_json_has_no_number_for_is_refused(value: Any) -> None:
    with pytest.raises(EnqueueError, match="JSON has no such number"):
        jobs.noop.enqueue(value)
    assert get_queue("default").counts()["waiting"] == 0


def test_deep_nesting_is_refused_and_from_redis_it_spoils_nothing(boss: Client) -> None:
    deep: Any = 0
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(EnqueueError, match="nested deeper"):
        jobs.noop.enqueue(deep)
    job_id = enqueued(jobs.noop.name)
    key = job_id.partition(".")[2]
    redis_client().hset("kue:{default}:d", key, b"|tests.app.jobs.noop|" + b"[" * 50_000 + b"]" * 50_000)
    assert boss.get(f"{LIST}{job_id}/change/").status_code == 200
    assert boss.get(LIST, {"q": "noop"}).status_code == 200


# ── questions ──


@pytest.mark.parametrize(
    "text", ["x" * 10_240, "(a+)+$" * 500, "*" * 1000, "%" * 1000, "\\" * 1000, "=" * 1000]
)
def test_a_search_for_anything_is_quick_and_asks_redis_little(boss: Client, text: str) -> None:
    put("default", 2000, options={"title": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"})
    client = redis_client()
    before = client.info("commandstats")
    began = time.monotonic()
    assert boss.get(LIST, {"q": text}).status_code == 200
    assert time.monotonic() - began < 3
    after = client.info("commandstats")

    def scripts(stats: Any) -> int:
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))

    assert scripts(after) - scripts(before) < 60
    assert after.get("cmdstat_keys") == before.get("cmdstat_keys")
    assert after.get("cmdstat_scan") == before.get("cmdstat_scan")


@pytest.mark.parametrize("limit", [-1, 1001, 10**9])
def test_a_page_of_any_size_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="limit is a whole number from 0 to 1000"):
        get_queue("default").jobs("waiting", limit=limit)
    with pytest.raises(ValueError, match="offset"):
        get_queue("default").jobs("waiting", offset=-1)


@pytest.mark.parametrize("page", ["-1", "0", "1000000000", "abc", "1e9", "²"])
def test_a_page_number_that_makes_no_sense_is_no_error_and_asks_for_no_page(boss: Client, page: str) -> None:
    put("default", 3)
    response = boss.get(LIST, {"p": page}, follow=True)
    assert response.status_code == 200
