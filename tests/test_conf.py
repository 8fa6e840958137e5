"""The settings: what's good, what's wrong and what people are told about it."""

from __future__ import annotations

import dataclasses
import inspect
import threading
from datetime import timedelta
from typing import Any, get_type_hints

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_kue import conf
from django_kue.backoff import Backoff
from django_kue.conf import QueueSettings, Rate, ScheduleSettings, Settings, settings
from django_kue.priorities import PRIORITIES, priority_number
from docs.pages import settings_page

DJANGO_REDIS = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:6379/0"}


def only_problem(raw: Any) -> conf.Problem:
    (problem,) = conf.problems(raw)
    return problem


def queue_problem(**options: Any) -> conf.Problem:
    return only_problem({"QUEUES": {"email": options}})


# Reading


@override_settings(KUE={})
def test_every_setting_has_a_default() -> None:
    assert settings.REDIS == "default"
    assert settings.PREFIX == "kue"
    assert settings.LEASE == 10
    assert settings.ENQUEUE_TIMEOUT == 5
    assert settings.MAX_ARGUMENTS == 256 * 1024
    assert settings.queue("default") == QueueSettings()


def test_every_default_is_a_value_that_may_be_written() -> None:
    for table in (Settings, QueueSettings, ScheduleSettings):
        for row in dataclasses.fields(table):
            if row.name not in ("QUEUES", "SCHEDULES", "ENCRYPTION_KEYS"):  # none: it's left out
                default = row.metadata["default"]
                assert row.metadata["kind"].read(default) == default, row.name


@override_settings()
def test_a_project_without_kue_settings_gets_the_defaults() -> None:
    from django.conf import settings as django_settings

    del django_settings.KUE
    settings.forget(setting="KUE")  # type: ignore[attr-defined]
    assert settings.PREFIX == "kue"


@override_settings(KUE={"QUEUES": {"email": {"ATTEMPTS": 5}}})
def test_the_default_queue_is_always_declared() -> None:
    assert list(settings.queues) == ["default", "email"]
    assert settings.queue("email").attempts == 5
    assert settings.queue("default").attempts == 1


@override_settings(
    KUE={
        "LEASE": timedelta(seconds=30),
        "QUEUES": {
            "email": {
                "PRIORITY": "high",
                "BACKOFF": 10,
                "TIMEOUT": 1.5,
                "CONCURRENCY": 20,
                "RATE": "100/m",
                "KEEP_FAILED_FOR": timedelta(days=1),
            },
            "web": {"BACKOFF": Backoff.exponential(2, max=60), "RATE": None},
        },
    }
)
def test_values_are_read_into_what_the_code_uses() -> None:
    email = settings.queue("email")
    assert settings.LEASE == 30
    assert email.priority == 10
    assert email.backoff == Backoff.fixed(10)
    assert email.timeout == 1.5
    assert email.concurrency == 20
    assert email.rate == Rate(count=100, period_ms=60_000)
    assert email.keep_failed_for == 86_400
    assert settings.queue("web").backoff == Backoff.exponential(2, max=60)
    assert settings.queue("web").rate is None


@pytest.mark.parametrize(
    ("text", "rate"),
    [("5/s", Rate(5, 1000)), ("100/m", Rate(100, 60_000)), ("1000/h", Rate(1000, 3_600_000))],
)
def test_rates_are_per_second_minute_or_hour(text: str, rate: Rate) -> None:
    with override_settings(KUE={"QUEUES": {"email": {"RATE": text}}}):
        assert settings.queue("email").rate == rate


@override_settings(KUE={"REDACT": ["IBAN", "pin"]})
def test_redacted_names_are_compared_in_lower_case() -> None:
    assert settings.REDACT == ("iban", "pin")


def test_settings_are_read_again_when_a_test_overrides_them() -> None:
    with override_settings(KUE={"PREFIX": "first"}):
        assert settings.PREFIX == "first"
        with override_settings(KUE={"PREFIX": "second", "QUEUES": {"email": {}}}):
            assert settings.PREFIX == "second"
            assert "email" in settings.queues
        assert settings.PREFIX == "first"
        assert "email" not in settings.queues


