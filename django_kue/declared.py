"""Schedules that the project declares: by ``@job``, by ``@schedule`` and in ``KUE["SCHEDULES"]``.

A :class:`Wish` is what somebody wrote; a :class:`Plan` is a wish that was found to be possible. While modules
are imported, wishes are only collected; ``manage.py check`` reports what's wrong with them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings

from django_kue import codecs, encryption, records, registry, ticks
from django_kue.codecs import CodecError
from django_kue.conf import settings
from django_kue.errors import ScheduleError
from django_kue.ids import is_schedule_name
from django_kue.ticks import CATCH_UP, Cron, Every, Rule

if TYPE_CHECKING:
    from django_kue.decorators import JobFunction

    Definition = JobFunction[Any, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """A schedule as somebody asked for it."""

    where: str  # where it's declared, for messages
    name: str
    function: Definition | str
    cron: str | None = None
    every: float | timedelta | None = None
    timezone: str | None = None
    args: Any = ()  # planned() refuses anything but a tuple here, and a mapping below
    kwargs: Any = field(default_factory=dict)
    queue: str | None = None
    catch_up: str = "last"
    overlap: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule that's possible. ``arguments`` are encoded like a job's, but not sealed."""

    name: str
    queue: str
    function: str
    rule: Rule
    arguments: bytes
    catch_up: str
    overlap: bool

    @property
    def digest(self) -> str:
        """Distinguishes this declaration from another release's."""
        said = [self.function, ticks.encode(self.rule), self.arguments.decode(), self.catch_up, self.overlap]
        return codecs.digest([self.queue, *said], encryption.hash_keys(self.queue)[0])


def planned(wish: Wish) -> Plan:
    """The plan for a wish.

    Raises:
        ScheduleError: it isn't possible; the message says why, and what to write.
    """
    try:
        given = _function(wish.function)
        definition = given.original
        return Plan(
            _name(wish.name),
            _queue(wish.queue or given.options.queue),
            definition.name,
            rule_of(wish.cron, wish.every, wish.timezone),
            _arguments(definition, wish.args, wish.kwargs),
            catching_up(wish.catch_up),
            overlapping(wish.overlap),
        )
    except (TypeError, ValueError, LookupError) as error:
        where = wish.where if str(wish.name) in wish.where else f"{wish.where}, {wish.name!r}"
        raise ScheduleError(f"{where}: {error.args[0] if error.args else error}") from error


def as_given(args: object) -> Any:
    """Positional arguments as a :class:`Wish` holds them; text, and what isn't iterable, stays as it is."""
    return tuple(args) if isinstance(args, Iterable) and not isinstance(args, str | bytes) else args


def rule_of(cron: str | None, every: float | timedelta | None, timezone: str | None) -> Rule:
    """The rule for these options. Raises TypeError or ValueError."""
    if (cron is None) == (every is None):
        raise ValueError('give either cron="30 2 * * mon" or every=300')
    if cron is not None:
        if not isinstance(cron, str):
            raise TypeError(f'cron={cron!r:.80} must be text; write for example "30 2 * * mon"')
        if timezone is not None and not isinstance(timezone, str):
            raise TypeError(f'timezone={timezone!r:.80} must be text; write for example "Europe/Berlin"')
        return Cron.of(cron, timezone or django_settings.TIME_ZONE)
    if timezone is not None:
        raise ValueError("an interval has no time zone: it follows elapsed time; leave timezone out")
    assert every is not None  # one of the two is given
    return Every.of(every)


def catching_up(word: object) -> str:
    """A valid ``catch_up``. Raises ValueError for anything else."""
    if word not in CATCH_UP:
        raise ValueError(f"catch_up={word!r:.40} must be one of {', '.join(map(repr, CATCH_UP))}")
    return str(word)


def overlapping(flag: object) -> bool:
    """A valid ``overlap``. Raises TypeError for anything but True or False."""
    if not isinstance(flag, bool):
        raise TypeError(f"overlap={flag!r:.40} must be True or False")
    return flag


def _name(name: object) -> str:
    if not isinstance(name, str) or not is_schedule_name(name):
        raise ValueError(f"name={name!r:.120} must be 1 to 200 printable characters without commas and |")
    return name


def _queue(name: str) -> str:
    settings.queue(name)
    return name


