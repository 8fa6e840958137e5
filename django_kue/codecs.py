"""How arguments and results are stored: as JSON, with tags for what JSON has no form for. No pickle.

Plain values (``None``, bool, int, finite float, str, list, tuple, dict with str keys) are stored as
they are; a tuple comes back as a list. Other types are stored as an object with one key, a tag:

==============  =====================================  ===========================================
``$datetime``   ``"2031-05-01T09:30:00+02:00"``        the offset is kept, the zone's name isn't
``$date``       ``"2031-05-01"``
``$time``       ``"09:30:00"``
``$timedelta``  microseconds
``$decimal``    ``"19.90"``
``$uuid``       ``"0190a5c8-…"``
``$int``        ``"0x1f…"``                            beyond 64 bits, where JSON parsers round
``$model``      ``["shop.order", pk, "default"]``      a saved model instance: label, pk, database
==============  =====================================  ===========================================

A stored object with one key that starts with ``$`` is a tag and nothing else: an application's own
dict of that shape is stored with the ``$`` doubled, so that the two can't be mistaken for each other.

orjson is used if it's installed. What one library writes, the other reads.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from math import isfinite
from typing import Any, NamedTuple
from uuid import UUID

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import connections
from django.db.models import Model
from django.db.models.query import QuerySet
from django.utils.functional import Promise

try:
    import orjson
except ImportError:  # it only makes things faster
    orjson = None  # type: ignore[assignment]

MAX_DEPTH = 200  # levels of nested lists and dicts; far below what either JSON library can read

SEAL = b"~"  # no JSON begins like this: what follows is encrypted (encryption.py)

_PLAIN_SCALARS = frozenset({str, int, bool, type(None)})
_INT64 = range(-(2**63), 2**64)  # what every JSON library keeps exact
_TAG_MARKER = b'{"$'  # stored JSON has no spaces, so every tag starts like this
_MODEL_MARKER = b'{"$model":'
_MICROSECOND = timedelta(microseconds=1)

Path = tuple[str | int, ...]


class CodecError(ValueError):
    """A value can't be stored, or stored text can't be read.

    ``path`` leads to the offending value: ``("items", 3)`` is ``value["items"][3]``.
    ``reason`` is the message without the path.
    """

    def __init__(self, reason: str, path: Path = ()) -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"value{render_path(path)}: {reason}" if path else reason)


class InstanceMissing(CodecError):
    """A stored reference leads to a row that isn't in the database any more."""


class CannotOpen(CodecError):
    """A stored text is encrypted, and can't be opened here; or it should be encrypted, and isn't."""


class ModelReference(NamedTuple):
    """Where a model instance is: what's stored in its place."""

    label: str
    pk: Any
    db: str

    def __str__(self) -> str:
        return f"{self.label} {self.pk}"

    def fetch(self) -> Model:
        """The instance, read from its database through the base manager.

        Raises:
            InstanceMissing: the row is gone.
            CodecError: there's no such model or database here.
        """
        try:
            model = apps.get_model(self.label)
        except (LookupError, ValueError) as error:
            raise CodecError(f"no model {self.label!r} is installed here") from error
        if self.db not in connections.settings:
            raise CodecError(
                f"no database {self.db!r} in DATABASES, where {self.label} {self.pk!r} was saved"
            )
        try:
            instance: Model = model._base_manager.using(self.db).get(pk=self.pk)
            return instance
        except ObjectDoesNotExist as error:
            raise InstanceMissing(
                f"{model._meta.label} with primary key {self.pk!r} isn't in database {self.db!r} any more"
            ) from error
        except (TypeError, ValueError, ValidationError) as error:
            raise CodecError(f"{self.pk!r:.80} can't be a primary key of {model._meta.label}") from error


def render_path(path: Iterable[str | int]) -> str:
    """``("items", 3)`` as ``['items'][3]``."""
    return "".join(f"[{step!r}]" for step in path)


# -- writing ---------------------------------------------------------------------------------------


def dumps(value: Any) -> bytes:
    """``value`` as compact JSON in UTF-8.

    Raises:
        CodecError: it, or something inside it, can't be stored; ``path`` says where.
    """
    if orjson is None:
        return _stdlib_dumps(_tagged(value, ()))
    try:
        return orjson.dumps(value if _is_plain(value, MAX_DEPTH) else _tagged(value, ()))
    except TypeError:  # plain by type, but an int is beyond 64 bits or a text isn't Unicode
        return orjson.dumps(_tagged(value, ()))