@override_settings(KUE={})
def test_after_the_first_use_a_setting_is_a_plain_attribute() -> None:
    settings.LEASE  # noqa: B018
    assert inspect.getattr_static(settings, "LEASE") == 10
    assert "queue" in vars(settings)


@override_settings(KUE={})
def test_many_threads_may_read_first() -> None:
    start = threading.Barrier(8)
    seen: list[object] = []

    def read() -> None:
        start.wait()
        seen.append((settings.LEASE, settings.queue("default").attempts))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(10, 1)] * 8


@override_settings(KUE={})
def test_settings_and_queues_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        settings.queues["email"] = QueueSettings()  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.queue("default").attempts = 3  # type: ignore[misc]


@override_settings(KUE={"QUEUES": {"email": {}, "images": {}}})
def test_an_undeclared_queue_is_a_lookup_error_that_names_the_declared_ones() -> None:
    with pytest.raises(LookupError, match=r"'emial'.*Did you mean 'email'.*default, email, images"):
        settings.queue("emial")


@override_settings(KUE={})
def test_an_unknown_setting_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'LEASE'"):
        settings.LEESE  # type: ignore[attr-defined]  # noqa: B018


def test_a_wrong_setting_raises_at_use_with_the_text_of_the_check() -> None:
    raw = {"LEASE": 0, "QUEUES": {"email": {"RATE": "fast"}}}
    with override_settings(KUE=raw), pytest.raises(ImproperlyConfigured) as raised:
        settings.PREFIX  # noqa: B018
    assert str(raised.value) == "\n".join(str(problem) for problem in conf.problems(raw))


# Problems


def test_good_settings_have_no_problems() -> None:
    assert conf.problems({}) == []
    assert conf.problems({"REDIS": "embedded", "QUEUES": {"default": {}, "e-Mail_2": {"RATE": None}}}) == []


# Schedules

GOOD_SCHEDULE = {"JOB": "shop.jobs.report", "CRON": "30 2 * * mon"}
WRONG_OF_SCHEDULE = {
    "JOB": ["", 5],
    "CRON": ["61 * * * *", "* * * *", 5],
    "EVERY": [0.5, -1, "5m", True],
    "ARGS": ["north", 5, None],
    "KWARGS": [["north"], {5: 6}, None],
    "TIMEZONE": ["Europe/Nowhere", "", 5],
    "QUEUE": ["", 5],
    "CATCH_UP": ["some", None, 5],
    "OVERLAP": [0, "no", None],
}


def test_every_option_of_a_schedule_has_wrong_values_here() -> None:
    assert list(WRONG_OF_SCHEDULE) == [row.name.upper() for row in dataclasses.fields(ScheduleSettings)]


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key in WRONG_OF_SCHEDULE for value in WRONG_OF_SCHEDULE[key]]
)
def test_a_wrong_value_of_a_schedule_is_a_problem(key: str, value: Any) -> None:
    good = GOOD_SCHEDULE if key != "EVERY" else {"JOB": "shop.jobs.report"}
    problem = only_problem({"SCHEDULES": {"weekly": {**good, key: value}}})

    assert problem.path == f'KUE["SCHEDULES"]["weekly"]["{key}"]'
    assert problem.hint


def test_what_is_wrong_with_a_cron_expression_is_said() -> None:
    problem = only_problem({"SCHEDULES": {"weekly": {**GOOD_SCHEDULE, "CRON": "61 * * * *"}}})

    assert "bad minute" in problem.hint


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"CRON": "0 0 * * *"}, "a schedule of a JOB"),
        ({"JOB": "shop.jobs.report"}, "either CRON or EVERY"),
        ({**GOOD_SCHEDULE, "EVERY": 60}, "either CRON or EVERY"),
        (None, "a dict of options"),
    ],
)
def test_a_schedule_has_a_job_and_one_rule(options: Any, expected: str) -> None:
    assert expected in only_problem({"SCHEDULES": {"weekly": options}}).expected


@pytest.mark.parametrize("name", ["", " ", "a,b", "a|b", "a\nb", "x" * 201, 5])
def test_the_name_of_a_schedule_can_be_shown(name: Any) -> None:
    assert "printable characters" in only_problem({"SCHEDULES": {name: GOOD_SCHEDULE}}).expected