def _function(said: Definition | str) -> Definition:
    if not isinstance(said, str):
        if not hasattr(said, "original"):  # it could be anything
            raise TypeError(f"{said!r:.80} isn't a job; write a function with @job, or a job's stored name")
        _check_options(said)
        return said
    found = registry.get(said)
    if found is None:
        raise LookupError(
            f"no job is called {said!r}; write its stored name, module.function unless @job says otherwise"
        )
    return found


def _check_options(given: Definition) -> None:
    own = given.original.options
    if replace(given.options, queue=own.queue) != own:
        raise ValueError("a schedule keeps no option of .using() except the queue; give the others to @job")


def _arguments(definition: Definition, args: object, kwargs: object) -> bytes:
    if not isinstance(args, tuple):
        raise TypeError(f"args={args!r:.40} isn't a list of arguments; write ({args!r:.40},)")
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs={kwargs!r:.40} isn't a dict of arguments by name")
    try:
        definition.signature.check(args, kwargs)
    except TypeError as error:
        raise TypeError(f"{error}; {definition.name} takes {definition.signature}") from error
    try:
        text = records.encode_arguments(args, kwargs)
    except CodecError as error:
        raise ValueError(
            f"argument {definition.signature.argument_at(error.path)}: {error.reason}"
        ) from error
    if len(text) > settings.MAX_ARGUMENTS:
        raise ValueError(
            f'the arguments are {len(text)} bytes of JSON, KUE["MAX_ARGUMENTS"] is {settings.MAX_ARGUMENTS}'
        )
    return text


# ── what's declared ───────────────────────────────────────────────────────────────────────────────

_wishes: dict[tuple[str, str], Wish] = {}  # those in code, by function and name


def declare(wish: Wish) -> None:
    """Note a schedule that's declared in code. It replaces one with the same function and name, as when a
    module is imported again."""
    assert not isinstance(wish.function, str)
    key = wish.function.name, wish.name
    known = _wishes.get(key)
    if known is not None and known.function is wish.function:  # two on one function, both without a name
        key = wish.function.name, f"{wish.name}|{len(_wishes)}"
    _wishes[key] = wish


def forget(definition: Definition) -> None:
    """Drop the schedules of a function: for tests that define jobs of their own."""
    for key in [key for key, wish in _wishes.items() if wish.function is definition]:
        del _wishes[key]


def plans() -> dict[str, Plan]:
    """The declared schedules that are possible, by name."""
    return {plan.name: plan for plan, _ in _read() if plan is not None}


def untaken(known: Collection[str]) -> list[Plan]:
    """The declared schedules that no worker has taken up yet, so that they don't exist."""
    return [plan for name, plan in plans().items() if name not in known]


def place_of(name: str) -> str | None:
    """Where a schedule is declared, in words; ``None`` if this process has no declaration of it.

    >>> place_of("nightly")
    'KUE["SCHEDULES"]["nightly"]'
    """
    wishes = [*_wishes_of_code(), *_wishes_of_settings()]
    return next((wish.where for wish in wishes if wish.name == name), None)


def problems() -> list[str]:
    """What's wrong with the declared schedules that aren't possible."""
    return [text for plan, text in _read() if plan is None]


def _read() -> Iterator[tuple[Plan | None, str]]:
    wishes = [*_wishes_of_code(), *_wishes_of_settings()]
    places: dict[str, list[str]] = {}
    for wish in wishes:
        places.setdefault(wish.name, []).append(wish.where)
    for wish in wishes:
        try:
            yield _only_plan(wish, places[wish.name]), ""
        except ScheduleError as error:
            yield None, str(error)


def _only_plan(wish: Wish, places: list[str]) -> Plan:
    if len(places) > 1:
        others = " and ".join(places)
        raise ScheduleError(f"{others}: {len(places)} schedules are called {wish.name!r}; give each a name=")
    return planned(wish)


def _wishes_of_code() -> Iterator[Wish]:
    for wish in _wishes.values():
        assert not isinstance(wish.function, str)
        if registry.get(wish.function.name) is wish.function.original:  # it wasn't replaced, or unregistered
            yield wish


def _wishes_of_settings() -> Iterator[Wish]:
    for name, said in settings.SCHEDULES.items():
        yield Wish(
            f'KUE["SCHEDULES"]["{name}"]', name, said.job or "", said.cron, said.every, said.timezone,
            tuple(said.args), said.kwargs, said.queue, said.catch_up, said.overlap,
        )  # fmt: skip
