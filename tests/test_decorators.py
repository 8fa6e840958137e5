"""@job: what it makes of a function, what it refuses, and what the verbs send."""

import asyncio
import functools
import importlib
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime, timedelta
from unittest import mock

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.dispatch import Signal
from django.test import TestCase, override_settings

from django_kue import (
    Backoff,
    EnqueueError,
    Job,
    JobContext,
    JobDoesNotExist,
    Retry,
    current_job,
    enqueueing,
    get_queue,
    handover,
    job,
    registry,
    signals,
)
from django_kue.decorators import JobFunction
from django_kue.signatures import Template
from django_kue.states import State
from tests.app import jobs
from tests.conftest import NOBODY, redis_client


@pytest.fixture(autouse=True)
def _forget_jobs(monkeypatch):
    """Tests define jobs of their own; each starts from what was known before."""
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))


def define(function, **options):
    return job(name=options.pop("name", f"tests.{function.__name__}"), **options)(function)


@pytest.fixture
def send():
    """A job as most are."""

    def send(order_id: int, *, copy_to: str | None = None) -> str:
        """Send a receipt."""
        return f"{order_id} to {copy_to}"

    return define(send)


# -- the definition --------------------------------------------------------------------------------


@job
def at_module_level(a, b=2):
    return a + b


@job(queue="email", attempts=3)
async def in_a_coroutine(a):
    await asyncio.sleep(0)
    return a * 2


def test_job_works_with_and_without_options():
    assert at_module_level.name == f"{__name__}.at_module_level"
    assert at_module_level.options.queue == "default"
    assert (in_a_coroutine.options.queue, in_a_coroutine.options.attempts) == ("email", 3)


def test_a_plain_call_runs_the_function_here_and_now():
    assert at_module_level(1, b=5) == 6


async def test_a_plain_call_of_a_coroutine_function_gives_its_coroutine():
    assert in_a_coroutine.is_async
    assert not at_module_level.is_async
    assert await in_a_coroutine(4) == 8


def test_the_definition_looks_like_its_function(send):
    assert send.__name__ == "send"
    assert send.__doc__ == "Send a receipt."
    assert send.__wrapped__ is send.function
    assert repr(send) == "<job tests.send>"


def test_the_definition_is_frozen(send):
    with pytest.raises(FrozenInstanceError, match=r"\.using\(…\) returns a copy with other options"):
        send.name = "other"
    with pytest.raises(FrozenInstanceError, match="its name can't be set, patched or deleted"):
        del send.name


def test_who_patches_a_verb_is_told_what_to_do_instead(send):
    with (
        pytest.raises(
            AttributeError, match=r"is frozen; its enqueue can't be .*the fixture kue.*KueTestMixin"
        ),
        mock.patch.object(send, "enqueue"),
    ):
        pass
    assert "enqueue" not in vars(send)


def test_a_job_can_be_patched_as_a_whole():
    with mock.patch.object(jobs, "add") as patched:
        jobs.add.enqueue(1)
    patched.enqueue.assert_called_once_with(1)
    assert isinstance(jobs.add, JobFunction)


def test_using_makes_a_copy_that_knows_its_original(send):
    urgent = send.using(priority="high").using(delay=5)
    assert urgent is not send
    assert urgent.original is send is send.original
    assert (urgent.options.priority, urgent.options.delay) == (10, 5)
    assert send.options.delay is None
    assert urgent(17) == "17 to None"
    assert "with other options" in repr(urgent)


def test_a_function_that_takes_context_is_called_without_it():
    def work(context, a):
        assert isinstance(context, JobContext)
        assert context is current_job()
        return a

    assert define(work, takes_context=True)(5) == 5


def test_takes_context_needs_a_first_parameter_called_context():
    def work(a, context):
        pass

    with pytest.raises(TypeError, match="needs a first parameter named 'context'; it takes"):
        define(work, takes_context=True)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once")
