"""``manage.py runworker``: run jobs."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import subprocess
import sys
from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import ERROR
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.urls import get_resolver
from django.utils import autoreload

from django_kue.checks import check_server
from django_kue.conf import settings
from django_kue.errors import StoreUnavailable
from django_kue.middleware import chain
from django_kue.queue import get_queue
from django_kue.worker import WorkerOptions, supervise
from django_kue.worker.forks import share_nothing
from django_kue.worker.liveness import LivenessFile
from django_kue.worker.processes import die_with_parent

logger = logging.getLogger("django_kue.worker")


class Command(BaseCommand):
    help = "Run jobs: a supervisor with one process per CPU, each with threads and an event loop."
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--queues", help="names, separated by commas; default: all declared queues")
        parser.add_argument(
            "--processes", type=int, metavar="N", help="worker processes; default: one per CPU"
        )
        parser.add_argument(
            "--threads", type=int, metavar="N", help="functions that a process runs at once (8)"
        )
        parser.add_argument(
            "--coroutines",
            type=int,
            metavar="N",
            help="coroutine functions that a process runs at once (100)",
        )
        parser.add_argument(
            "--burst",
            action="store_true",
            dest="is_burst",
            help="end when no job is waiting; delayed jobs stay",
        )
        parser.add_argument("--max-jobs", type=int, metavar="N", help="replace a process after N jobs")
        parser.add_argument(
            "--max-memory", type=int, metavar="MIB", help="replace a process that grows beyond this"
        )
        parser.add_argument(
            "--shutdown-timeout", type=float, metavar="S",
            help="seconds that running jobs have to finish after SIGTERM (30); then they're handed back",
        )  # fmt: skip
        parser.add_argument(
            "--liveness-file", metavar="PATH", help="touched as long as the worker is healthy"
        )
        parser.add_argument(
            "--reload", action="store_true", help="for development: restart when code changes"
        )

    def check(self, *args: Any, **kwargs: Any) -> None:
        """Run the system checks in a process of their own: much of what they load is of no use to a worker.

        What they load of the URLs stays, for jobs that make links: all of the worker's processes share it.
        """
        share_nothing()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                super().check(*args, **kwargs)
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        if os.waitpid(pid, 0)[1]:
            super().check(*args, **kwargs)  # raises what's wrong here
        if getattr(django_settings, "ROOT_URLCONF", None):
            list(get_resolver().url_patterns)  # loads them

    def handle(self, *args: Any, **options: Any) -> None:
        if options.pop("reload"):
            autoreload.run_with_reloader(run_again_without_reload)
            return
        set_up_logging(options["verbosity"])
        worker_options = self._worker_options(options)
        try_liveness_file(worker_options.liveness_file)
        sys.exit(supervise(worker_options, once_redis_answers=tell_of_server))

    @staticmethod
    def _worker_options(options: dict[str, Any]) -> WorkerOptions:
        names = options.pop("queues")
        queues = (
            tuple(dict.fromkeys(name.strip() for name in names.split(",")))
            if names
            else tuple(settings.queues)
        )
        given = {
            name: options[name]
            for name in WorkerOptions.__dataclass_fields__
            if name != "queues" and options.get(name) is not None
        }
        try:
            chain()  # reports a mistake in the middleware now, not in each job
            for name in queues:
                get_queue(name)  # one that's no longer declared may still have jobs
            return WorkerOptions(queues=queues, **given)
        except (LookupError, ValueError) as error:  # 2 is argparse's own code
            raise CommandError(str(error), returncode=2) from error
        except (ImproperlyConfigured, StoreUnavailable) as error:
            raise CommandError(str(error)) from error


def run_again_without_reload() -> None:
    """In the autoreloader's thread: a worker as a child, stopped when the code changes."""
    command = [sys.executable, *(word for word in sys.orig_argv[1:] if word != "--reload")]
    environment = {
        name: value for name, value in os.environ.items() if name != autoreload.DJANGO_AUTORELOAD_ENV
    }
    worker = subprocess.Popen(command, env=environment, preexec_fn=partial(die_with_parent, os.getpid()))

    def stop() -> None:
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(5)
            except subprocess.TimeoutExpired:
                worker.send_signal(signal.SIGTERM)
                worker.wait()

    atexit.register(stop)
    worker.wait()


def try_liveness_file(path: str | None) -> None:
    try:
        LivenessFile(path).attempt()
    except OSError as error:
        raise CommandError(
            f"--liveness-file can't be touched: {error}. Name a file in a folder that exists "
            "and that this user can write to."
        ) from error


def tell_of_server() -> None:
    """Log at each start what may cost jobs: few people run ``check --deploy`` against their real Redis."""
    for found in check_server():
        if found.level >= ERROR:
            logger.error("%s %s", found.msg, found.hint)


def set_up_logging(verbosity: int) -> None:
    """Lines on stderr, unless the project has set up the ``django_kue`` logger itself."""
    logger = logging.getLogger("django_kue")
    if verbosity >= 1 and not logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
        if not django_settings.DEBUG:  # else Django shows signal receivers' exceptions itself
            logging.getLogger("django.dispatch").addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))
