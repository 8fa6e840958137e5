"""``createQueue({redis: …})`` is ``KUE["REDIS"]``: an alias in ``CACHES``, a URL, a socket."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from django_kue import EnqueueError, Job
from tests.app.jobs import add, leave
from tests.conftest import NOBODY, free_port, redis_client, start_redis
from tests.test_kue_parity.conftest import UNSERVED
from tests.worker_process import marks

ours = add.using(queue=UNSERVED)


@pytest.fixture(scope="module")
def private_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A server with a password and a socket: its port and the socket's path."""
    folder = tmp_path_factory.mktemp("redis")
    port, socket = free_port(), folder / "s"
    server = start_redis(port, str(folder), "--unixsocket", str(socket))
    with redis.Redis(port=port) as client:
        client.config_set("requirepass", "s3cret")
    yield port, socket
    server.terminate()
    server.wait(10)


def test_an_alias_in_caches(settings, redis_server):
    settings.CACHES = settings.CACHES | {
        "jobs": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"{redis_server[:-1]}5"}
    }
    settings.KUE = settings.KUE | {"REDIS": "jobs"}
    job = ours.enqueue(1)

    assert Job.get(job.id).state == "waiting"
    assert redis_client().dbsize() == 0  # the first database
    assert redis.Redis.from_url(f"{redis_server[:-1]}5").dbsize() > 0


def test_a_url_with_a_database(settings, redis_server):
    settings.KUE = settings.KUE | {"REDIS": f"{redis_server[:-1]}3"}
    job = ours.enqueue(1)

    assert Job.get(job.id).state == "waiting"
    assert redis.Redis.from_url(f"{redis_server[:-1]}3").exists("kue:{other}:d")


def test_a_url_with_a_password(settings, private_server):
    port, _ = private_server
    settings.KUE = settings.KUE | {"REDIS": f"redis://:s3cret@127.0.0.1:{port}/0"}
    assert Job.get(ours.enqueue(1).id).state == "waiting"

    settings.KUE = settings.KUE | {"REDIS": f"redis://:wrong@127.0.0.1:{port}/0"}
    with pytest.raises(EnqueueError):
        ours.enqueue(1)


def test_a_unix_socket_also_for_workers(settings, private_server, start_worker):
    url = f"unix://:s3cret@{private_server[1]}"
    settings.KUE = settings.KUE | {"REDIS": url}
    job = leave.using(queue=UNSERVED).enqueue("socket", "through")
    leave.using(queue=UNSERVED).enqueue("socket", "again")  # over a connection that's open

    assert start_worker("--burst", KUE_TEST_REDIS_SETTING=url).wait() == 0
    assert sorted(marks("socket")) == ["again", "through"]
    assert Job.get(job.id).state == "completed"


def test_a_server_that_is_not_there_is_an_error_and_does_not_hang(settings):
    settings.KUE = settings.KUE | {"REDIS": NOBODY, "ENQUEUE_TIMEOUT": 0.2}

    with pytest.raises(EnqueueError, match="not enqueued"):
        ours.enqueue(1)


@pytest.mark.django_db  # from Django 6.1 on the command asks the database what it supports
def test_a_wrong_setting_is_found_by_check(settings):
    settings.KUE = settings.KUE | {"REDIS": "jobbs"}

    with pytest.raises(SystemCheckError, match=r'KUE\["REDIS"\]'):
        call_command("check")