def test_annotations_may_name_what_only_type_checkers_import(send):
    namespace = {}
    exec("def work(order: Order) -> Receipt: ...", namespace)
    with pytest.raises(EnqueueError, match=r"it takes \(order: Order\)"):
        define(namespace["work"]).enqueue()


class Mailer:
    def method(self):
        pass

    @staticmethod
    def static():
        pass


def generator():
    yield 1


async def async_generator():
    yield 1


def nested():
    def inner():
        pass

    return inner


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Mailer.method, "a method can't be a job; move it out of its class"),
        (Mailer.static, "a method can't be a job; move it out of its class"),
        (Mailer, "@job decorates functions"),
        (Mailer().method, "@job decorates functions"),
        (functools.partial(nested), "@job decorates functions"),
        ("email", r"pass options by name: @job\(queue=…\)"),
        (generator, "a generator function would never run"),
        (async_generator, "a generator function would never run"),
        (lambda: None, r"give it a @job\(name=…\)"),
        (nested(), r"define it at the top level of an app's jobs\.py, or give it a @job\(name=…\)"),
        (at_module_level, "is a job already"),
    ],
)
def test_what_cannot_be_a_job_is_refused_with_the_remedy(function, message):
    with pytest.raises(TypeError, match=message):
        job(function)


def test_a_name_makes_a_nested_function_a_job():
    inner = job(name="tests.inner")(nested())
    assert registry.get("tests.inner") is inner


def test_a_wrong_option_raises_when_the_module_is_imported():
    with pytest.raises(ValueError, match="@job: attempts must be a whole number from 1"):
        job(attempts=0)
    with pytest.raises(TypeError, match=r"Did you mean 'timeout'\?"):
        job(time_out=5)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{nothing}", r"\{nothing\} isn't an argument; there are order_id, copy_to"),
        ("{order_id.__class__}", "more than the plain name of an argument"),
        ("{order_id[0]}", "more than the plain name of an argument"),
        ("{order_id!r}", "followed by a format"),
        ("{order_id:>10}", "followed by a format"),
        ("{order_id:{copy_to}}", "followed by a format"),
        ("{}", "more than the plain name"),
        ("{0}", "more than the plain name"),
        ("{order_id", "expected '}'"),
        ("order_id}", "Single '}'"),
    ],
)
@pytest.mark.parametrize("option", ["title", "unique"])
def test_a_template_is_checked_at_decoration(send, option, template, message):
    with pytest.raises(ValueError, match=rf"@job on {__name__}.*{option}=.*{message}"):
        define(send.function, **{option: template})


def test_search_keys_are_names_of_arguments(send):
    with pytest.raises(ValueError, match="search_keys: 'oder_id' isn't an argument; there are order_id"):
        define(send.function, search_keys=("oder_id",))
    with pytest.raises(ValueError, match="search_keys: 'x' isn't an argument"):
        send.using(search_keys=("x",))


def test_a_title_is_filled_in_from_arguments_and_defaults(send):
    titled = define(send.function, title="Receipt {order_id} ({copy_to}) {{x}}")
    assert titled.title_for((17,), {}) == "Receipt 17 (None) {x}"
    assert titled.title_for((), {"order_id": 3, "copy_to": "me"}) == "Receipt 3 (me) {x}"
    assert send.title_for((17,), {}) == "tests.send"


def test_a_title_is_cut_when_it_is_long():
    text = Template("{a}", ("a",)).render({"a": "x" * 1000})
    assert len(text) == 200
    assert text.endswith("x…")


def test_a_title_does_not_tell_secrets():
    def login(user, api_token):
        pass

    assert define(login, title="{user} {api_token}").title_for(("ada", "s3cret"), {}) == "ada •••"


def test_option_tells_what_holds_in_a_queue(send):
    assert send.option("attempts", "email") == 3  # the queue's setting
    assert send.option("attempts", "gone") == 1
    assert define(send.function, attempts=7).using(attempts=9).option("attempts", "email") == 7


# -- the registry ----------------------------------------------------------------------------------


