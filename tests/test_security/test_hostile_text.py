"""Redis full of foreign text, and every door that shows it: it's text there, and no door falls shut."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.test import Client
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from django_kue import measures
from django_kue.contrib.prometheus import KueCollector
from django_kue.measures import Row
from django_kue.store import ask, moves
from tests.conftest import redis_client
from tests.test_cli.hands import enqueued, kue
from tests.test_cli.test_workers import announce
from tests.test_engine.hands import Hands, failed, retried

STEERING = "x\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202eforged 1\n"
BYTES = {"what steers a terminal": STEERING.encode(), "no UTF-8": b"\xff\xfe\x80x", "nothing": b""}
Q = "kue:{default}:"


def jobs_of(text: bytes) -> list[str]:
    """Ids of a failed, a delayed, an active and a waiting job that brought the text along."""
    words, hands, ids = text.decode(errors="replace"), Hands("default", "w1"), []
    for outcome in (failed(message=words), retried(3_600_000, words), None):
        job_id = enqueued(words or "x", words, {words: words}, options={"title": words})
        key = job_id.partition(".")[2]
        hands.take()
        hands.report(key, "l", text)
        hands.report(key, "p", b'[40,"' + text + b'"]')
        if outcome:
            hands.settle(key, outcome)
        ids.append(job_id)
    return [*ids, enqueued(words or "x", words)]


def write_jobs(text: bytes, other: str) -> None:
    """Jobs that somebody wrote into Redis, and words about another one."""
    client, record = redis_client(), b"|" + text + b"|[1]"
    client.hset(f"{Q}d", mapping={b"raw": record, b"leased": record, text: record})
    client.zadd(f"{Q}f", {"raw": 1})
    client.hset(f"{Q}o", "raw", b"f|1|" + text)
    client.zadd(f"{Q}z", {text: 1e13})
    client.hset(f"{Q}a", "leased", b"1|1|" + text)
    client.rpush(f"{Q}r:{other}", b"1|k|1|2|0|" + text + b"|" + text, text)
    client.rpush(f"{Q}l:{other}", b"1|" + text, text)


def write_queue(text: bytes) -> None:
    client = redis_client()
    client.zadd(f"{Q}fs", {text: 1})
    client.zadd(f"{Q}hb", {text: 1e13})
    client.hset(f"{Q}h", "paused", text)
    client.hset(f"{Q}tt", text, text)
    client.hset(f"{Q}sc", text, text)
    client.zadd(f"{Q}sz", {text: 1})
    row = Row()
    row.count_run("c", times=3, work=1.0)
    row.time_run(measures.cell_of(1), measures.cell_of(1), 3)
    ask(moves.measure("default", row, {text.decode(errors="replace") or "x": row}))
    client.hset(f"{Q}rf", b"completed:" + text, 3)
    client.hset(f"{Q}rs", b"completed:" + text, 3)


def write_worker(text: bytes) -> None:
    """And what else is no queue's."""
    client, words = redis_client(), text.decode(errors="replace")
    announce(
        words or "w", host=words, version=words, queues=["default", words], state=words,
        processes=[{"pid": words, "jobs": [words], "done": words}],
    )  # fmt: skip
    ask(moves.announce("w1", b"{}", busy=1, slots=2))
    for key in client.keys("{kue}:load:*"):
        client.hset(key, mapping=dict.fromkeys(client.hkeys(key), text))
    client.hset("{kue}:workers", text, text)
    client.zadd("{kue}:pulses", {text: 1})
    for name in ("queues", "outboxes", "scheduled"):
        client.sadd(f"{{kue}}:{name}", text, "default")


@pytest.fixture(params=BYTES.values(), ids=BYTES)
def ids(request: Any) -> list[str]:
    ids = jobs_of(request.param)
    write_jobs(request.param, ids[0].partition(".")[2])
    write_queue(request.param)
    write_worker(request.param)
    return ids


def is_harmless(text: str) -> bool:
    return not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


@pytest.mark.django_db
def test_every_command_that_looks_spells_it_out(ids: list[str]) -> None:
    looks = [
        ("stats",), ("jobs",), ("workers",), ("schedules",), ("outbox",), ("doctor",), ("doctor", "--deep"),
        ("top", "--once"), *[("show", job_id) for job_id in ids],
    ]  # fmt: skip
    looks += [(*words, "--json") for words in looks if words[0] != "top"]
    for words in looks:
        said = kue(*words)
        assert said.out, words
        assert is_harmless(said.out), (words, said.out)
        assert is_harmless(said.err), (words, said.err)
        assert "forged 1" not in said.out.splitlines()


def test_a_scrape_is_readable_and_has_no_sample_of_its_own(ids: list[str]) -> None:
    registry = CollectorRegistry()
    registry.register(KueCollector())
    text = generate_latest(registry).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert all(name.startswith("kue_") for name in names)
    assert generate_openmetrics(registry).endswith(b"# EOF\n")


def test_no_page_of_the_admin_is_an_error(boss: Client, ids: list[str]) -> None:
    pages = [f"{name}/" for name in ("dashboard", "dashboard/data", "job", "queue", "worker", "schedule")]
    pages += [f"job/?state__exact={state}" for state in ("failed", "active", "delayed", "waiting")]
    pages += [f"job/{quote(job_id)}/change/" for job_id in ids]
    for url in ["/admin/", *(f"/admin/django_kue/{page}" for page in pages)]:
        assert boss.get(url).status_code == 200, url


@pytest.mark.urls("tests.api_urls")
def test_every_answer_of_the_api_is_json_that_spells_it_out(boss: Client, ids: list[str]) -> None:
    """So that it can be looked at with curl, too."""
    answers = ["stats", "queues", "queues/default", "jobs", "workers"]
    answers += [f"jobs/{job_id}{more}" for job_id in ids for more in ("", "/log", "/runs")]
    for url in [f"/kue/{answer}" for answer in answers]:
        response = boss.get(url)
        assert response.status_code == 200, (url, response.content)
        assert is_harmless(response.content.decode()), url
