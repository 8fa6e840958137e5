"""A small app, the shop, in several releases, each in a folder of its own that a worker can be started in."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from django_kue import codecs, ids
from django_kue.conf import settings
from django_kue.handover import submit
from django_kue.jobs import Job
from django_kue.records import NewJob
from tests.conftest import redis_client
from tests.worker_process import WorkerProcess

HEAD = """
from django_kue import job
from tests.app.jobs import mark

RELEASE = {name!r}
"""


class Release:
    """One release of the shop: the text of its ``shop/jobs.py``."""

    def __init__(self, folder: Path, name: str, jobs: str) -> None:
        self.folder = folder / name
        app = self.folder / "shop"
        app.mkdir(parents=True)
        (app / "__init__.py").touch()
        (app / "jobs.py").write_text(HEAD.format(name=name) + dedent(jobs))
        (self.folder / "shop_settings.py").write_text(
            "from tests.settings import *\n\nINSTALLED_APPS = [*INSTALLED_APPS, 'shop']\n"
        )

    def worker(self, *arguments: str, **environment: str) -> WorkerProcess:
        """Not yet started."""
        return WorkerProcess(
            *(arguments or ("--processes", "1")),
            folder=self.folder,
            DJANGO_SETTINGS_MODULE="shop_settings",
            **environment,
        )


def put(name: str, *args: object, queue: str = "default", **kwargs: object) -> Job:
    """A job of the shop as its site would enqueue it; the shop isn't installed here."""
    [key] = ids.new_keys(1)
    arguments = codecs.dumps({"a": list(args), "k": kwargs} if kwargs else list(args))
    submit(queue, [NewJob(key=key, name=name, arguments=arguments)])
    return Job.get(f"{queue}.{key.decode()}")


def put_record(record: str, *, priority: int = 0, queue: str = "default") -> Job:
    """A waiting job with a record of one's own words, as another release of django-kue could write it."""
    [key] = ids.new_keys(1)
    prefix = f"{settings.PREFIX}:{{{queue}}}:"
    with redis_client().pipeline() as pipe:
        pipe.hset(prefix + "d", key, record)
        pipe.rpush(f"{prefix}w:{priority}", key)
        pipe.zadd(prefix + "p", {str(priority): -priority})
        pipe.zadd(prefix + "k", {"0": 0})
        pipe.execute()
    return Job.get(f"{queue}.{key.decode()}")
