"""The system checks: what's wrong in ``KUE``, and with ``--deploy`` in the Redis that it names.

==================  ======================================================================
django_kue.E001     a setting is unknown, or has a wrong value
django_kue.E002     the cache alias is missing, or isn't django-redis
django_kue.E003     "embedded", but no server is installed
django_kue.E004     Redis is too old (``--deploy``)
django_kue.E005     Redis may throw jobs away when its memory is full (``--deploy``)
django_kue.E006     a backend of ``TASKS`` has wrong options or queues (``KueBackend.check``)
django_kue.E007     encryption keys, but no library for them
django_kue.E008     an outbox in a database that doesn't exist
django_kue.E009     ``KUE["MIDDLEWARE"]`` or ``KUE["CONTEXT"]`` names what can't be used
django_kue.E010     a declared schedule is invalid
django_kue.W001     "embedded" while ``DEBUG`` is off
django_kue.W002     Redis can't be reached (``--deploy``)
django_kue.W003     Redis forgets everything when it restarts (``--deploy``)
django_kue.W004     an outbox that a function's jobs bypass
django_kue.W005     ``TASKS`` names the backend, where nothing reads ``TASKS``
django_kue.W006     a function's queue or database isn't in the settings
django_kue.I001     a power cut can cost up to a second of jobs (``--deploy``)
django_kue.I002     Redis refuses ``INFO``, so it isn't checked (``--deploy``)
==================  ======================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import django
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.core.exceptions import ImproperlyConfigured

from django_kue import conf, declared, encryption, kinds, middleware, outbox, registry
from django_kue.errors import KueError, StoreError
from django_kue.kinds import Problem
from django_kue.options import Options

OLDEST_REDIS = (6, 2)
KUE_BACKEND = "django_kue.tasks.KueBackend"


@register("django_kue")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Every mistake in ``KUE``; doesn't connect to anything."""
    if problems := conf.problems(_raw()):
        return [_error(problem, "E001") for problem in problems]
    where = _where()
    found = _check_encryption()
    if where == conf.EMBEDDED:
        return found + _check_embedded()
    problem = None if "://" in where else conf.alias_problem(where)
    return [*found, _error(problem, "E002")] if problem else found


@register("django_kue")
def check_middleware(**kwargs: Any) -> list[CheckMessage]:
    """Whether what ``MIDDLEWARE`` and ``CONTEXT`` name exists, and can be used."""
    if conf.problems(_raw()):
        return []  # check_settings reports that
    try:
        middleware.chain()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="django_kue.E009")]
    return []


@register("django_kue", deploy=True)
def check_server(**kwargs: Any) -> list[CheckMessage]:
    """What Redis says about itself. Only ``manage.py check --deploy`` runs this, because it connects."""
    if check_settings() or _where() == conf.EMBEDDED:
        return []  # mistakes are already reported, and the embedded server is configured correctly
    from django_kue.store import server_info  # only now: it imports the Redis client

    try:
        info = server_info()
    except StoreError:
        return [
            Info(
                'The Redis of KUE["REDIS"] refuses INFO to this user, so its version, eviction and '
                "persistence aren't checked.",
                hint="Run this as a user who may call INFO: kue-worker in docs/how-to/redis-users.md.",
                id="django_kue.I002",
            )
        ]
    except KueError as error:
        return [
            Warning(
                f"The Redis of KUE[\"REDIS\"] can't be reached, so it isn't checked: {error}",
                hint="Start it, or run this check where it can be reached.",
                id="django_kue.W002",
            )
        ]
    return [*_check_version(info), *_check_eviction(info), *_check_persistence(info)]


@register("django_kue")
def check_outbox(**kwargs: Any) -> list[CheckMessage]:
    """What the settings and the functions say about outboxes. The doctor checks whether the tables exist."""
    if conf.problems(_raw()):
        return []
    wrong = list(_outboxes_nowhere())
    return [_error(problem, "E008") for problem in wrong] if wrong else _check_functions_of_outboxes()


@register("django_kue")
def check_tasks(**kwargs: Any) -> list[CheckMessage]:
    """Whether anything reads ``TASKS``: Django does from 6.0 on; before that, a separate package does."""
    backends = getattr(django_settings, "TASKS", None)
    named = backends.values() if isinstance(backends, Mapping) else ()
    is_meant = any(isinstance(one, Mapping) and one.get("BACKEND") == KUE_BACKEND for one in named)
    if not is_meant or django.VERSION >= (6, 0) or find_spec("django_tasks"):
        return []
    return [
        Warning(
            f"TASKS names {KUE_BACKEND}, but Django {django.get_version()} has no tasks.",
            hint='pip install "django-kue[tasks]", and add "django_tasks" to INSTALLED_APPS.',
            id="django_kue.W005",
        )
    ]


@register("django_kue")
def check_schedules(**kwargs: Any) -> list[CheckMessage]:
    """Every mistake in a schedule that ``@job``, ``@schedule`` or the settings declare."""
    if conf.problems(_raw()):
        return []  # check_settings reports that
    hint = "No worker starts until it's fixed."
    return [Error(f"{text.rstrip('.')}.", hint=hint, id="django_kue.E010") for text in declared.problems()]


@register("django_kue")
def check_functions(**kwargs: Any) -> list[CheckMessage]:
    """The queue and the database that a ``@job`` names. Otherwise only ``.enqueue()`` would find out."""
    if conf.problems(_raw()):
        return []  # check_settings reports that
    return [
        Warning(f"{job.name}: {text}", hint=hint, id="django_kue.W006")
        for job in registry.functions()
        for text, hint in _named_in_vain(job.options)
    ]


