"""Finds the text that people search for in a job's title, its function's name and its error.

Arguments as such aren't searched, since they may be secret; what the title shows of them is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django_kue import codecs, encryption, records, registry
from django_kue.codecs import search_hash
from django_kue.conf import settings
from django_kue.redaction import is_secret, redacted
from django_kue.rows import FOREIGN

_ERROR = re.compile(r'{"type": ?"((?:[^"\\]|\\.)*)", ?"message": ?"((?:[^"\\]|\\.)*)("?)', re.DOTALL)
_CUT_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{0,3})?$")

Title = Callable[[records.Record], str]


def readable(text: bytes) -> records.Record:
    """A stored record; ``records.UNREADABLE`` if it can't be read."""
    try:
        return records.decode(text)
    except FOREIGN:
        return records.UNREADABLE


class Matcher:
    """Says whether a job contains the text, ignoring case. Each search makes its own: it remembers what it
    learns about functions, so that it takes a tenth of a second to look at 10,000 jobs."""

    def __init__(self, text: str) -> None:
        self._wanted = text.casefold()
        self._names: dict[str, bool] = {}
        self._titles: dict[str, Title] = {}

    def __call__(self, record: records.Record, outcome: bytes) -> bool:
        return (
            self._is_in_name(record.name)
            or self._wanted in self._title(record).casefold()
            or (bool(outcome) and self._wanted in error_text(outcome).casefold())
        )

    def needs_arguments(self, record: records.Record) -> bool:
        """True when only the arguments can tell whether the job's title contains the text."""
        definition: Any = registry.get(record.name)
        is_titled = definition is not None and definition.title_template is not None
        return is_titled and not self._is_in_name(record.name)

    def _is_in_name(self, name: str) -> bool:
        if name not in self._names:
            self._names[name] = self._wanted in name.casefold()
        return self._names[name]

    def _title(self, record: records.Record) -> str:
        if record.options and (title := _options(record).get("title")):
            return str(title)
        find = self._titles.get(record.name)
        if find is None:
            find = self._titles[record.name] = _title_finder(record.name)
        return find(record)


def title_of(record: records.Record) -> str:
    """The title of a job, given its record: the same as :attr:`django_kue.Job.title`."""
    return Matcher("")._title(record)


def error_text(outcome: bytes) -> str:
    """An error's type without its module, and its message, from the beginning of an outcome."""
    found = _ERROR.match(outcome.split(b"|", 4)[-1].decode(errors="replace"))
    if found is None:
        return ""
    kind, message, is_whole = found.groups()
    text = f"{kind.rpartition('.')[2]}: {message if is_whole else _CUT_ESCAPE.sub('', message)}"
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:  # not written by us
        return text


def search_hashes(text: str) -> list[str]:
    """The hashes of the search keys that a text may mean: ``order_id=17``, or a bare ``17`` for every search
    key of every function; both as text and as a number. Secret search keys can't be used to find jobs."""
    name, is_named, value = text.partition("=")
    known = {key for function in registry.functions() for key in function.options.search_keys}
    names = {name.strip()} if is_named else known
    value = (value if is_named else text).strip()
    values: list[Any] = [value]
    if re.fullmatch(r"-?[0-9]{1,18}", value):
        values.append(int(value))
    hash_keys = dict.fromkeys(key for queue in settings.queues for key in encryption.hash_keys(queue))
    return [
        search_hash(name, one, key)
        for name in sorted(names & known)
        if not is_secret(name)
        for one in values
        for key in hash_keys
    ]


class _Place(int):
    """Stands in for the positional argument at this place, to see which name a signature gives it."""


def _title_finder(name: str) -> Title:
    """Finds titles of one function's jobs. Most have plain positional arguments: how those fill the template
    is worked out once per number of arguments, not once per job."""
    definition: Any = registry.get(name)
    if definition is None or definition.title_template is None:
        return lambda record: record.name
    plans: dict[int, tuple[dict[str, Any], list[tuple[str, int]]] | None] = {}

    def find(record: records.Record) -> str:
        args = _plain_list(record.arguments)
        if args is None:
            return _title_by_signature(definition, record)
        if len(args) not in plans:
            plans[len(args)] = _plan(definition, len(args))
        plan = plans[len(args)]
        if plan is None:
            return record.name
        fixed, places = plan
        title: str = definition.title_template.render({**fixed, **{field: args[at] for field, at in places}})
        return title

    return find


def _plan(definition: Any, count: int) -> tuple[dict[str, Any], list[tuple[str, int]]] | None:
    """The title's fields that are the same for all jobs with ``count`` arguments, and the places of the
    others among the arguments; ``None`` if the function doesn't take that many."""
    try:
        values = definition.signature.bound(tuple(map(_Place, range(count))), {})
    except TypeError:  # enqueued for another signature
        return None
    fields = definition.title_template.fields
    places = [(field, int(values[field])) for field in fields if isinstance(values[field], _Place)]
    places = [(field, at) for field, at in places if not is_secret(field)]
    varying = {field for field, _ in places}
    return {field: redacted(field, values[field]) for field in fields if field not in varying}, places


def _title_by_signature(definition: Any, record: records.Record) -> str:
    try:
        title: str = definition.title_for(*records.decode_arguments(record.arguments, fetch=False))
    except (ValueError, TypeError, LookupError):  # enqueued for another signature, or cut
        return record.name
    return title


def _plain_list(arguments: bytes) -> Sequence[Any] | None:
    """Positional arguments, if they're only strings and numbers; else ``None``."""
    if not arguments:
        return ()
    if arguments[:1] != b"[":
        return None
    try:
        found = codecs.loads(arguments, fetch=False)
    except ValueError:
        return None
    return found if all(type(one) in (str, int, float) for one in found) else None


def _options(record: records.Record) -> Mapping[str, Any]:
    try:
        found = codecs.loads(record.options, fetch=False)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


__all__ = ["Matcher", "error_text", "readable", "search_hashes", "title_of"]