@pytest.mark.parametrize(
    "address",
    [
        "default",
        "embedded",
        "redis://127.0.0.1:6379/0",
        "redis://:p%23ss@host",
        "rediss://user:pw@[::1]:6380/3?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=2",
        "redis+cluster://host:7000",
        "rediss+cluster://host:7000",
    ],
)
def test_good_addresses(address: str) -> None:
    assert conf.problems({"REDIS": address}) == []


@pytest.mark.parametrize("raw", [None, [], "redis://x", 5])
def test_kue_must_be_a_dict(raw: object) -> None:
    assert only_problem(raw).path == "KUE"


WRONG = {
    "REDIS": [
        *(None, "", " ", 5, "http://x", "memcached://x", "://x"),
        *(
            "redis://host:port/0",
            "redis://:pass/word@host",
            "redis://host/jobs",
            "redis://h/0/1",
            "unix://run/redis",
        ),
    ],
    "PREFIX": ["", "a b", "a{b", "a}b", "a\0b", "a\nb", "x" * 61, 5, None],
    "QUEUES": [None, ["default"], "default"],
    "SCHEDULES": [None, ["nightly"], "nightly"],
    "LEASE": [0, 0.99, 3601, "10", None, True, float("nan"), float("inf"), timedelta(0)],
    "ENQUEUE_TIMEOUT": [0, -1, None, "5"],
    "OUTBOX": [None, 0, 1, "", ["default"]],
    "REDACT": ["password", None, [""], [5], {"a": 1}],
    "ENCRYPTION_KEYS": [],  # see test_encryption_keys_are_not_shown
    "ONLY_ENCRYPTED": [None, 1, "yes"],
    "MIDDLEWARE": ["shop.Timed", None, ["Timed"], [5], ["shop. Timed"], {"a": 1}],
    "CONTEXT": ["language", None, ["tenant"], [5], {"a": 1}],
    "MAX_ARGUMENTS": [0, -1, 1.5, None, True, 2**40],
    "MAX_RESULT": [0],
    "MAX_LOG_LINES": [-1, "1"],
    "MAX_LOG_LINE": [0],
    "MAX_PROGRESS_DATA": [0],
    "MAX_ERROR": [0],
    "MAX_RUNS": [-1, 1001],
    "API_TOKENS": [],  # see test_api_tokens_are_hashes_and_never_shown
    "API_MAX_BODY": [0, None, 2**40],
    "API_STREAMS": [-1, None, 1.5, True],
}
WRONG_OF_QUEUE = {
    "PRIORITY": [101, -101, "urgent", 1.0, None, True, [], "HIGH"],
    "ATTEMPTS": [0, -1, 1.5, "3", None, True],
    "BACKOFF": [-1, "x", True, [1], {"type": "fixed"}, float("nan")],
    "TIMEOUT": [0, -1, "60", True, float("inf")],
    "CONCURRENCY": [0, 1.5, True, "2"],
    "RATE": ["5", "0/s", "-1/s", "5/d", "5 / s", "5/s\n", "٥/s", 5, True, "99999999/s"],
    "PREFETCH": [None, 0, 1, "no"],
    "OUTBOX": [0, 1, "", ["default"]],
    "KEEP_COMPLETED": [-1, None, 1.5],
    "KEEP_COMPLETED_FOR": [-1, None, "7 days"],
    "KEEP_FAILED": [-1],
    "KEEP_FAILED_FOR": [-1],
    "KEEP_CANCELLED": [-1],
    "KEEP_CANCELLED_FOR": [-1],
    "ENCRYPT": [None, 0, "no"],
    "MAX_CRASHES": [0, None],
}


def test_every_setting_has_wrong_values_here() -> None:
    assert list(WRONG) == [row.name for row in dataclasses.fields(Settings)]
    assert {key.lower() for key in WRONG_OF_QUEUE} == {row.name for row in dataclasses.fields(QueueSettings)}