def _raw() -> Any:
    return getattr(django_settings, "KUE", {})


def _where() -> str:
    """``KUE["REDIS"]``, once the settings have been found valid."""
    return conf.read().REDIS


def _error(problem: Problem, number: str) -> Error:
    text = f"{problem.path} must be {problem.expected}; found {problem.found}."
    return Error(text, hint=problem.hint, id=f"django_kue.{number}")


def _check_encryption() -> list[CheckMessage]:
    found = conf.read()
    if found.ENCRYPTION_KEYS and not encryption.is_installed():
        return [
            Error(
                'KUE["ENCRYPTION_KEYS"] is set, but cryptography isn\'t installed.',
                hint=encryption.REMEDY,
                id="django_kue.E007",
            )
        ]
    if found.ONLY_ENCRYPTED and not found.ENCRYPTION_KEYS:
        problem = Problem(
            'KUE["ONLY_ENCRYPTED"]', "False without ENCRYPTION_KEYS", "True", "It would have no effect."
        )
        return [_error(problem, "E001")]
    return []


def _check_embedded() -> list[CheckMessage]:
    from django_kue import embedded

    found: list[CheckMessage] = []
    if not django_settings.DEBUG:
        found.append(
            Warning(
                'KUE["REDIS"] is "embedded" while DEBUG is off.',
                hint="A private server on this machine is for development and tests. Name a Redis that "
                'somebody runs and watches, such as "redis://10.0.0.5:6379/0".',
                id="django_kue.W001",
            )
        )
    try:
        embedded.find_server()
    except KueError as error:
        found.append(
            Error(
                f'KUE["REDIS"] is "embedded". {error}',
                hint=embedded.REMEDY,
                id="django_kue.E003",
            )
        )
    return found


def _check_version(info: Mapping[str, Any]) -> list[CheckMessage]:
    version = str(info.get("redis_version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) >= OLDEST_REDIS:
        return []
    return [
        Error(
            f"django-kue needs Redis 6.2 or newer, or Valkey; found Redis {version}.",
            hint="Upgrade the server. Older ones lack commands that the scripts use.",
            id="django_kue.E004",
        )
    ]


def _check_eviction(info: Mapping[str, Any]) -> list[CheckMessage]:
    """Measured: under ``allkeys-lru`` a third of the waiting jobs' records were gone, but not their ids."""
    policy = str(info.get("maxmemory_policy", "noeviction"))
    limit = int(info.get("maxmemory", 0))
    if policy == "noeviction" or not limit:
        return []
    return [
        Error(
            f"Redis's maxmemory-policy must be noeviction; found {policy} with maxmemory {limit}. When its "
            "memory is full, it silently throws jobs away.",
            hint="Write `maxmemory-policy noeviction` into redis.conf. A cache that needs another policy "
            "belongs on a Redis of its own: the policy applies to all databases of a server.",
            id="django_kue.E005",
        )
    ]


def _check_persistence(info: Mapping[str, Any]) -> list[CheckMessage]:
    if "aof_enabled" not in info:
        return []  # a managed Redis that doesn't say
    if int(info["aof_enabled"]):
        return [
            Info(
                "Redis writes an append-only file. Unless `appendfsync always` is set, a power cut can lose "
                "the jobs of the last second; a crash of the Redis process alone loses none.",
                hint="Leave it so unless that second matters: `always` makes each enqueue wait for the disk. "
                'To silence this: SILENCED_SYSTEM_CHECKS = ["django_kue.I001"].',
                id="django_kue.I001",
            )
        ]
    return [
        Warning(
            "Redis's append-only file is off: a restart loses the jobs since the last snapshot, or all.",
            hint="Write `appendonly yes` into redis.conf (or run: redis-cli CONFIG SET appendonly yes).",
            id="django_kue.W003",
        )
    ]


def _outboxes_nowhere() -> Iterator[Problem]:
    settings = conf.read()
    said: dict[str, Any] = {'KUE["OUTBOX"]': settings.OUTBOX}
    said |= {f'KUE["QUEUES"]["{name}"]["OUTBOX"]': queue.outbox for name, queue in settings.queues.items()}
    said |= {f"@job(outbox=…) on {job.name}": job.options.outbox for job in registry.functions()}
    for path, alias in said.items():
        if isinstance(alias, str) and alias not in django_settings.DATABASES:
            expected = f"True, False, or one of {kinds.listed(map(repr, django_settings.DATABASES))}"
            yield Problem(path, expected, repr(alias), "Write True for the database of the transaction.")


def _named_in_vain(options: Options) -> Iterator[tuple[str, str]]:
    hint = "Each enqueue will fail, unless it names another with .using()."
    try:
        conf.settings.queue(options.queue)
    except LookupError as error:
        yield str(error), hint
    alias = options.on_commit
    if isinstance(alias, str) and alias not in django_settings.DATABASES:
        known = kinds.listed(map(repr, django_settings.DATABASES))
        yield f"on_commit names {alias!r}, which isn't a database; there's {known}.", hint


def _check_functions_of_outboxes() -> list[CheckMessage]:
    return [
        Warning(
            f"{job.name} has on_commit=False, so its jobs bypass the outbox that the settings ask for.",
            hint="They're sent at once, even if the transaction is rolled back. If that's intended, write "
            "@job(on_commit=False, outbox=False).",
            id="django_kue.W004",
        )
        for job in registry.functions()
        if outbox.is_passed_by(job.options)
    ]
