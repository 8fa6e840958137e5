"""Server-sent events: what happens to a job or on a queue, as it happens; not too long, and not too many."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
from django.test import AsyncClient, Client

from django_kue import Job, events
from django_kue.api import streams
from django_kue.errors import StoreUnavailable
from tests.app import api_jobs
from tests.conftest import redis_client
from tests.settings import KUE
from tests.test_admin.hands import failed_job, waiting_job
from tests.test_api.conftest import TOKEN
from tests.test_api.hands import call
from tests.test_engine.hands import Hands, completed, failed, put_one
from tests.worker_process import wait_for

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api_urls")]


class Told(NamedTuple):
    """An event of a stream."""

    name: str
    data: Any
    id: str = ""


@pytest.fixture(autouse=True)
def slots() -> Iterator[None]:
    """No stream is left open by a test."""
    assert streams.slots.taken == 0
    yield
    assert streams.slots.taken == 0


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream ends when it has begun."""
    monkeypatch.setattr(streams, "SECONDS", 0)


def told_by(response: Any) -> Iterator[Told]:
    """The events of a stream as they come."""
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "text/event-stream"
    return (event for text in response.streaming_content if (event := read(text.decode())))


def listeners() -> int:
    """How many connections hear the events of the queue email."""
    return int(redis_client().pubsub_numsub("kue:{email}:ev")[0][1])


def read(text: str) -> Told | None:
    assert text.endswith("\n\n") or not text
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    if "event" not in fields:
        return None
    return Told(fields["event"], json.loads(fields["data"]), fields.get("id", ""))


# ── a job ──


def test_a_job_is_followed_from_what_it_is_to_its_end(boss: Client) -> None:
    job_id = f"email.{put_one('email')}"
    hands = Hands("email")
    stream = told_by(boss.get(f"/kue/jobs/{job_id}/events"))

    first = next(stream)
    assert (first.name, first.data["id"], first.data["state"]) == ("job", job_id, "waiting")
    put_one("email")  # others' events aren't told
    hands.take(2)
    second = next(stream)
    assert (second.name, second.data["job"]["state"]) == ("started", "active")
    assert second.data["job"]["id"] == job_id
    hands.settle_all(completed({"password": "hunter22", "n": 1}))
    *_, last = stream
    assert (last.name, last.id) == ("completed", streams.OVER)
    assert last.data["data"] == {"result": {"password": "•••", "n": 1}}


def test_an_error_is_told_with_its_type(boss: Client) -> None:
    job_id = f"email.{put_one('email')}"
    hands = Hands("email")
    stream = told_by(boss.get(f"/kue/jobs/{job_id}/events"))
    next(stream)
    hands.take()
    hands.settle_all(failed(message="it\nbroke"))
    *_, last = stream
    assert last.name == "failed"
    assert last.data["data"]["error"]["message"] == "it\nbroke"


def test_the_stream_of_a_finished_job_says_what_became_of_it_and_ends(boss: Client) -> None:
    job_id = failed_job("it broke")

    [told] = told_by(response := boss.get(f"/kue/jobs/{job_id}/events"))
    response.close()

    assert (told.name, told.data["error"]["message"], told.id) == ("job", "it broke", streams.OVER)


def test_who_has_heard_the_end_needs_not_come_again(boss: Client) -> None:
    job_id = failed_job()
    url = f"/kue/jobs/{job_id}/events"

    assert boss.get(url, headers={"Last-Event-ID": streams.OVER}).status_code == 204
    call(boss, "POST", f"/kue/jobs/{job_id}/retry")
    response = boss.get(url, headers={"Last-Event-ID": streams.OVER})
    assert next(told_by(response)).data["state"] == "waiting"
    response.close()


def test_a_job_that_goes_before_the_stream_begins_is_told_to_be_gone(boss: Client) -> None:
    job_id = waiting_job()
    response = boss.get(f"/kue/jobs/{job_id}/events")
    Job.get(job_id).remove()

    [told] = told_by(response)
    response.close()

    assert (told.name, told.id) == ("removed", streams.OVER)


# ── a queue ──