@pytest.mark.parametrize(
    "value",
    ["kept-secret", b"kept-secret", ["kept-secret"], [b"kept-secret"], ["kept-secret" * 4], [5], {}, None],
)
def test_encryption_keys_are_not_shown(value: object) -> None:
    problem = only_problem({"ENCRYPTION_KEYS": value})
    assert "Fernet" in problem.expected
    assert "kept-secret" not in str(problem)


@pytest.mark.parametrize("value", [[], ()])
def test_encryption_keys_that_came_empty_do_not_switch_encryption_off(value: object) -> None:
    assert "leave the setting out" in only_problem({"ENCRYPTION_KEYS": value}).hint
    with override_settings(KUE={"ENCRYPTION_KEYS": value}), pytest.raises(ImproperlyConfigured):
        assert settings.ENCRYPTION_KEYS  # so that who runs no checks stores nothing in plain text either


@pytest.mark.parametrize(
    "value",
    [
        {"robot": "kept-secret"},
        {"robot": ["0" * 64, "kept-secret"]},
        {"robot": "0" * 63 + "X"},
        {"robot": b"kept-secret"},
        {"robot": []},
        {"robot": None},
        {"": "0" * 64},
        {5: "0" * 64},
        ["kept-secret"],
        "kept-secret",
        None,
    ],
)
def test_api_tokens_are_hashes_and_never_shown(value: object) -> None:
    problem = only_problem({"API_TOKENS": value})
    assert "SHA-256" in problem.expected
    assert "token_urlsafe" in problem.hint
    assert "kept-secret" not in str(problem)


@override_settings(KUE={"API_TOKENS": {"robot": "0" * 64, "other": ["1" * 64, "2" * 64]}})
def test_a_user_has_a_token_or_several() -> None:
    assert settings.API_TOKENS == {"robot": ("0" * 64,), "other": ("1" * 64, "2" * 64)}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in WRONG for value in WRONG[key]])
def test_a_wrong_value_is_named_with_what_was_expected(key: str, value: object) -> None:
    problem = only_problem({key: value})
    assert problem.path == f'KUE["{key}"]'
    assert problem.expected
    assert problem.found == repr(value)[:79] + "…" * (len(repr(value)) > 80) or "***" in problem.found
    assert problem.hint


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key in WRONG_OF_QUEUE for value in WRONG_OF_QUEUE[key]]
)
def test_a_wrong_option_of_a_queue_is_named_with_its_queue(key: str, value: object) -> None:
    problem = queue_problem(**{key: value})
    assert problem.path == f'KUE["QUEUES"]["email"]["{key}"]'
    assert problem.found == repr(value)
    assert problem.hint.startswith("Write ")


def test_a_problem_reads_as_a_sentence() -> None:
    assert str(queue_problem(RATE="fast")) == (
        'KUE["QUEUES"]["email"]["RATE"] must be None or text such as "5/s", "100/m" or "1000/h"; found '
        "'fast'. Write for example \"100/m\" for at most 100 starts in any minute."
    )


def test_several_problems_are_all_told_in_the_order_they_are_written() -> None:
    raw = {"QUEUES": {"a": {"ATTEMPTS": 0}, "b": {"RATE": 1, "TIMEOUT": 0}}, "LEASE": 0, "X": 1}
    assert [problem.path for problem in conf.problems(raw)] == [
        'KUE["LEASE"]',
        'KUE["X"]',
        'KUE["QUEUES"]["a"]["ATTEMPTS"]',
        'KUE["QUEUES"]["b"]["RATE"]',
        'KUE["QUEUES"]["b"]["TIMEOUT"]',
    ]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("QUEUS", "Did you mean 'QUEUES'?"),
        ("lease", "Did you mean 'LEASE'?"),
        ("COLOUR", "Remove it."),
        ("ATTEMPTS", 'It is an option of a queue: write it into KUE["QUEUES"]["default"], for example.'),
        (5, "Remove it."),
    ],
)
def test_an_unknown_setting_is_a_problem_with_a_hint(key: object, hint: str) -> None:
    problem = only_problem({key: 1})
    assert problem.hint == hint
    assert "LEASE" in problem.expected


