"""Running a job again with edited arguments: what's filled in, what's refused, what's enqueued."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from html import unescape
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from django_kue import Backoff, Job, bulk, get_queue, job
from django_kue.admin.arguments import HiddenValueMoved, call_of, unmasked
from django_kue.errors import EnqueueError
from django_kue.redaction import MASK, redacted
from django_kue.registry import register, unregister
from tests.app import jobs as app_jobs
from tests.conftest import redis_client
from tests.test_admin.conftest import redis_unchanged
from tests.test_admin.test_job_page import enqueued, url, words


@job(name="tests.run_again.take", search_keys=("order",))
def take(order: int, /, user: Any = None, *rest: Any, password: str = "", **options: Any) -> None:
    """One of each kind of parameter."""


def again(client: Client, job_id: str) -> Any:
    return client.get(url(job_id, "run_again"))


def filled_in(client: Client, job_id: str) -> dict[str, Any]:
    """The arguments as the form shows them."""
    return json.loads(str(again(client, job_id).context["form"].initial["arguments"]))


@pytest.fixture
def submit(boss: Client) -> Callable[..., Any]:
    """Sends the form, as it's filled in but for what's changed; the response."""

    def send(job_id: str, arguments: Any = None, **changes: Any) -> Any:
        form = again(boss, job_id).context["form"]
        fields = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
        if arguments is not None:
            fields["arguments"] = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return boss.post(url(job_id, "run_again"), fields | changes)

    return send


def new_of(response: Any) -> Job:
    """The job that the form led to."""
    assert response.status_code == 302, errors(response)
    return Job.get(response.url.rstrip("/").split("/")[-2].replace("_5F", "_"))


def errors(response: Any) -> str:
    form = response.context["form"]
    return unescape(" ".join(str(error) for found in form.errors.values() for error in found))


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    register(take)
    yield
    unregister(take)


# ── what's filled in ──


def test_the_form_shows_the_arguments_by_name(boss: Client) -> None:
    assert filled_in(boss, enqueued(app_jobs.add, 1)) == {"a": 1}
    job_id = take.using(on_commit=False).enqueue(17, "zoe", 1, 2, colour="red").id
    assert filled_in(boss, job_id) == {
        "order": 17,
        "user": "zoe",
        "rest": [1, 2],
        "options": {"colour": "red"},
    }


def test_tagged_values_stand_as_they_are_stored(boss: Client) -> None:
    job_id = enqueued(take, 1, {"day": date(2031, 5, 1), "price": Decimal("19.90")})
    assert filled_in(boss, job_id)["user"] == {"day": {"$date": "2031-05-01"}, "price": {"$decimal": "19.90"}}


def test_secrets_are_not_shown_and_the_page_says_so(boss: Client) -> None:
    job_id = take.using(on_commit=False).enqueue(1, {"api_key": "hunter2"}, password="hunter3").id
    html = again(boss, job_id).content.decode()
    assert "hunter" not in html
    assert "Hidden values are shown as •••" in words(html)
    assert "Hidden values" not in again(boss, enqueued(take, 1)).content.decode()


def test_queue_and_priority_are_those_of_the_job(boss: Client) -> None:
    initial = again(boss, enqueued(app_jobs.add, 1, queue="email", priority=7)).context["form"].initial
    assert (initial["queue"], initial["priority"]) == ("email", 7)


def test_showing_the_form_never_runs_the_function(boss: Client) -> None:
    """A template calls what can be called."""
    runs: list[int] = []
    function = job(name="tests.run_again.easy")(lambda: runs.append(1))
    try:
        html = again(boss, enqueued(function)).content.decode()
    finally:
        unregister(function)
    assert "The function takes ()" in words(html)
    assert not runs


def test_looking_at_the_form_changes_nothing(boss: Client) -> None:
    job_id = enqueued(app_jobs.add, 1)
    with redis_unchanged():
        assert again(boss, job_id).status_code == 200


# ── what's enqueued ──


def test_edited_arguments_make_a_new_job(boss: Client, submit: Callable[..., Any]) -> None:
    job_id = enqueued(app_jobs.add, 1)
    new = new_of(submit(job_id, {"a": 40, "b": 2}, queue="other", priority=5))
    assert (new.id != job_id, new.queue, new.priority, new.args + tuple(new.kwargs.values())) == (
        True, "other", 5, (40, 2),
    )  # fmt: skip
    assert Job.get(job_id).args == (1,)
    noted = {entry.object_id: entry.get_change_message() for entry in LogEntry.objects.all()}
    assert noted == {job_id: f"Ran again as {new.id}.", new.id: f"Enqueued by running {job_id} again."}


def test_unedited_arguments_come_through_in_every_type(submit: Callable[..., Any]) -> None:
    group = Group.objects.create(name="packers")
    values = {
        "at": datetime(2031, 5, 1, 9, 30, tzinfo=timezone(timedelta(hours=2))),
        "for": timedelta(microseconds=7),
        "id": UUID(int=5),
        "large": 2**80,
        "group": group,
        "dict like a tag": {"$date": "none"},
        "nothing": None,
        "text": "•••",
    }
    new = new_of(submit(enqueued(take, 1, values)))
    assert new.args == (1, values)


@pytest.mark.parametrize("number", [2**64 - 1, 2**64 + 1, -(2**63) - 1, 10**300])
def test_a_whole_number_of_any_size_stays_exact(submit: Callable[..., Any], number: int) -> None:
    assert new_of(submit(enqueued(take, 1), {"order": 1, "user": [number]})).args == (1, [number])


def test_a_delay_in_seconds_makes_it_delayed(submit: Callable[..., Any]) -> None:
    new = new_of(submit(enqueued(app_jobs.add, 1), delay="90.5"))
    assert new.state == "delayed"
    assert new.run_at is not None
    assert timedelta(seconds=85) < new.run_at - new.created_at < timedelta(seconds=95)


def test_what_using_said_holds_again(submit: Callable[..., Any]) -> None:
    options: dict[str, Any] = {
        "attempts": 9, "timeout": 33, "keep": 44, "title": "by hand", "backoff": Backoff.fixed(3),
    }  # fmt: skip
    job_id = enqueued(app_jobs.add, 1, **options)
    new = new_of(submit(job_id))
    assert dict(new._options) == dict(Job.get(job_id)._options)
    assert new.title == "by hand"


def test_the_search_keys_are_those_of_the_new_arguments(submit: Callable[..., Any]) -> None:
    new = new_of(submit(enqueued(take, 1), {"order": 2}))
    assert [found.id for found in get_queue("default").find(order=2)] == [new.id]


def test_hidden_values_stay_unless_they_are_overwritten(submit: Callable[..., Any]) -> None:
    job_id = take.using(on_commit=False).enqueue(1, {"token": "t", "api_key": "k"}, password="p").id
    new = new_of(submit(job_id, {"order": 2, "user": {"token": MASK, "api_key": "new"}, "password": MASK}))
    assert new.args == (2, {"token": "t", "api_key": "new"})
    assert new.kwargs == {"password": "p"}


def test_a_held_unique_key_leads_to_the_job_that_holds_it(boss: Client, submit: Callable[..., Any]) -> None:
    unique = job(name="tests.run_again.unique", unique=True)(lambda a: None)
    try:
        first = unique.using(on_commit=False).enqueue(1).id
        # Ids tell milliseconds; the next one has to be another's.
        while Job.get(first).created_at >= datetime.now(timezone.utc) - timedelta(milliseconds=2):  # noqa: UP017
            pass
        response = submit(first)
        assert new_of(response).id == first
        assert "Another job holds the unique key" in words(boss.get(response.url).content.decode())
        assert not LogEntry.objects.exists()
    finally:
        unregister(unique)


# ── what's refused ──


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "Missing a required argument: 'a'"),
        ({"a": 1, "c": 2}, "There’s no argument 'c'"),
        ("", "This field is required"),
        ("{", "This isn’t JSON: Expecting property name enclosed in double quotes, in line 1, column 2."),
        ("[1]", "Write an object"),
        ('{"a": NaN}', "NaN isn’t a number in JSON"),
        ({"a": {"$decimal": "x"}}, "Argument 'a': stored text has a broken $decimal value"),
        ({"a": {"$what": 1}}, "Argument 'a': stored text has the unknown tag"),
        ({"a": {"$model": ["auth.group", 4711, "default"]}}, "isn't in database 'default' any more"),
        ({"a": 1, "b": MASK}, "Argument 'b': ••• doesn’t stand for a value here"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "This isn’t JSON"),
        ('{"a": ' + "[" * 300 + "]" * 300 + "}", "nested deeper"),
        ('{"a": ' + "[" * 600 + "]" * 600 + "}", "Argument 'a': nested deeper"),
        ('{"a": ' + '{"b":' * 600 + "1" + "}" * 600 + "}", "Argument 'a': nested deeper"),
        ('{"a": [-1e400]}', "-1e400 is too large a number to be stored."),
        ('{"a": "x\\ud800"}', r"Argument 'a': half of a character, \ud800, can’t be stored"),
        ('{"a": [{"\\udfff": 1}]}', r"Argument 'a': half of a character, \udfff, can’t be stored"),
        ({"a": "x" * 300_000}, "argument 'a' is too large"),
    ],
)
def test_what_the_function_cannot_take_is_refused_by_name(
    submit: Callable[..., Any], arguments: Any, said: str
) -> None:
    job_id = enqueued(app_jobs.add, 1)
    with redis_unchanged():
        response = submit(job_id, arguments)
    assert response.status_code == 200
    assert said in errors(response)


def test_what_was_typed_is_still_there_beside_its_error(submit: Callable[..., Any]) -> None:
    response = submit(enqueued(app_jobs.add, 1), '{"a": <script>')
    assert "{&quot;a&quot;: &lt;script&gt;</textarea>" in response.content.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"order": 1, "rest": 5}, "Argument 'rest': write a list"), ({"order": 1, "options": []}, "an object")],
)
def test_variable_arguments_have_their_kinds(submit: Callable[..., Any], arguments: Any, said: str) -> None:
    assert said in errors(submit(enqueued(take, 1), arguments))


@pytest.mark.parametrize(
    "field", [{"queue": "none"}, {"priority": "101"}, {"delay": "-1"}, {"delay": "inf"}, {"delay": "nan"}]
)
def test_the_other_fields_are_checked(submit: Callable[..., Any], field: dict[str, str]) -> None:
    response = submit(enqueued(app_jobs.add, 1), **field)
    assert list(response.context["form"].errors) == list(field)


def test_hidden_values_in_a_reordered_list_must_be_written_anew(submit: Callable[..., Any]) -> None:
    people = [{"user": "a", "token": "1"}, {"user": "b", "token": "2"}]
    job_id = enqueued(take, 1, people)
    shown = [{"user": "b", "token": MASK}, {"user": "a", "token": MASK}]
    assert "Argument 'user': ••• doesn’t stand for a value here" in errors(
        submit(job_id, {"order": 1, "user": shown})
    )
    assert new_of(submit(job_id, {"order": 1, "user": shown[::-1]})).args == (1, people)


def test_an_unknown_function_is_explained_and_has_no_form(boss: Client) -> None:
    job_id = enqueued(take, 1)
    unregister(take)
    for response in (again(boss, job_id), boss.post(url(job_id, "run_again"), {"arguments": "{}"})):
        html = response.content.decode()
        assert "doesn’t know the function" in words(html)
        assert "<textarea" not in html
    assert get_queue("default").counts()["waiting"] == 1


@pytest.mark.parametrize("stored", [b'["a", "b", "c"]', b'{"k":{"a":1,"old":2}}', b"\xff", b"5", b'{"a":5}'])
def test_arguments_for_another_signature_or_none_are_explained(boss: Client, stored: bytes) -> None:
    job_id = enqueued(app_jobs.add, 1)
    redis_client().hset("kue:{default}:d", job_id.partition(".")[2], b"|tests.app.jobs.add|" + stored)
    text = words(again(boss, job_id).content.decode())
    assert "don’t fit the function as it is now, (a: " in text


def test_corrupt_options_of_the_job_are_refused_in_words(submit: Callable[..., Any]) -> None:
    job_id = enqueued(app_jobs.add, 1)
    options = b'{"timeout":"soon"}'
    record = b"o%d|tests.app.jobs.add|%s[1]" % (len(options), options)
    redis_client().hset("kue:{default}:d", job_id.partition(".")[2], record)
    assert "options that the job was enqueued with can’t be read" in errors(submit(job_id))


def test_redis_going_away_is_said_on_the_form(
    submit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = enqueued(app_jobs.add, 1)

    def away(*args: Any, **kwargs: Any) -> Any:
        raise EnqueueError("Redis is away", may_be_stored=True)

    monkeypatch.setattr("django_kue.enqueueing.submit", away)
    response = submit(job_id)
    assert "Redis is away" in errors(response)
    assert "may have been enqueued all the same" in errors(response)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("permissions", [["view_job", "change_job", "delete_job"], ["enqueue_job"]])
def test_it_takes_the_permissions_to_view_and_to_enqueue(
    client_with: Callable[..., Client], permissions: list[str]
) -> None:
    client = client_with(*permissions)
    job_id = enqueued(app_jobs.add, 1)
    with redis_unchanged():
        assert again(client, job_id).status_code == 403
        assert client.post(url(job_id, "run_again"), {"arguments": "{}"}).status_code == 403


def test_the_arguments_of_a_bulk_job_are_edited_by_nobody(boss: Client) -> None:
    until = datetime(2031, 5, 1, tzinfo=timezone.utc)  # noqa: UP017
    job_id = bulk.bulk_job.using(on_commit=False).enqueue({}, "retry", None, until).id
    arguments = json.dumps({"listing": {}, "verb": "remove", "argument": None, "until": None})
    with redis_unchanged():
        assert again(boss, job_id).status_code == 403
        fields = {"arguments": arguments, "queue": "default", "priority": "0", "delay": "0"}
        assert boss.post(url(job_id, "run_again"), fields).status_code == 403


def test_a_job_that_is_gone_leads_to_the_list(boss: Client) -> None:
    job_id = enqueued(app_jobs.add, 1)
    Job.get(job_id).remove()
    assert again(boss, job_id).url == "/admin/django_kue/job/"


# ── pieces ──

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(MASK),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "token", "x_secret"]), inner),
    max_leaves=12,
)


@given(VALUES, st.sampled_from(["a", "password"]))
def test_what_is_not_edited_comes_back_as_it_was(value: Any, name: str) -> None:
    assert json.dumps(unmasked(name, redacted(name, value), value)) == json.dumps(value)


@given(VALUES, VALUES)
def test_an_edit_never_brings_a_secret_to_light(edited: Any, stored: Any) -> None:
    """Whatever is typed, what was hidden is hidden in what comes of it."""
    stored = {"token": "the secret", "more": stored}
    try:
        result = unmasked("a", {"token": MASK, "b": edited, "more": edited}, stored)
    except HiddenValueMoved:
        return
    assert "the secret" not in json.dumps(redacted("a", result))


@pytest.mark.parametrize(("edited", "stored"), [(True, 1), (1, True), (1.0, 1), ("1", 1)])
def test_an_edit_of_a_type_is_an_edit(edited: Any, stored: Any) -> None:
    assert type(unmasked("a", edited, stored)) is type(edited)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"order": 1}, ((1,), {})),
        ({"order": 1, "user": 2, "rest": [3, 4]}, ((1, 2, 3, 4), {})),
        ({"order": 1, "password": "x", "options": {"order": 5}}, ((1,), {"password": "x", "order": 5})),
    ],
)
def test_a_call_is_made_of_arguments_by_name(values: dict[str, Any], expected: Any) -> None:
    assert call_of(take, values) == expected


def test_rest_arguments_without_those_before_them_are_refused() -> None:
    with pytest.raises(TypeError, match="user"):
        call_of(take, {"order": 1, "rest": [3]})
