"""The system checks: what's wrong in ``KUE``, and with ``--deploy`` in the Redis that it names.

==================  ======================================================================
django_kue.E001     a setting has a wrong value, or isn't one
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
    """Every mistake in ``KUE``; nothing is connected to."""
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
    """What ``MIDDLEWARE`` and ``CONTEXT`` name is there, and can be used."""
    if conf.problems(_raw()):
        return []  # check_settings tells
    try:
        middleware.chain()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="django_kue.E009")]
    return []


@register("django_kue", deploy=True)
def check_server(**kwargs: Any) -> list[CheckMessage]:
    """What Redis says about itself. Run by ``manage.py check --deploy`` only, because it connects."""
    if check_settings() or _where() == conf.EMBEDDED:
        return []  # the mistake is told already, and the embedded server is set up as it should be
    from django_kue.store import server_info  # only now: it imports the Redis client

    try:
        info = server_info()
    except StoreError:
        return [
            Info(
                'The Redis of KUE["REDIS"] refuses INFO to this user, so that its version, eviction and '
                "persistence aren't checked.",
                hint="Run this as one who may ask it, such as the kue-worker of docs/how-to/redis-users.md.",
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
    """What the settings and the functions say of an outbox. Whether its table is there, the doctor says."""
    if conf.problems(_raw()):
        return []
    wrong = list(_outboxes_nowhere())
    return [_error(problem, "E008") for problem in wrong] if wrong else _check_functions_of_outboxes()


@register("django_kue")
def check_tasks(**kwargs: Any) -> list[CheckMessage]:
    """Django has tasks from 6.0 on; before that, a package of its own reads the setting."""
    backends = getattr(django_settings, "TASKS", None)
    named = backends.values() if isinstance(backends, Mapping) else ()
    is_meant = any(isinstance(one, Mapping) and one.get("BACKEND") == KUE_BACKEND for one in named)
    if not is_meant or django.VERSION >= (6, 0) or find_spec("django_tasks"):
        return []
    return [
        Warning(
            f"TASKS names {KUE_BACKEND}, and Django {django.get_version()} has no tasks.",
            hint='pip install "django-kue[tasks]", and write "django_tasks" into INSTALLED_APPS.',
            id="django_kue.W005",
        )
    ]


@register("django_kue")
def check_schedules(**kwargs: Any) -> list[CheckMessage]:
    """Every mistake in a schedule that's declared, by ``@job``, ``@schedule`` or the settings."""
    if conf.problems(_raw()):
        return []  # check_settings tells
    hint = "No worker starts until it's right."
    return [Error(f"{text.rstrip('.')}.", hint=hint, id="django_kue.E010") for text in declared.problems()]


@register("django_kue")
def check_functions(**kwargs: Any) -> list[CheckMessage]:
    """The queue and the database that a ``@job`` names. Else ``.enqueue()`` would tell, and later."""
    if conf.problems(_raw()):
        return []  # check_settings tells
    return [
        Warning(f"{job.name}: {text}", hint=hint, id="django_kue.W006")
        for job in registry.functions()
        for text, hint in _named_in_vain(job.options)
    ]


def _raw() -> Any:
    return getattr(django_settings, "KUE", {})


def _where() -> str:
    """``KUE["REDIS"]``, of settings that were found good."""
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
    """Measured: under ``allkeys-lru`` a third of the waiting jobs' records was gone, their ids not."""
    policy = str(info.get("maxmemory_policy", "noeviction"))
    limit = int(info.get("maxmemory", 0))
    if policy == "noeviction" or not limit:
        return []
    return [
        Error(
            f"Redis's maxmemory-policy must be noeviction; found {policy} with maxmemory {limit}. When its "
            "memory is full it throws jobs away, without a word to anybody.",
            hint="Write `maxmemory-policy noeviction` into redis.conf. A cache that needs another policy "
            "belongs on a Redis of its own: the policy holds for all databases of a server.",
            id="django_kue.E005",
        )
    ]


def _check_persistence(info: Mapping[str, Any]) -> list[CheckMessage]:
    if "aof_enabled" not in info:
        return []  # a managed one that doesn't tell
    if int(info["aof_enabled"]):
        return [
            Info(
                "Redis writes an append-only file. Unless `appendfsync always` is set, a power cut can lose "
                "the jobs of the last second; the end of a Redis process alone loses none.",
                hint="Leave it so unless that second matters: `always` makes each enqueue wait for the disk. "
                'To silence this: SILENCED_SYSTEM_CHECKS = ["django_kue.I001"].',
                id="django_kue.I001",
            )
        ]
    return [
        Warning(
            "Redis's append-only file is off: its restart loses the jobs since the last snapshot, or all.",
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
    hint = "Unless each enqueue names another by .using(), it will fail."
    try:
        conf.settings.queue(options.queue)
    except LookupError as error:
        yield str(error), hint
    alias = options.on_commit
    if isinstance(alias, str) and alias not in django_settings.DATABASES:
        known = kinds.listed(map(repr, django_settings.DATABASES))
        yield f"on_commit names no database, {alias!r}; there's {known}.", hint


def _check_functions_of_outboxes() -> list[CheckMessage]:
    return [
        Warning(
            f"{job.name} has on_commit=False, so that its jobs pass by the outbox that the settings ask for.",
            hint="They're sent at once, also when the transaction is rolled back. If that's meant, write "
            "@job(on_commit=False, outbox=False).",
            id="django_kue.W004",
        )
        for job in registry.functions()
        if outbox.is_passed_by(job.options)
    ]