def test_a_queue_is_followed_from_what_it_is(boss: Client) -> None:
    response = boss.get("/kue/queues/email/events")
    stream = told_by(response)

    first = next(stream)
    assert (first.name, first.data["counts"]["waiting"]) == ("queue", 0)
    job = api_jobs.send_receipt.using(on_commit=False).enqueue(17)
    second = next(stream)
    assert (second.name, second.data["job"]["id"]) == ("enqueued", job.id)
    assert "17" not in json.dumps(second.data["job"]["name"])
    call(boss, "POST", "/kue/queues/email/pause")
    third = next(stream)
    assert (third.name, third.data["job"]) == ("paused", None)
    response.close()


# ── limits ──


def test_there_are_no_more_streams_than_may_be(boss: Client, settings: Any) -> None:
    settings.KUE = {**KUE, "API_STREAMS": 2}
    url = f"/kue/jobs/{waiting_job()}/events"
    open_ones = [boss.get(url) for _ in range(2)]

    refused = boss.get(url)

    assert refused.status_code == 503
    assert refused["Retry-After"]
    open_ones.pop().close()  # it was never read
    open_ones.append(boss.get(url))
    assert open_ones[-1].status_code == 200
    for response in open_ones:
        next(iter(response.streaming_content))
        response.close()
        response.close()


def test_a_stream_ends_after_its_time(boss: Client, at_once: None) -> None:
    response = boss.get("/kue/queues/email/events")

    assert [told.name for told in told_by(response)] == ["queue"]
    response.close()


@pytest.mark.timeout(20)
def test_watching_begins_by_saying_that_it_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RENEW", 1000)
    watching = events.watch("email")

    assert next(watching) is None
    wait_for(lambda: listeners() == 1, 5, "Redis to see who listens, and who no more")
    job = api_jobs.send_receipt.using(on_commit=False).enqueue(17)
    event = next(watching)
    assert event is not None
    assert event.job is not None
    assert (event.name, event.job.id) == ("enqueued", job.id)
    watching.close()  # type: ignore[attr-defined]


def test_who_listens_no_more_is_forgotten_by_redis(boss: Client) -> None:
    response = boss.get("/kue/queues/email/events")
    next(told_by(response))
    wait_for(lambda: listeners() == 1, 5, "Redis to see who listens, and who no more")
    response.close()
    wait_for(lambda: not listeners(), 5, "Redis to see that nobody listens")


def test_a_quiet_stream_gives_a_sign_of_life(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RENEW", 0.01)
    response = boss.get("/kue/queues/email/events")
    texts = (text.decode() for text in response.streaming_content)

    assert [next(texts).partition("\n")[0] for _ in range(4)] == ["retry: 2000", "event: queue", ":", ":"]
    response.close()


def test_a_stream_ends_when_redis_goes_away(
    boss: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(queue: str) -> Iterator[None]:
        yield None
        raise StoreUnavailable("gone")

    monkeypatch.setattr(events, "heard", gone)
    with caplog.at_level(logging.WARNING, "django_kue.api"):
        response = boss.get("/kue/queues/email/events")
        assert [told.name for told in told_by(response)] == ["queue"]
    response.close()
    assert "an event stream ends: gone" in caplog.text


# ── under ASGI ──


async def stream_of(url: str) -> tuple[Any, AsyncIterator[Told]]:
    response = await AsyncClient().get(url, headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200, response.content
    assert response.is_async

    async def told() -> AsyncIterator[Told]:
        async for text in response.streaming_content:
            if event := read(text.decode()):
                yield event

    return response, told()


@pytest.mark.django_db(transaction=True)
async def test_a_job_is_followed_under_asgi(robot: Client) -> None:
    job_id = f"email.{put_one('email')}"
    hands = Hands("email")
    response, stream = await stream_of(f"/kue/jobs/{job_id}/events")

    assert (await anext(stream)).data["state"] == "waiting"
    hands.take()
    assert (await anext(stream)).name == "started"
    hands.settle_all(completed(3))
    assert [(told.name, told.data["data"]) async for told in stream] == [("completed", {"result": 3})]
    response.close()


@pytest.mark.django_db(transaction=True)
async def test_a_stream_under_asgi_ends_with_its_reader(robot: Client) -> None:
    response, stream = await stream_of("/kue/queues/email/events")
    assert (await anext(stream)).name == "queue"
    reader = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    response.close()
    await asyncio.sleep(0)  # the connection is closed
    wait_for(lambda: not listeners(), 5, "Redis to see that nobody listens")