def test_an_unknown_option_of_a_queue_is_a_problem_with_a_hint() -> None:
    assert queue_problem(ATEMPTS=1).hint == "Did you mean 'ATTEMPTS'?"
    assert queue_problem(LEASE=1).hint == 'It applies to all queues: write KUE["LEASE"].'


@pytest.mark.parametrize("name", ["", "e mail", "a.b", "a:b", "{a}", "x" * 41, "émail", "a\n", 5, None])
def test_a_queue_has_a_name_that_ids_and_keys_can_hold(name: object) -> None:
    problem = only_problem({"QUEUES": {name: {}}})
    assert problem.path.startswith('KUE["QUEUES"][')
    assert "letters, digits" in problem.expected


@pytest.mark.parametrize("options", [None, [], "x", 5])
def test_a_queue_is_declared_with_a_dict(options: object) -> None:
    assert only_problem({"QUEUES": {"email": options}}).expected == "a dict of options"


@pytest.mark.parametrize(
    "address",
    ["http://user:s3cret@host/0", "http://:s3cret@host", "http://u:a@s3cret@host", "x://h?password=s3cret"],
)
def test_a_password_in_a_url_is_not_shown(address: str) -> None:
    assert "s3cret" not in str(only_problem({"REDIS": address}))


# Aliases


def alias_problem(alias: str, **caches: Any) -> str:
    with override_settings(CACHES=caches):
        return str(conf.alias_problem(alias) or "")


def test_an_alias_of_django_redis_is_good() -> None:
    assert alias_problem("jobs", default=DJANGO_REDIS, jobs=DJANGO_REDIS) == ""


def test_a_subclass_of_django_redis_is_good() -> None:
    backend = f"{__name__}.SubclassOfDjangoRedis"
    assert alias_problem("default", default={**DJANGO_REDIS, "BACKEND": backend}) == ""


def test_an_alias_that_is_not_in_caches_is_a_problem() -> None:
    text = alias_problem("job", default=DJANGO_REDIS, jobs=DJANGO_REDIS)
    assert text.startswith('KUE["REDIS"] must be an alias in CACHES')
    assert "Did you mean 'jobs'?" in text


@pytest.mark.parametrize(
    "backend",
    ["django.core.cache.backends.locmem.LocMemCache", "django.core.cache.backends.redis.RedisCache"],
)
def test_an_alias_of_another_backend_is_a_problem(backend: str) -> None:
    text = alias_problem("default", default={"BACKEND": backend})
    assert f"'default', whose BACKEND is '{backend}'" in text
    assert '"BACKEND": "django_redis.cache.RedisCache"' in text


def test_a_backend_that_cannot_be_imported_is_a_problem() -> None:
    text = alias_problem("default", default={"BACKEND": "django_rediss.cache.RedisCache"})
    assert "pip install django-redis" in text


def __getattr__(name: str) -> type:
    """``SubclassOfDjangoRedis``, made late: django-redis reads settings when it's imported."""
    if name != "SubclassOfDjangoRedis":
        raise AttributeError(name)
    from django_redis.cache import RedisCache

    return type(name, (RedisCache,), {})


# The tables


@pytest.mark.parametrize("table", [Settings, QueueSettings, ScheduleSettings])
def test_every_row_of_the_table_is_typed_and_documented(table: type) -> None:
    hints = get_type_hints(table)
    for row in dataclasses.fields(table):
        assert row.name in hints
        assert row.metadata["doc"].strip().endswith("."), row.name


def test_the_reference_names_every_setting() -> None:
    for key in [*WRONG, *WRONG_OF_QUEUE, *WRONG_OF_SCHEDULE]:
        assert f"| `{key}` |" in settings_page()


# Priorities


def test_priorities_are_numbers_or_kues_names() -> None:
    assert {name: priority_number(name) for name in PRIORITIES} == PRIORITIES
    assert [priority_number(number) for number in (-100, 0, 100)] == [-100, 0, 100]


@pytest.mark.parametrize("value", [101, -101, "urgent", "High", None, True, 1.0, "5"])
def test_what_is_no_priority_is_told_what_to_write(value: object) -> None:
    with pytest.raises(ValueError, match='write a whole number from -100 to 100, or "low"'):
        priority_number(value)