def canonical(value: Any) -> bytes:
    """``value`` as JSON that's the same text for equal values, on any machine: for hashing.

    Raises:
        CodecError: as :func:`dumps`.
    """
    return _stdlib_dumps(_tagged(value, ()), sort_keys=True)


def digest(value: Any, key: bytes = b"") -> str:
    """22 URL-safe characters, the same for equal values of the same types: what unique keys compare.

    With a ``key``, nobody who doesn't have it can find out the value by trying.

    Raises:
        CodecError: as :func:`dumps`.
    """
    return urlsafe_b64encode(blake2b(canonical(value), digest_size=16, key=key).digest())[:22].decode()


def search_hash(name: str, value: Any, key: bytes = b"") -> str:
    """The digest by which jobs are found whose argument ``name`` is ``value``."""
    return digest([name, value], key)


def _stdlib_dumps(value: Any, sort_keys: bool = False) -> bytes:
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys
    ).encode()


def _is_plain(value: Any, depth: int) -> bool:
    """True when ``value`` can be given to orjson as it is.

    orjson alone isn't strict enough: it writes NaN as null, and enums and UUIDs as bare values.
    """
    kind = type(value)
    items: Iterable[Any]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        if len(value) == 1 and key[:1] == "$":
            return False
        items = value.values()
    elif kind is list or kind is tuple:
        items = value
    elif kind is float:
        return isfinite(value)
    else:
        return kind in _PLAIN_SCALARS
    if not depth:
        return False
    for item in items:  # noqa: SIM110 - a generator would double the cost
        if type(item) not in _PLAIN_SCALARS and not _is_plain(item, depth - 1):
            return False
    return True


def _tagged(value: Any, path: Path) -> Any:
    """``value`` rebuilt from plain values and tags, every part of it checked."""
    if value is None or value is True or value is False:
        return value
    for kind, tag in _WRITERS:
        if isinstance(value, kind):
            return tag(value, path)
    raise CodecError(f"{type(value).__qualname__} can't be stored; {_remedy(value)}", path)


def _write_str(value: str, path: Path) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise CodecError(
            "text with a lone surrogate can't be stored; it was decoded wrongly, clean it with "
            "text.encode(errors='replace').decode()",
            path,
        ) from error
    return value if type(value) is str else str.__str__(value)


def _write_int(value: int, path: Path) -> Any:
    value = int.__int__(value)
    return value if value in _INT64 else {"$int": hex(value)}


def _write_float(value: float, path: Path) -> float:
    if not isfinite(value):
        raise CodecError(f"{float.__repr__(value)} can't be stored; JSON has no such number, use None", path)
    return float.__float__(value)


def _write_list(value: Iterable[Any], path: Path) -> list[Any]:
    _check_depth(path)
    return [_tagged(item, (*path, index)) for index, item in enumerate(value)]


def _write_dict(value: dict[Any, Any], path: Path) -> dict[str, Any]:
    _check_depth(path)
    tagged = {_write_key(key, path): _tagged(item, (*path, key)) for key, item in dict.items(value)}
    if len(tagged) == 1:
        [(key, item)] = tagged.items()
        if key.startswith("$"):
            return {f"${key}": item}
    return tagged


def _write_key(key: Any, path: Path) -> str:
    if not isinstance(key, str) or isinstance(key, Enum):
        raise CodecError(
            f"a dict with a key of type {type(key).__qualname__} can't be stored; use str keys", path
        )
    return _write_str(key, (*path, key))


def _check_depth(path: Path) -> None:
    if len(path) >= MAX_DEPTH:
        raise CodecError(
            f"nested deeper than {MAX_DEPTH} levels, or it contains itself; pass flatter data", path[:3]
        )


def _write_time(value: time, path: Path) -> Any:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise CodecError("a time in a named zone can't be stored; pass a datetime", path)
    return {"$time": value.isoformat()}


def _write_decimal(value: Decimal, path: Path) -> Any:
    if not value.is_finite():
        raise CodecError(f"Decimal {value} can't be stored; use None", path)
    return {"$decimal": str(value)}


def _write_model(value: Model, path: Path) -> Any:
    label, pk, db = value._meta.label, value.pk, value._state.db
    if pk is None or db is None or value._state.adding:
        raise CodecError(f"an unsaved {label} can't be stored; save it first, or pass its data", path)
    return {"$model": [label.lower(), _tagged(pk, path), db]}