def test_two_functions_of_one_name_are_refused(send):
    def other():
        pass

    with pytest.raises(ValueError, match=r"two jobs are called 'tests.send': .*send and .*other; give one"):
        define(other, name="tests.send")
    with pytest.raises(ValueError, match=r"two jobs are called 'tests.send'"):
        define(other, aliases=("tests.send",))
    assert registry.get("tests.other") is None


def test_an_alias_leads_to_the_function(send):
    def renamed():
        pass

    new = define(renamed, aliases=("tests.old", "tests.older"))
    assert registry.get("tests.old") is registry.get("tests.older") is registry.get("tests.renamed") is new
    assert [one for one in registry.functions() if one is new] == [new]


def test_an_unknown_name_gives_none_and_imports_nothing():
    assert "this" not in sys.modules
    for name in ("this", "this.s", "os.system", "", "tests.nothing:x", "__import__"):
        assert registry.get(name) is None
    assert "this" not in sys.modules


def test_a_module_that_is_imported_again_replaces_its_jobs(tmp_path, monkeypatch):
    (tmp_path / "kue_reloaded.py").write_text("from django_kue import job\n@job\ndef work(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("kue_reloaded")
    try:
        first = module.work
        importlib.reload(module)
        assert registry.get("kue_reloaded.work") is module.work is not first
    finally:
        del sys.modules["kue_reloaded"]


# -- what's checked when a job is enqueued ---------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"tests\.send: missing a required .*'order_id'; it takes \(order_id: int, \*, copy_to"),
        ((1, 2), {}, "too many positional arguments; it takes"),
        ((1,), {"order_id": 2}, "multiple values for argument 'order_id'"),
        ((1,), {"copyto": 2}, r"unexpected keyword argument 'copyto'; it takes \(.*\) -> str$"),
        (
            (1,),
            {"delay": 3, "priority": 1},
            r"'delay'.*Options go into \.using\(delay=…, priority=…\)\.enqueue",
        ),
        ((1,), {"aliases": ()}, r"unexpected keyword argument 'aliases'; it takes \(.*\) -> str$"),
        ((b"x",), {}, "argument 'order_id': bytes can't be stored; pass text"),
        (([1, {"a": {2}}],), {}, r"argument 'order_id'\[1\]\['a'\]: set can't be stored; pass a sorted list"),
        ((1,), {"copy_to": float("nan")}, "argument 'copy_to': nan can't be stored"),
        ((), {"order_id": {"a": [b""]}}, r"argument 'order_id'\['a'\]\[0\]: bytes"),
        ((1,), {"copy_to": User(username="new")}, "argument 'copy_to': an unsaved auth.User"),
    ],
)
def test_wrong_arguments_are_told_at_enqueue(send, args, kwargs, message):
    for verb in (send.enqueue, lambda *a, **k: asyncio.run(send.aenqueue(*a, **k))):
        with pytest.raises(EnqueueError, match=message):
            verb(*args, **kwargs)
    assert get_queue("default").counts()["waiting"] == 0


@pytest.mark.parametrize("verb", ["apply_async", "defer", "delay", "kiq", "send", "send_with_options"])
def test_who_comes_from_another_queue_is_told_how_a_job_is_sent_here(send, verb):
    with pytest.raises(AttributeError, match=rf"a job has no {verb}\(\): it's sent by \.enqueue"):
        getattr(send.using(delay=1), verb)
    assert not hasattr(send, verb)


def test_what_a_shell_defines_needs_a_name():
    function = nested()
    function.__module__, function.__qualname__ = "django.core.management.commands.shell", "send"
    with pytest.raises(TypeError, match="workers can't know it by this name"):
        job(function)


def test_imported_too_early_job_says_where_it_belongs(tmp_path):
    """What an app's ``__init__.py`` imports is there before the apps are."""
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "__init__.py").write_text("from django_kue import job\n")
    code = (
        "import django\n"
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['early'])\n"
        "django.setup()\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert "django_kue.job needs Django's apps: import it in an app's jobs.py" in done.stderr


