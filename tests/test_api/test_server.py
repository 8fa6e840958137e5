"""Behind a real ASGI server and over real connections, which Django's test clients leave out."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import uvicorn
from django.core.asgi import get_asgi_application
from django.test import Client

from django_kue.api import streams
from tests.settings import KUE
from tests.test_api.conftest import TOKEN, digest
from tests.test_api.hands import RECEIPT
from tests.test_api.test_streams import listeners
from tests.test_engine.hands import Hands, completed
from tests.worker_process import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.api_urls")]


@pytest.fixture
def site(robot: Client, settings: Any) -> Iterator[httpx.Client]:
    """A client of uvicorn, which serves the API in a thread."""
    settings.KUE = {**KUE, "API_STREAMS": 2, "API_TOKENS": {"robot": digest(TOKEN)}}
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(get_asgi_application(), lifespan="off", ws="none", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), name="uvicorn")
    thread.start()
    try:
        wait_for(lambda: server.started, 20, "uvicorn to serve")
        with httpx.Client(
            base_url=f"http://127.0.0.1:{listening.getsockname()[1]}/kue",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=20,
        ) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert not thread.is_alive()


def test_a_program_enqueues_a_job_and_follows_it_to_its_end(site: httpx.Client) -> None:
    enqueued = site.post("/jobs", json={"name": RECEIPT, "args": [17]})
    assert enqueued.status_code == 201, enqueued.text
    hands = Hands("email")

    with site.stream("GET", f"{enqueued.headers['Location'].removeprefix('/kue')}/events") as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        lines = stream.iter_lines()
        assert _next_event(lines) == "job"
        hands.take()
        assert _next_event(lines) == "started"
        hands.settle_all(completed("sent"))
        *_, data = [line for line in lines if line.startswith("data: ")]

    assert json.loads(data.removeprefix("data: "))["data"] == {"result": "sent"}


def test_who_leaves_makes_room_for_another_stream(site: httpx.Client) -> None:
    for _ in range(3):
        with ExitStack() as here:
            both = [here.enter_context(site.stream("GET", "/queues/email/events")) for _ in range(2)]
            lines = [stream.iter_lines() for stream in both]  # a response is closed with the last one
            assert [_next_event(one) for one in lines] == ["queue", "queue"]
            assert site.get("/queues/email/events").status_code == 503
        wait_for(lambda: not streams.slots.taken, 20, "the server to see that they've gone")
    wait_for(lambda: not listeners(), 20, "Redis to see that nobody listens")


def test_an_answer_that_is_known_is_not_sent_again(site: httpx.Client) -> None:
    first = site.get("/jobs")
    again = site.get("/jobs", headers={"If-None-Match": first.headers["ETag"]})

    assert (again.status_code, again.content) == (304, b"")


def _next_event(lines: Iterator[str]) -> str:
    return next(line.removeprefix("event: ") for line in lines if line.startswith("event: "))