def _refuse(value: Any, path: Path) -> Any:
    raise CodecError(f"{type(value).__qualname__} can't be stored; {_remedy(value)}", path)


# In this order: an enum may be a str or an int too, a datetime is a date.
_WRITERS: tuple[tuple[type, Callable[[Any, Path], Any]], ...] = (
    (Enum, _refuse),
    (str, _write_str),
    (int, _write_int),
    (float, _write_float),
    (dict, _write_dict),
    (list, _write_list),
    (tuple, _write_list),
    (datetime, lambda value, path: {"$datetime": value.isoformat()}),
    (date, lambda value, path: {"$date": value.isoformat()}),
    (time, _write_time),
    (timedelta, lambda value, path: {"$timedelta": _write_int(value // _MICROSECOND, path)}),
    (Decimal, _write_decimal),
    (UUID, lambda value, path: {"$uuid": str(value)}),
    (Model, _write_model),
)

_REMEDIES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (Enum, "pass its .value"),
    ((bytes, bytearray, memoryview), "pass text, or the name of a file that holds the data"),
    ((set, frozenset), "pass a sorted list"),
    (QuerySet, "pass a list of primary keys"),
    (Promise, "pass str(…) of the lazy text"),
    (Mapping, "pass a dict"),
)


def _remedy(value: Any) -> str:
    for kind, remedy in _REMEDIES:
        if isinstance(value, kind):
            return remedy
    return "pass plain data, or an id by which the job can look it up"


# -- reading ---------------------------------------------------------------------------------------


def loads(text: bytes, *, fetch: bool = True) -> Any:
    """The value that :func:`dumps` made ``text`` from.

    Args:
        text: JSON in UTF-8.
        fetch: read model instances from the database. With ``False`` they stay
            :class:`ModelReference`, and nothing is asked of any database: for showing a value.

    Raises:
        InstanceMissing: the row of a model instance is gone.
        CannotOpen: it's still encrypted, since no key opened it.
        CodecError: it isn't JSON, or has a tag that this release doesn't know.
    """
    try:
        value = _stdlib_loads(text) if orjson is None else orjson.loads(text)
        # Text without a tag (nearly all text) isn't walked through.
        return _restored(value, fetch) if _TAG_MARKER in text else value
    except CodecError:
        raise
    except RecursionError as error:
        raise CodecError("stored text is nested too deeply") from error
    except ValueError as error:
        if text[:1] == SEAL:
            raise CannotOpen('it is encrypted, and no key in KUE["ENCRYPTION_KEYS"] opens it here') from None
        raise CodecError(f"stored text is not JSON ({error}): {text[:60]!r}") from error


def refers_to_models(text: bytes) -> bool:
    """True when :func:`loads` may ask a database. (A dict of several keys, the first being
    ``$model``, is taken for a reference too.)"""
    return _MODEL_MARKER in text


def _stdlib_loads(text: bytes) -> Any:
    return json.loads(text.decode(), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _restored(value: Any, fetch: bool) -> Any:
    """``value`` with its tags resolved; lists and dicts are changed in place."""
    if type(value) is list:
        for index, item in enumerate(value):
            if type(item) is dict or type(item) is list:
                value[index] = _restored(item, fetch)
    elif type(value) is dict:
        for key, item in value.items():
            if type(item) is dict or type(item) is list:
                value[key] = _restored(item, fetch)
        if len(value) == 1:
            [(key, item)] = value.items()
            if key[:1] == "$":
                return _untagged(key, item, fetch)
    return value


def _untagged(tag: str, item: Any, fetch: bool) -> Any:
    if tag[:2] == "$$":
        return {tag[1:]: item}
    read = _READERS.get(tag)
    if read is None:
        raise CodecError(f"stored text has the unknown tag {tag[:40]!r}; a newer release may have written it")
    try:
        found = read(item)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:  # AttributeError: a UUID
        raise CodecError(f"stored text has a broken {tag} value: {item!r:.80}") from error
    return found.fetch() if fetch and isinstance(found, ModelReference) else found


def _read_model(item: Any) -> ModelReference:
    label, pk, db = item
    if not isinstance(label, str) or not isinstance(db, str):
        raise TypeError("a model's label and its database are text")
    return ModelReference(label, pk, db)


_READERS: dict[str, Callable[[Any], Any]] = {
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda item: item * _MICROSECOND,
    "$decimal": Decimal,
    "$uuid": UUID,
    "$int": lambda item: int(item, 16),
    "$model": _read_model,
}