def test_options_are_arguments_where_a_function_takes_any():
    def many(number, **more):
        pass

    with pytest.raises(
        EnqueueError, match=r"missing a required argument: 'number'; it takes \(number, \*\*more\)$"
    ):
        define(many).enqueue(delay=3)


def test_an_argument_of_a_variable_part_is_named():
    def many(*values, **more):
        pass

    with pytest.raises(EnqueueError, match=r"argument 'values\[1\]': bytes can't be stored"):
        define(many).enqueue(1, b"")
    with pytest.raises(EnqueueError, match=r"argument 'extra': bytes can't be stored"):
        define(many).enqueue(1, extra=b"")


def test_arguments_that_are_too_large_are_refused_and_the_largest_named(send):
    with pytest.raises(EnqueueError, match=r"argument 'copy_to' is too large: together .* pass its id"):
        send.enqueue(1, copy_to="x" * 300_000)
    assert get_queue("default").counts()["waiting"] == 0


def test_a_queue_that_is_not_declared_is_refused(send):
    with pytest.raises(EnqueueError, match=r"No queue 'emial' is declared\. Did you mean 'email'\?"):
        send.using(queue="emial").enqueue(1)


def test_a_default_that_cannot_be_compared_is_told():
    def work(a, flag=object()):  # noqa: B008
        pass

    with pytest.raises(EnqueueError, match=r"tests\.work: a default argument can't be compared"):
        define(work, unique=True).enqueue(1)


# -- what's stored ---------------------------------------------------------------------------------


def test_a_plain_job_waits_in_its_queue(send):
    enqueued = send.enqueue(17, copy_to="me")
    assert isinstance(enqueued, Job)
    found = Job.get(enqueued.id)
    assert (found.name, found.queue, found.state) == ("tests.send", "default", State.WAITING)
    assert (found.args, found.kwargs) == ((17,), {"copy_to": "me"})
    for field in (
        "id",
        "queue",
        "name",
        "state",
        "priority",
        "attempts",
        "created_at",
        "args",
        "kwargs",
        "title",
    ):
        assert getattr(found, field) == getattr(enqueued, field), field


async def test_the_async_twin_stores_the_same(send):
    enqueued = await send.aenqueue(17)
    assert (await Job.aget(enqueued.id)).args == (17,)


def test_rich_arguments_arrive(send):
    when = datetime(2031, 5, 1, tzinfo=UTC)
    assert Job.get(send.enqueue({"at": when, "days": [date(2031, 5, 1)]}).id).args == (
        {"at": when, "days": [date(2031, 5, 1)]},
    )


def test_the_priority_is_using_before_job_before_the_queue(send):
    def urgent():
        pass

    assert Job.get(send.using(queue="email").enqueue(1).id).priority == 10  # the queue's setting
    assert Job.get(define(urgent, queue="email", priority="low").enqueue().id).priority == -10
    assert Job.get(registry.get("tests.urgent").using(priority=3).enqueue().id).priority == 3


def test_only_what_differs_from_the_definition_is_stored(send):
    def titled(a):
        pass

    plain = Job.get(define(titled, title="No {a}", attempts=4, backoff=5).enqueue(1).id)
    assert (plain._options, plain.title, plain.attempts) == ({}, "No 1", 4)
    changed = registry.get("tests.titled").using(
        title="{literally}", attempts=2, backoff=Backoff.exponential(3), timeout=9, keep=0
    )
    found = Job.get(changed.enqueue(1).id)
    assert found._options == {
        "title": "{literally}",
        "attempts": 2,
        "backoff": {"type": "exponential", "delay": 3},
        "timeout": 9,
        "keep": 0,
    }
    assert (found.title, found.attempts) == ("{literally}", 2)


def test_a_delay_and_a_time_put_it_among_the_delayed(send):
    later = datetime.now(UTC) + timedelta(hours=2)
    for changed in (send.using(delay=7200), send.using(delay=timedelta(hours=2)), send.using(run_at=later)):
        found = Job.get(changed.enqueue(1).id)
        assert found.state is State.DELAYED
        assert abs((found.run_at - later).total_seconds()) < 10
    assert Job.get(send.using(delay=0).enqueue(1).id).state is State.WAITING
    assert Job.get(send.using(run_at=datetime(2020, 1, 1, tzinfo=UTC)).enqueue(1).id).state is State.WAITING


