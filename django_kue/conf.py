"""The settings: what ``KUE`` may contain, read, checked and kept.

The fields of :class:`Settings`, :class:`QueueSettings` and :class:`ScheduleSettings` are the only table of
settings. The system checks, the errors at use and ``docs/reference/settings.md`` are made from it.

>>> from django_kue.conf import settings
>>> settings.LEASE
10
>>> settings.queue("default").attempts
1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, cast

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_kue import kinds
from django_kue.backoff import Backoff
from django_kue.ids import QUEUE_NAME, SCHEDULE_NAME
from django_kue.kinds import Kind, Problem, Rate
from django_kue.priorities import PRIORITIES
from django_kue.tables import build, did_you_mean, problems_in, rows, setting, shown

EMBEDDED = "embedded"
DEFAULT_QUEUE = "default"
_DJANGO_REDIS = "django_redis.cache.RedisCache"


# ── The table ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What may be set for one queue: ``KUE["QUEUES"]["email"]``. Times are seconds."""

    priority: int = setting(
        0,
        kinds.PRIORITY,
        "The priority of jobs that don't give one. Higher runs sooner; first in, first out within one. "
        f"Names: {', '.join(f'{name} {number}' for name, number in PRIORITIES.items())}.",
    )
    attempts: int = setting(
        1,
        kinds.whole("whole number", 1, 1_000_000, 5),
        "How often a job may run in total. One means no retry: only you know whether a job may run twice.",
    )
    backoff: Backoff | None = setting(  # noqa: RUF009 - it returns a field
        None, kinds.BACKOFF, "The wait before the next attempt. `None` retries at once."
    )
    timeout: float | None = setting(
        None,
        kinds.optional(kinds.seconds(0.001, 365 * kinds.DAY, 60)),
        "How long a run may take. Then its code is stopped, and the attempt fails with `JobTimeout`. "
        "`None` sets no limit.",
    )
    concurrency: int | None = setting(
        None,
        kinds.optional(kinds.whole("whole number", 1, 1_000_000, 20)),
        "How many of the queue's jobs run at once, across all workers. `None` sets no limit.",
    )
    rate: Rate | None = setting(  # noqa: RUF009
        None, kinds.RATE, "How many jobs start per second, minute or hour, across all workers."
    )
    prefetch: bool = setting(
        True,
        kinds.FLAG,
        "Whether a process fetches about 3 ms of work ahead, and acknowledges several short runs at once. "
        "With `False`, a thread gets its next job in the very call that acknowledges the previous one, so "
        "that a crash repeats no finished runs except those of that moment. That costs jobs of 10 ms little; "
        "the shortest jobs run at a seventh of the speed.",
    )
    outbox: bool | str | None = setting(
        None,
        kinds.optional(kinds.OUTBOX),
        'Whether the queue\'s jobs go through the outbox; `None` leaves it to `KUE["OUTBOX"]`.',
    )
    keep_completed: int = setting(
        1000,
        kinds.KEPT,
        "How many completed jobs are kept; the oldest are removed first. Small, because most jobs complete "
        "and nobody reads them again, while each takes memory in Redis.",
    )
    keep_completed_for: float = setting(
        7 * kinds.DAY, kinds.AGE, "How long a completed job is kept, at most."
    )
    keep_failed: int = setting(
        10_000,
        kinds.KEPT,
        "How many failed jobs are kept. Larger, because somebody has to look at them; bounded, because a "
        "broken deployment can fail every job and must not fill Redis.",
    )
    keep_failed_for: float = setting(90 * kinds.DAY, kinds.AGE, "How long a failed job is kept, at most.")
    keep_cancelled: int = setting(1000, kinds.KEPT, "How many cancelled and expired jobs are kept.")
    keep_cancelled_for: float = setting(
        7 * kinds.DAY, kinds.AGE, "How long a cancelled job is kept, at most."
    )
    encrypt: bool = setting(
        True,
        kinds.FLAG,
        "Whether `ENCRYPTION_KEYS`, if there are any, are used for this queue. Each encrypted text costs up "
        "to 0.1 ms to write and half of that to read, and some 120 bytes.",
    )
    max_crashes: int = setting(
        3,
        kinds.whole("whole number", 1, 1000, 3),
        "A job whose run killed its process this often is failed, so that it can't go on killing workers. "
        "Crashes don't use up attempts.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings:
    """What may be set for one schedule: ``KUE["SCHEDULES"]["weekly report"]``."""

    job: str | None = setting(
        None, kinds.optional(kinds.JOB_NAME), "The function, by its stored name. Required."
    )
    cron: str | None = setting(
        None,
        kinds.optional(kinds.CRON),
        "When: minute, hour, day of month, month, day of week. Either this or `EVERY`.",
    )
    every: timedelta | float | None = setting(  # noqa: RUF009
        None, kinds.optional(kinds.INTERVAL), "The interval: seconds, or a `timedelta`."
    )
    args: tuple[Any, ...] = setting((), kinds.ARGS, "Its positional arguments.")
    kwargs: Mapping[str, Any] = setting(
        MappingProxyType({}),
        kinds.KWARGS._replace(show=lambda value: repr(dict(value))),
        "Its arguments by name.",
    )
    timezone: str | None = setting(
        None,
        kinds.optional(kinds.ZONE),
        "The time zone of `CRON`; `None` is the project's `TIME_ZONE`.",
    )
    queue: str | None = setting(
        None, kinds.optional(kinds.NAME), "The queue of its jobs; `None` is the function's."
    )
    catch_up: str = setting(
        "last",
        kinds.CATCHING_UP,
        "What runs after a time without workers: the last of the ticks that were due, all of them (1,000 at "
        "most), or none that are more than a minute late.",
    )
    overlap: bool = setting(
        True,
        kinds.FLAG,
        "Whether a run starts while the previous one is still going on; if not, its tick is left out.",
    )


def _read_schedules(value: Any) -> Mapping[str, ScheduleSettings]:
    return MappingProxyType({name: build(ScheduleSettings, options) for name, options in value.items()})


SCHEDULES = Kind(
    "dict of dicts",
    "a dict from names of schedules to dicts of options",
    'Write for example {"weekly report": {"JOB": "shop.jobs.report", "CRON": "30 2 * * mon"}}.',
    _read_schedules,
    lambda schedules: repr({name: {} for name in schedules}),
)


def _read_queues(value: Any) -> Mapping[str, QueueSettings]:
    declared = {DEFAULT_QUEUE: {}, **value}
    return MappingProxyType({name: build(QueueSettings, options) for name, options in declared.items()})


QUEUES = Kind(
    "dict of dicts",
    "a dict from queue names to dicts of options",
    'Write for example {"default": {}, "email": {"ATTEMPTS": 5}}.',
    _read_queues,
    lambda queues: repr({name: {} for name in queues}),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What may be set for the whole project. Sizes are bytes, times are seconds."""

    REDIS: str = setting(
        "default",
        kinds.REDIS,
        "Where the jobs are: an alias in `CACHES` whose backend is django-redis (Sentinel included), a URL "
        f'({", ".join(f"`{scheme}://`" for scheme in kinds.SCHEMES)}), or `"embedded"`: a private server for '
        "development and tests.",
    )
    PREFIX: str = setting(
        "kue", kinds.PREFIX, "The beginning of every key, so that several projects can share one Redis."
    )
    QUEUES: Mapping[str, QueueSettings] = setting(
        MappingProxyType({DEFAULT_QUEUE: QueueSettings()}),
        QUEUES,
        "The queues and their options (below). A job can only be enqueued on a queue that's declared, so "
        'that a misspelt name is an error. `"default"` always is.',
    )
    SCHEDULES: Mapping[str, ScheduleSettings] = setting(
        MappingProxyType({}),
        SCHEDULES,
        "Schedules by name (below), in addition to those that `@job` and `@schedule` declare.",
    )
    LEASE: float = setting(
        10,
        kinds.seconds(1, kinds.HOUR, 10),
        "How long a worker may be silent before its jobs are given to others. A shorter lease detects a dead "
        "machine sooner; a longer one tolerates a slow network.",
    )
    ENQUEUE_TIMEOUT: float = setting(
        5,
        kinds.seconds(0.01, kinds.HOUR, 5),
        "How long `.enqueue()` may wait for Redis before it raises `EnqueueError`. Web requests wait for it.",
    )
    OUTBOX: bool | str = setting(
        False,
        kinds.OUTBOX,
        "Whether a job that's enqueued inside `atomic()` is written into a table in the same transaction. "
        "It's sent from there after the commit, or relayed by a worker, so that nothing is lost in between. "
        "`True` uses the database of `on_commit`; an alias names another: a job goes into that one's outbox "
        "if a transaction is open there, and otherwise waits for the transaction of `on_commit`, as without "
        "an outbox.",
    )
    REDACT: tuple[str, ...] = setting(
        (
            "api_key",
            "authorization",
            "card_number",
            "cookie",
            "cvv",
            "passphrase",
            "passwd",
            "password",
            "private_key",
            "secret",
            "token",
        ),
        kinds.NAMES,
        "Arguments whose name contains one of these, in upper or lower case, are not shown to people, and "
        "their values are masked in errors, log lines and progress. Your list replaces this one.",
    )
    ENCRYPTION_KEYS: tuple[str, ...] = setting(
        (),
        kinds.KEYS,
        "Keys with which arguments, results, errors, log lines and progress are encrypted in Redis: the "
        "first one encrypts, all of them decrypt. Needs `django-kue[encryption]`. "
        "[More](../how-to/encryption.md).",
    )
    ONLY_ENCRYPTED: bool = setting(
        False,
        kinds.FLAG,
        "Whether workers leave jobs alone whose arguments aren't encrypted. With it, somebody who can write "
        "to Redis but has no key can't forge jobs. Switch it on once the jobs from before the keys are done.",
    )
    MIDDLEWARE: tuple[str, ...] = setting(
        (),
        kinds.PATHS,
        "Classes that run your code around each enqueue and each run, the outermost first: see the guide on "
        "middleware.",
    )
    CONTEXT: tuple[str, ...] = setting(
        (),
        kinds.CONTEXT,
        'What travels with each job from whoever enqueues it to its runs: `"language"`, `"timezone"`, and '
        "context variables by their dotted paths. Anything that isn't named stays behind.",
    )
    MAX_ARGUMENTS: int = setting(
        256 * kinds.KIB,
        kinds.SIZE,
        "The largest size of a job's arguments, as JSON. Larger ones are refused at enqueue: store the data "
        "in the database or a file, and pass its id.",
    )
    MAX_RESULT: int = setting(
        256 * kinds.KIB, kinds.SIZE, "The largest size of a result, as JSON. A job that returns more fails."
    )
    MAX_LOG_LINES: int = setting(
        1000,
        kinds.whole("whole number", 0, 1_000_000, 1000),
        "How many log lines of a job are kept; the oldest are removed first.",
    )
    MAX_LOG_LINE: int = setting(
        4 * kinds.KIB, kinds.SIZE, "The longest log line; the rest is cut off, and the cut is marked."
    )
    MAX_PROGRESS_DATA: int = setting(
        16 * kinds.KIB,
        kinds.SIZE,
        "The largest size of the `data` of `progress()`, as JSON. Larger data raises `ValueError`.",
    )
    MAX_ERROR: int = setting(
        64 * kinds.KIB,
        kinds.SIZE,
        "The longest traceback that's kept; more is cut out of the middle, and the cut is marked.",
    )
    MAX_RUNS: int = setting(
        20,
        kinds.whole("whole number", 0, 1000, 20),
        "How many of a job's runs that didn't complete are remembered; the oldest are removed first.",
    )

    API_TOKENS: Mapping[str, tuple[str, ...]] = setting(
        MappingProxyType({}),
        kinds.TOKENS,
        "Who may use [the JSON API](../how-to/api.md) with a token: for each user name, the SHA-256 of the "
        "user's token, or a list of them while you change it. The user's permissions apply. Tokens have at "
        "least 32 characters.",
    )
    API_MAX_BODY: int = setting(
        kinds.MIB,
        kinds.SIZE,
        "The largest body of a request to the API; a larger one is refused without being read.",
    )
    API_STREAMS: int = setting(
        4,
        kinds.whole("whole number", 0, 100_000, 4),
        "How many event streams each process of the site holds open at once. Under WSGI each takes a thread, "
        "so keep this below their number; under ASGI, hundreds are fine. 0 switches the streams off.",
    )

    @property
    def queues(self) -> Mapping[str, QueueSettings]:
        """The declared queues by name, ``"default"`` included."""
        return self.QUEUES

    def queue(self, name: str) -> QueueSettings:
        """The settings of a declared queue.

        Raises:
            LookupError: the queue isn't declared; the message names those that are.
        """
        try:
            return self.QUEUES[name]
        except KeyError:
            declared = f'Declared are {", ".join(self.QUEUES)}; a new one goes into KUE["QUEUES"].'
            raise LookupError(
                f"No queue {name!r} is declared.{did_you_mean(name, self.QUEUES)} {declared}"
            ) from None

    def queue_or_default(self, name: str) -> QueueSettings:
        """The settings of a queue; a queue that isn't declared (any more) has the defaults."""
        return self.QUEUES.get(name) or QueueSettings()


# ── Checking and reading ──────────────────────────────────────────────────────────────────────────


def problems(raw: object) -> list[Problem]:
    """Everything that's wrong with a value of ``KUE``, in the order in which it's written there.

    >>> [problem.path for problem in problems({"LEASE": 0, "PREFIX": "shop"})]
    ['KUE["LEASE"]']
    """
    if not isinstance(raw, Mapping):
        return [Problem("KUE", "a dict", shown(raw), 'Write for example KUE = {"REDIS": "default"}.')]
    found = problems_in(raw, Settings, "KUE", nested=(QUEUES, SCHEDULES), hint=_queue_hint)
    queues = raw.get("QUEUES", {})
    if isinstance(queues, Mapping):
        for name, options in queues.items():
            found += _problems_of_queue(name, options)
    schedules = raw.get("SCHEDULES", {})
    if isinstance(schedules, Mapping):
        for name, options in schedules.items():
            found += _problems_of_schedule(name, options)
    return found


def _problems_of_queue(name: object, options: object) -> list[Problem]:
    path = f'KUE["QUEUES"]["{name}"]' if isinstance(name, str) else f'KUE["QUEUES"][{name!r}]'
    if not isinstance(name, str) or not QUEUE_NAME.fullmatch(name):
        expected = "named with 1 to 40 letters, digits, _ and -"
        return [Problem(path, expected, shown(name), 'Write for example "email".')]
    if not isinstance(options, Mapping):
        hint = f'Write for example "{name}": {{"ATTEMPTS": 5}}, or "{name}": {{}}.'
        return [Problem(path, "a dict of options", shown(options), hint)]
    return problems_in(options, QueueSettings, path, hint=_project_hint)


def _problems_of_schedule(name: object, options: object) -> list[Problem]:
    path = f'KUE["SCHEDULES"][{name!r}]'.replace("'", '"')
    hint = f'Write for example "{name}": {{"JOB": "shop.jobs.report", "CRON": "30 2 * * mon"}}.'
    if not isinstance(name, str) or not SCHEDULE_NAME.fullmatch(name):
        expected = "named with 1 to 200 printable characters without commas and |"
        return [Problem(path, expected, shown(name), 'Write for example "weekly report".')]
    if not isinstance(options, Mapping):
        return [Problem(path, "a dict of options", shown(options), hint)]
    found = problems_in(options, ScheduleSettings, path)
    if options.get("JOB") is None:
        found.append(Problem(path, "a schedule of a JOB", "none", hint))
    if (options.get("CRON") is None) == (options.get("EVERY") is None):
        wrong = "neither" if options.get("CRON") is None else "both"
        found.append(Problem(path, "a schedule with either CRON or EVERY", wrong, hint))
    return found


def _queue_hint(key: object) -> str:
    if key not in rows(QueueSettings):
        return ""
    return 'It is an option of a queue: write it into KUE["QUEUES"]["default"], for example.'


def _project_hint(key: object) -> str:
    return f'It applies to all queues: write KUE["{key}"].' if key in rows(Settings) else ""


def alias_problem(alias: str) -> Problem | None:
    """What's wrong with the alias in ``KUE["REDIS"]``: it isn't in ``CACHES``, or isn't django-redis."""
    caches = django_settings.CACHES
    entry = f'"{alias}": {{"BACKEND": "{_DJANGO_REDIS}", "LOCATION": "redis://127.0.0.1:6379/0"}}'
    advice = f'Write CACHES = {{{entry}}}, or for development KUE["REDIS"] = "{EMBEDDED}".'
    if alias not in caches:
        hint = f"{did_you_mean(alias, caches)} {advice}".strip()
        return Problem('KUE["REDIS"]', "an alias in CACHES", shown(alias), hint)
    backend = caches[alias].get("BACKEND", "")
    try:
        ancestors = import_string(backend).__mro__
    except ImportError as error:
        hint = f"It can't be imported ({error}). Is it installed (pip install django-redis) and spelt right?"
        return Problem(f'CACHES["{alias}"]["BACKEND"]', repr(_DJANGO_REDIS), repr(backend), hint)
    if any(f"{cls.__module__}.{cls.__qualname__}" == _DJANGO_REDIS for cls in ancestors):
        return None
    expected = f"an alias in CACHES whose BACKEND is {_DJANGO_REDIS!r} or a subclass of it"
    return Problem('KUE["REDIS"]', expected, f"{alias!r}, whose BACKEND is {backend!r}", advice)


def read() -> Settings:
    """The project's settings, checked.

    Raises:
        ImproperlyConfigured: with the text of every problem that ``manage.py check`` would report.
    """
    raw = getattr(django_settings, "KUE", {})
    found = problems(raw)
    if found:
        raise ImproperlyConfigured("\n".join(map(str, found)))
    return build(Settings, raw)


class _Lazy:
    """Stands in for the project's :class:`Settings`, which are read at the first use.

    Afterwards each is a plain attribute. When a test overrides ``KUE`` or ``CACHES``, they're read again.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        values = read()
        methods = {"queue": values.queue, "queue_or_default": values.queue_or_default}
        self.__dict__.update(vars(values), **methods, queues=values.queues)
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"no setting {name!r}.{did_you_mean(name, self.__dict__)}") from None

    def forget(self, *, setting: str, **kwargs: Any) -> None:
        if setting in ("KUE", "CACHES"):
            self.__dict__.clear()


_lazy = _Lazy()
setting_changed.connect(_lazy.forget, dispatch_uid="django_kue.conf")
settings = cast(Settings, _lazy)
