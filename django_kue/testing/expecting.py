"""What a test expects to have been enqueued, how far a job is from it, and how to say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django_kue import codecs, records, registry
from django_kue.backoff import Backoff
from django_kue.codecs import CodecError, ModelReference
from django_kue.decorators import JobFunction
from django_kue.options import STORED, TABLE
from django_kue.rows import arguments_of
from django_kue.testing.stored import Stored

MOST_SHOWN = 10
ANOTHER_FUNCTION = 1000  # as far off as that many arguments

_IN_MS = ("delay", "expires", "keep")  # options that are stored in milliseconds
_AS_DECLARED: Any = object()  # an option isn't stored
_IGNORED = ("on_commit", "outbox", "search_keys", "unique_for")  # how a job got here, not what it is


@dataclass(frozen=True)
class Expected:
    """A call that should have been enqueued, or not.

    ``definition`` may come from ``.using()``: those options are expected, too. If no arguments are given, any
    will do.
    """

    definition: JobFunction[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None

    @property
    def has_arguments(self) -> bool:
        return bool(self.args or self.kwargs)

    def differences(self, job: Stored) -> list[str]:
        """How a job differs from this, in words; empty if it's what was expected."""
        record = records.decode(job.record)
        known = registry.get(record.name)
        if known is None or known.name != self.definition.name:
            return ["another function"]
        found = self._differences_of_options(job, record) if self._changed else []
        return found + (self._differences_of_arguments(job) if self.has_arguments else [])

    def __str__(self) -> str:
        text = f"{self.definition.name}({shown(self.args, self.kwargs or {}) if self.has_arguments else '…'})"
        options = ", ".join(f"{name}={value!r}" for name, value in self._changed.items())
        return f"{text} using({options})" if options else text

    @property
    def _changed(self) -> dict[str, Any]:
        """The options that ``.using()`` gave."""
        now, before = self.definition.options, self.definition.original.options
        names = [name for name in TABLE if name not in _IGNORED]
        return {name: getattr(now, name) for name in names if getattr(now, name) != getattr(before, name)}

    def _differences_of_options(self, job: Stored, record: records.Record) -> list[str]:
        stored = codecs.loads(record.options) if record.options else {}
        known: dict[str, Any] = {
            "queue": job.queue, "priority": job.priority, "delay": job.delay or None, "run_at": job.run_at,
            "expires": job.expires, "keep": job.token("q") or None, "unique": bool(job.token("u")),
            **{name: stored.get(name, _AS_DECLARED) for name in STORED if name != "keep"},
        }  # fmt: skip
        words = []
        for name, value in self._changed.items():
            wanted, found = _comparable(name, value), known[name]
            if str(wanted) != str(found):
                words.append(f"{name} is {_in_people_s(name, found)}, not {value!r}")
        return words

    def _differences_of_arguments(self, job: Stored) -> list[str]:
        args, kwargs = _arguments(job)
        try:
            found = self.definition.signature.bound(args, kwargs)
            wanted = self.definition.signature.bound(self.args, self.kwargs or {})
        except TypeError as error:
            return [str(error)]
        return [
            f"{name} is {_short(found.get(name))}, not {_short(value)}"
            for name, value in wanted.items()
            if not _is_same(found.get(name), value)
        ]


def definition_of(function: Any) -> JobFunction[..., Any]:
    """The job function that a test means.

    Raises:
        TypeError: it isn't one.
    """
    if isinstance(function, JobFunction):
        return function
    backend: Any = function.get_backend() if hasattr(function, "get_backend") else None
    if hasattr(backend, "job_function"):  # a Task of Django's, on our backend
        definition: JobFunction[..., Any] = backend.job_function(function)
        return definition
    raise TypeError(
        f"{function!r:.80} is not a @job function, what its .using() returns, or a @task of Kue's"
    )


def expectation(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Expected:
    """What a test expects, checked.

    Raises:
        TypeError: it isn't a job, or doesn't take these arguments: the test could never fail, or never pass.
    """
    wanted = Expected(definition_of(function), args, kwargs)
    if wanted.has_arguments:
        try:
            wanted.definition.signature.bound(args, kwargs)
        except TypeError as error:
            raise TypeError(
                f"{wanted.definition.name}: {error}; it takes {wanted.definition.signature}"
            ) from None
    return wanted


def _comparable(name: str, value: Any) -> Any:
    if value is None or (name == "delay" and not value):
        return None
    if name in _IN_MS:
        return round(value * 1000)
    if name == "run_at":
        return round(value.timestamp() * 1000)
    if name == "unique":
        return bool(value)
    return value.as_json() if isinstance(value, Backoff) else value


def _in_people_s(name: str, found: Any) -> str:
    """A stored option, in the unit that people write."""
    if found is _AS_DECLARED:
        return "as @job has it"
    return f"{int(found) / 1000:g}" if name in _IN_MS and found is not None else repr(found)


def _is_same(found: Any, wanted: Any) -> bool:
    """Whether an argument that went through the codec is what was given.

    What the codec can't take is compared as it is: ``mock.ANY``, or an object with an ``==`` of its own.
    """
    if isinstance(found, list | tuple) and not isinstance(found, ModelReference):
        return (
            isinstance(wanted, list | tuple)
            and len(found) == len(wanted)
            and all(map(_is_same, found, wanted))
        ) or bool(found == wanted)
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_is_same(found[key], wanted[key]) for key in found)
    with suppress(CodecError):
        wanted = codecs.loads(codecs.dumps(wanted), fetch=False)
    return bool(wanted == found)


# ── in words ──


def shown(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """``17, copy_to='me@example.org'``"""
    return ", ".join([*map(_short, args), *(f"{name}={_short(value)}" for name, value in kwargs.items())])


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, ModelReference) else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def call_of(job: Stored) -> str:
    """A job as the call that enqueued it."""
    return f"{records.decode(job.record).name}({shown(*_arguments(job))}) on {job.queue}"


def _arguments(job: Stored) -> tuple[tuple[Any, ...], dict[str, Any]]:
    arguments = arguments_of(records.decode(job.record), job.queue, job.key.decode())
    return records.decode_arguments(arguments, fetch=False)


def nearest_first(jobs: Sequence[Stored], expected: Expected) -> str:
    """Jobs that aren't what was expected, a line each."""
    pairs = [(job, expected.differences(job)) for job in jobs]
    pairs.sort(key=lambda pair: ANOTHER_FUNCTION if pair[1] == ["another function"] else len(pair[1]))
    calls = [call_of(job) for job, _ in pairs[:MOST_SHOWN]]
    width = max(map(len, calls))
    lines = [
        f"  {call:{width}}  {'; '.join(words) or 'as expected'}"
        for call, (_, words) in zip(calls, pairs, strict=False)
    ]
    return "\n".join([*lines, *_rest(len(pairs))])


def listed(jobs: Sequence[Stored]) -> str:
    """Jobs, a line each."""
    return "\n".join([*(f"  {call_of(job)}" for job in jobs[:MOST_SHOWN]), *_rest(len(jobs))])


def _rest(count: int) -> list[str]:
    return [f"  … and {count - MOST_SHOWN} more"] if count > MOST_SHOWN else []