def test_a_model_instance_is_sent_as_a_reference(db, send):
    user = User.objects.create(username="ada")
    found = Job.get(send.using(on_commit=False).enqueue(user).id)
    assert found.args == (user,)


# -- many ------------------------------------------------------------------------------------------


def test_enqueue_many_keeps_the_order_and_takes_tuples_and_dicts(send):
    jobs = send.enqueue_many(iter([(1,), {"order_id": 2, "copy_to": "x"}, (3,)]))
    assert [Job.get(one.id).args or Job.get(one.id).kwargs for one in jobs] == [
        (1,),
        {"order_id": 2, "copy_to": "x"},
        (3,),
    ]
    waiting = get_queue("default").jobs("waiting", newest_first=False)
    assert [one.id for one in waiting] == [one.id for one in jobs]
    assert send.enqueue_many([]) == []


async def test_aenqueue_many_does_the_same(send):
    jobs = await send.aenqueue_many([(number,) for number in range(2500)])
    assert len({one.id for one in jobs}) == 2500
    assert (await get_queue("default").acounts())["waiting"] == 2500


async def several():
    yield (1,)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([(1,), 2], r"tests\.send: item 1 is 2; each is a tuple"),
        ([(1,), [2]], r"item 1 is \[2\]; each is a tuple"),
        ([(1,), "x"], "item 1 is 'x'"),
        ([(1,), (2,), (3, 4)], r"item 2: tests\.send: too many positional arguments"),
        ([{"order_id": 1}, {"order_id": b""}], r"item 1: tests\.send: argument 'order_id': bytes"),
        ([{1: 2}], r"item 0: tests\.send: "),
        (None, r"enqueue_many takes a list, or other iterable, of tuples and dicts, not None"),
        ("12", r"not '12'\. For one job write"),
        ({"order_id": 1}, r"not {'order_id': 1}\. For one job write \[\(value,\)\]"),
        (several(), r"for an async generator \[item async for item in …\]"),
    ],
)
def test_a_wrong_item_is_named_and_nothing_is_stored(send, items, message):
    with pytest.raises(EnqueueError, match=message):
        send.enqueue_many(items)
    assert get_queue("default").counts()["waiting"] == 0


# -- inside a job ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "error"),
    [((None,), TypeError), ((1, "x"), TypeError), ((10**400,), TypeError), ((1, -1), ValueError)],
    ids=["nothing", "a text", "too large", "of less than nothing"],
)
def test_a_progress_that_is_no_number_is_told(numbers, error):
    with pytest.raises(error, match=r"progress\(done, total\)"):
        current_job().progress(*numbers)


def test_of_nothing_all_is_done_and_a_wrong_log_line_is_a_line_all_the_same(caplog):
    caplog.set_level("DEBUG", "django_kue.job")
    current_job().progress(0, 0)
    current_job().log("%d rows of %s", "no")
    assert [record.getMessage() for record in caplog.records] == ["progress 100 %", "%d rows of %s ('no',)"]


@pytest.mark.parametrize(
    ("delay", "error"),
    [
        ("x", TypeError),
        (True, TypeError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (10**400, ValueError),
    ],
    ids=["a text", "a bool", "before", "nan", "too large"],
)
def test_a_retry_after_no_time_is_told(delay, error):
    with pytest.raises(error, match=r"Retry\(delay=…\) takes seconds"):
        Retry(delay=delay)


# -- unique and search keys ------------------------------------------------------------------------


def test_unique_returns_the_first_job(send):
    unique = define(send.function, unique=True, title="Receipt {order_id}")
    first = unique.using(delay=60, title="the first").enqueue(1)
    again = unique.enqueue(order_id=1, copy_to=None)  # the same call, written differently
    assert (again.id, again.title, again.state) == (first.id, "the first", State.DELAYED)
    assert unique.enqueue(2).id != first.id
    assert unique.using(unique=False).enqueue(1).id != first.id
    assert unique.using(queue="other").enqueue(1).id != first.id  # one queue knows nothing of the others


async def test_unique_holds_for_the_async_twin_and_inside_many(send):
    unique = define(send.function, unique=True)
    first = await unique.aenqueue(1)
    assert (await unique.aenqueue(1)).id == first.id
    assert unique.enqueue(1).id == first.id
    jobs = await unique.aenqueue_many([(1,), (2,), (2,), (1,)])
    assert [one.id == first.id for one in jobs] == [True, False, False, True]
    assert jobs[1].id == jobs[2].id


def test_a_unique_template_compares_only_its_arguments_and_their_types(send):
    unique = define(send.function, unique="receipt-{order_id}")
    first = unique.enqueue(1, copy_to="a")
    assert unique.enqueue(1, copy_to="b").id == first.id
    assert unique.enqueue("1").id != first.id


def test_a_unique_template_does_not_confuse_values_that_read_alike():
    def pair(a, b):
        pass

    unique = define(pair, unique="{a}-{b}")
    assert unique.enqueue("1-2", "3").id != unique.enqueue("1", "2-3").id


def test_unique_for_names_the_states_that_hold(send):
    unique = define(send.function, unique=True, unique_for=("delayed",))
    first = unique.using(delay=60).enqueue(1)
    assert unique.enqueue(1).id == first.id
    first.promote()
    assert unique.enqueue(1).id != first.id


def test_unique_for_a_time_holds_that_long_unless_the_first_is_taken_back(send):
    timed = define(send.function, unique=True, unique_for=0.3)
    removed = timed.enqueue(5)
    removed.remove()
    first = timed.enqueue(5)
    assert first.id != removed.id
    assert is_stored(first)
    assert timed.enqueue(5).id == first.id
    deadline = time.monotonic() + 5
    while timed.enqueue(5).id == first.id:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_search_keys_find_the_job_by_exact_value(send):
    searchable = define(send.function, search_keys=("order_id", "copy_to"))
    one, two = searchable.enqueue(1), searchable.enqueue(2, copy_to="me")
    queue = get_queue("default")
    assert [found.id for found in queue.find(order_id=1)] == [one.id]
    assert [found.id for found in queue.find(order_id=2, copy_to="me")] == [two.id]
    assert [found.id for found in queue.find(copy_to=None)] == [one.id]  # a default counts
    assert queue.find(order_id="1") == []


# -- transactions ----------------------------------------------------------------------------------


def is_stored(handle):
    try:
        handle.refresh()
    except JobDoesNotExist:
        return False
    return True


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_the_job_is_sent_after_the_commit_under_the_id_at_hand(send):
    with transaction.atomic():
        handle = send.enqueue(17)
        many = send.enqueue_many([(1,), (2,)])
        assert not any(map(is_stored, [handle, *many]))
    assert [one.refresh().args for one in [handle, *many]] == [(17,), (1,), (2,)]


@pytest.mark.django_db(transaction=True)
def test_a_rollback_sends_nothing(send):
    with transaction.atomic():
        handle = send.enqueue(17)
        transaction.set_rollback(True)
    assert not is_stored(handle)
    assert get_queue("default").counts()["waiting"] == 0


@pytest.mark.django_db(transaction=True)
def test_on_commit_false_sends_at_once(send):
    with transaction.atomic():
        assert is_stored(send.using(on_commit=False).enqueue(17))


@pytest.mark.django_db(transaction=True)
def test_arguments_are_taken_as_they_are_at_enqueue(send):
    order = {"id": 1}
    with transaction.atomic():
        handle = send.enqueue(order)
        order["id"] = 2
    assert handle.refresh().args == ({"id": 1},)


@pytest.mark.django_db(transaction=True)
def test_wrong_arguments_are_told_inside_the_transaction_not_at_its_end(send):
    with transaction.atomic(), pytest.raises(EnqueueError):
        send.enqueue(b"")


@pytest.mark.django_db(transaction=True)
def test_a_duplicate_dropped_at_commit_leads_to_the_first(send):
    unique = define(send.function, unique=True)
    with transaction.atomic():
        handle = unique.enqueue(1)
        first = unique.using(on_commit=False).enqueue(1)
        assert first.id != handle.id
    assert handle.refresh().id == first.id
    assert get_queue("default").counts()["waiting"] == 1


@pytest.mark.django_db(transaction=True)
def test_an_alias_names_the_database_that_is_meant(send):
    with transaction.atomic():
        assert not is_stored(send.using(on_commit="default").enqueue(1))
        with pytest.raises(ImproperlyConfigured, match="on_commit='other': there's no such database"):
            send.using(on_commit="other").enqueue(1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["directly", "by a receiver", "from a thread of an async view"])
def test_a_coroutine_that_synchronous_code_waits_for_is_in_its_transaction(send, way):
    made = []

    async def enqueue(**kwargs):
        made.append(await send.aenqueue(1))

    def work(*, is_broken):
        with suppress(ZeroDivisionError), transaction.atomic():
            if way == "directly":
                async_to_sync(enqueue)()
            else:
                signal.send(None)
            assert not is_stored(made[-1])
            if is_broken:
                raise ZeroDivisionError

    async def view(**kwargs):
        await sync_to_async(work)(**kwargs)

    signal = Signal()
    signal.connect(enqueue, weak=False)
    for is_broken in (True, False):
        if way == "from a thread of an async view":
            async_to_sync(view)(is_broken=is_broken)
        else:
            work(is_broken=is_broken)
        assert is_stored(made[-1]) != is_broken


def test_outside_a_transaction_no_database_is_asked(send, monkeypatch):
    """This test has no ``db`` mark: a connection that's opened fails it."""

    def refuse(alias):
        raise AssertionError("a connection was made")

    for alias in connections:
        if hasattr(connections._connections, alias):
            monkeypatch.delattr(connections._connections, alias)
    monkeypatch.setattr(connections, "create_connection", refuse)
    assert is_stored(send.enqueue(1))


@pytest.fixture
def redis_is_away():
    """Nobody listens where the settings say Redis is."""
    with override_settings(KUE={"REDIS": NOBODY, "ENQUEUE_TIMEOUT": 0.5}):
        yield


def test_redis_being_away_is_told_soon(send, redis_is_away):
    started = time.monotonic()
    for attempt in (send.enqueue, lambda number: asyncio.run(send.aenqueue(number))):
        with pytest.raises(EnqueueError, match="^The job was not enqueued") as caught:
            attempt(1)
        assert not caught.value.is_committed
    assert time.monotonic() - started < 4


@pytest.mark.django_db(transaction=True)
def test_redis_being_away_at_the_commit_is_told_to_who_commits(send, redis_is_away):
    def order():
        with transaction.atomic():
            User.objects.create(username="ada")
            send.enqueue(1)

    with pytest.raises(EnqueueError, match="is committed, and holds. The job was not enqueued") as caught:
        order()
    assert caught.value.is_committed
    assert User.objects.filter(username="ada").exists()


@pytest.mark.django_db(transaction=True)
def test_it_is_said_too_after_a_savepoint_was_rolled_back(send, redis_is_away):
    """Django takes another list of what waits for the commit then."""
    with pytest.raises(EnqueueError) as caught, transaction.atomic():
        User.objects.create(username="ada")
        send.enqueue(1)
        with suppress(ValueError), transaction.atomic():
            raise ValueError
    assert caught.value.is_committed
    assert User.objects.filter(username="ada").exists()


@pytest.fixture
def spoilt_queue():
    """Redis refuses jobs of this queue, and takes those of others."""
    redis_client().set("kue:{other}:d", "foreign")
    return "other"


@pytest.mark.django_db(transaction=True)
def test_a_job_that_cant_be_sent_at_the_commit_keeps_nothing_else_from_being_done(send, spoilt_queue):
    called = []
    with pytest.raises(EnqueueError, match="WRONGTYPE") as caught, transaction.atomic():
        transaction.on_commit(lambda: called.append("before"))
        send.using(queue=spoilt_queue).enqueue(1)
        transaction.on_commit(lambda: called.append("after"))
        job = send.enqueue(2)
        with transaction.atomic():
            send.using(queue=spoilt_queue).enqueue(3)
        transaction.on_commit(lambda: called.append("last"))
    assert called == ["before", "after", "last"]
    assert job.refresh().state == State.WAITING
    [note] = caught.value.__notes__
    assert "WRONGTYPE" in note
    with transaction.atomic():
        send.enqueue(4)  # nothing is left of it on the connection


@pytest.mark.django_db(transaction=True)
def test_of_jobs_that_wait_for_one_commit_only_the_first_of_a_queue_waits_for_redis(
    send, redis_is_away, monkeypatch
):
    tried = []

    def submit(queue, *args, **how):
        tried.append(queue)
        return handover.submit(queue, *args, **how)

    def order():
        with transaction.atomic():
            for queue in ("default", "default", "other", "default"):
                send.using(queue=queue).enqueue(1)

    monkeypatch.setattr(enqueueing, "submit", submit)
    queues = {"QUEUES": {"default": {}, "other": {}}}
    with override_settings(KUE={**settings.KUE, **queues}), pytest.raises(EnqueueError, match="not enqueued"):
        order()
    assert tried == ["default", "other"]


@pytest.mark.django_db(transaction=True)
def test_after_a_savepoint_was_rolled_back_an_error_at_the_commit_is_told_at_once(send, spoilt_queue):
    """Django has another list of callbacks then: the later ones aren't called, as after any that raises."""
    called = []
    with pytest.raises(EnqueueError, match="WRONGTYPE"), transaction.atomic():
        send.using(queue=spoilt_queue).enqueue(1)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            1 / 0  # noqa: B018
        transaction.on_commit(lambda: called.append("after"))
    assert called == []


class InATestCase(TestCase):
    def test_what_captured_callbacks_raise_is_raised_at_once(self):
        redis_client().set("kue:{other}:d", "foreign")
        with pytest.raises(EnqueueError, match="WRONGTYPE"), self.captureOnCommitCallbacks(execute=True):
            jobs.noop.using(queue="other").enqueue()


# -- the signal ------------------------------------------------------------------------------------


@pytest.fixture
def heard():
    """What ``job_enqueued`` told: (sender, id)."""
    calls = []

    def receiver(sender, job, **kwargs):
        calls.append((sender, job.id))

    signals.job_enqueued.connect(receiver)
    yield calls
    signals.job_enqueued.disconnect(receiver)


def test_the_signal_is_sent_once_a_job_with_the_original_as_sender(send, heard):
    jobs = [send.enqueue(1), send.using(delay=60).enqueue(2), *send.enqueue_many([(3,), (4,)])]
    assert heard == [(send, one.id) for one in jobs]


async def test_the_signal_of_the_async_twin(send, heard):
    enqueued = await send.aenqueue(1)
    assert heard == [(send, enqueued.id)]


def test_a_duplicate_is_not_announced(send, heard):
    unique = define(send.function, unique=True)
    first = unique.enqueue(1)
    unique.enqueue(1)
    assert heard == [(unique, first.id)]


@pytest.mark.django_db(transaction=True)
def test_the_signal_comes_after_the_commit(send, heard):
    with transaction.atomic():
        handle = send.enqueue(1)
        assert heard == []
    assert heard == [(send, handle.id)]


def test_a_receiver_that_raises_changes_nothing(send, heard, caplog):
    def broken(**kwargs):
        raise RuntimeError("receiver is broken")

    signals.job_enqueued.connect(broken)
    try:
        assert is_stored(send.enqueue(1))
    finally:
        signals.job_enqueued.disconnect(broken)
    assert "receiver is broken" in caplog.text


def test_the_class_is_public_for_type_checks(send):
    assert isinstance(send, JobFunction)
