"""What jobs may be given and give back, and how it's stored."""

import json
import math
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Group, User
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from django_kue import codecs
from django_kue.codecs import CodecError, InstanceMissing, ModelReference, dumps, loads

REAL_ORJSON = codecs.orjson
needs_orjson = pytest.mark.skipif(REAL_ORJSON is None, reason="orjson isn't installed")
LIBRARIES = [pytest.param("orjson", marks=needs_orjson), "stdlib"]


def use(library, monkeypatch):
    monkeypatch.setattr(codecs, "orjson", REAL_ORJSON if library == "orjson" else None)


@pytest.fixture(params=LIBRARIES)
def library(request, monkeypatch):
    """Every test that asks for this runs with orjson and without."""
    use(request.param, monkeypatch)
    return request.param


ROUND_TRIPS = [
    None,
    True,
    False,
    0,
    -1,
    2**53 + 1,
    -(2**63),
    2**63,
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    10**5000,  # longer than what int() reads from decimal text
    -(10**40),
    0.1,
    -0.0,
    1e300,
    5e-324,
    "",
    "naïve ✓ 🎉",
    '{"$date":"2020-01-01"}',
    "a\x00b\n\u2028",
    [],
    {},
    [[[]], {}],
    {"a": [1, {"b": None}]},
    datetime(2031, 5, 1, 9, 30, 0, 123456),
    datetime(2031, 5, 1, 9, 30, tzinfo=UTC),
    datetime(2031, 5, 1, 9, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(2031, 5, 1, 9, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime.min,
    datetime.max,
    date(2031, 5, 1),
    time(9, 30, 0, 1),
    time(9, 30, tzinfo=UTC),
    timedelta(0),
    timedelta(days=-3, microseconds=1),
    timedelta.max,
    timedelta.min,
    Decimal("19.90"),
    Decimal("-0E+5"),
    UUID("0190a5c8-0000-7000-8000-000000000001"),
    {"when": [date(2031, 5, 1), {"price": Decimal("1.5")}]},
]


@pytest.mark.parametrize("value", ROUND_TRIPS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("reader", LIBRARIES)
@pytest.mark.parametrize("writer", LIBRARIES)
def test_a_value_comes_back_equal_whichever_library_wrote_and_reads(writer, reader, value, monkeypatch):
    use(writer, monkeypatch)
    text = dumps([value])
    use(reader, monkeypatch)
    [found] = loads(text)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, float):
        assert math.copysign(1, found) == math.copysign(1, value)
    if isinstance(value, Decimal):
        assert str(found) == str(value)


def test_a_tuple_comes_back_as_a_list(library):
    assert loads(dumps((1, (2, 3)))) == [1, [2, 3]]


USER_DICTS_THAT_LOOK_LIKE_TAGS = [
    {"$date": "2031-05-01"},
    {"$$date": "2031-05-01"},
    {"$": 1},
    {"$model": ["auth.user", 1, "default"]},
    {"$unknown": {"$date": 5}},
    {"$date": "x", "other": 1},
    {"$in": [{"$$": {"$$$": date(2031, 5, 1)}}]},
]


@pytest.mark.parametrize("value", USER_DICTS_THAT_LOOK_LIKE_TAGS, ids=repr)
def test_a_users_dict_that_looks_like_a_tag_stays_a_dict(library, value):
    assert loads(dumps(value)) == value
    assert loads(dumps([{"a": value}])) == [{"a": value}]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=5) | st.sampled_from(["$date", "$$", "$int", "$"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("library", LIBRARIES)
@given(value=json_values)
def test_whatever_is_made_of_allowed_types_comes_back(library, value):
    saved = codecs.orjson
    codecs.orjson = REAL_ORJSON if library == "orjson" else None
    try:
        assert loads(dumps(value)) == value
    finally:
        codecs.orjson = saved


def test_subclasses_of_plain_types_are_stored_as_the_plain_type(library):
    class Number(int):
        pass

    class Real(float):
        pass

    Point = namedtuple("Point", "x y")
    value = [
        mark_safe("<b>"),
        Number(5),
        Real(0.5),
        OrderedDict(a=1),
        defaultdict(list, b=[2]),
        Point(1, 2),
        {mark_safe("k"): 1},
    ]
    found = loads(dumps(value))
    assert found == ["<b>", 5, 0.5, {"a": 1}, {"b": [2]}, [1, 2], {"k": 1}]
    assert [type(item) for item in found] == [str, int, float, dict, dict, list, dict]


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


@dataclass
class Box:
    size: int


REFUSED = [
    (float("nan"), "nan can't be stored"),
    (float("inf"), "inf can't be stored"),
    (Decimal("NaN"), "Decimal NaN can't be stored"),
    (Decimal("-Infinity"), "Decimal -Infinity can't be stored"),
    (b"x", "bytes can't be stored; pass text, or the name of a file"),
    (bytearray(b"x"), "bytearray can't be stored"),
    ({1}, "set can't be stored; pass a sorted list"),
    (frozenset(), "frozenset can't be stored; pass a sorted list"),
    (Colour.RED, "Colour can't be stored; pass its .value"),
    (Level.LOW, "Level can't be stored; pass its .value"),
    (Word.YES, "Word can't be stored; pass its .value"),
    (Box(1), "Box can't be stored; pass plain data, or an id"),
    (object(), "object can't be stored; pass plain data, or an id"),
    (1j, "complex can't be stored"),
    (len, "builtin_function_or_method can't be stored"),
    (User, "ModelBase can't be stored"),
    (UserDict(a=1), "UserDict can't be stored; pass a dict"),
    (gettext_lazy("lazy"), "can't be stored; pass str"),
    (time(9, tzinfo=ZoneInfo("Europe/Berlin")), "a time in a named zone can't be stored"),
    ("\ud800", "a lone surrogate"),
    ({1: 2}, "a dict with a key of type int can't be stored; use str keys"),
    ({None: 2}, "a dict with a key of type NoneType can't be stored"),
    ({10**5000: 2}, "a dict with a key of type int can't be stored"),
    ({Word.YES: 2}, "a dict with a key of type Word can't be stored"),
    (User(username="new"), "an unsaved auth.User can't be stored; save it first"),
    (User.objects.none(), "QuerySet can't be stored; pass a list of primary keys"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=lambda value: f"{type(value).__name__}")
def test_what_cannot_be_stored_is_refused_with_its_path_and_a_remedy(library, value, message):
    with pytest.raises(CodecError) as caught:
        dumps({"order": [0, {"items": value}]})
    assert message in caught.value.reason
    assert caught.value.path == ("order", 1, "items")
    assert str(caught.value) == f"value['order'][1]['items']: {caught.value.reason}"


def test_a_key_with_a_lone_surrogate_is_refused(library):
    with pytest.raises(CodecError, match="lone surrogate"):
        dumps({"\udfff": 1})


def test_none_beside_nan_does_not_hide_it(library):
    with pytest.raises(CodecError, match="nan can't be stored"):
        dumps([None, {"a": [None, float("nan")]}])


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_nesting_is_allowed_up_to_the_limit_and_refused_beyond(library):
    assert loads(dumps(nested(codecs.MAX_DEPTH))) == nested(codecs.MAX_DEPTH)
    for depth in (codecs.MAX_DEPTH + 1, 100_000):
        with pytest.raises(CodecError, match="nested deeper than 200 levels"):
            dumps(nested(depth))


def test_tagged_values_are_allowed_at_the_deepest_level(library):
    value = nested(codecs.MAX_DEPTH)
    innermost = value
    while innermost:
        innermost = innermost[0]
    innermost.append(date(2031, 5, 1))
    assert loads(dumps(value)) == value


def test_a_structure_that_contains_itself_is_refused(library):
    loop = {"a": 1}
    loop["self"] = [loop, loop, loop]
    with pytest.raises(CodecError, match="or it contains itself"):
        dumps(loop)


def test_text_without_a_tag_is_not_walked_through(library, monkeypatch):
    def explode(*args):
        raise AssertionError("walked")

    monkeypatch.setattr(codecs, "_restored", explode)
    assert loads(dumps([{"price": "$5", "list": [1, "{$"]}])) == [{"price": "$5", "list": [1, "{$"]}]
    with pytest.raises(AssertionError, match="walked"):
        loads(dumps(date(2031, 5, 1)))


@needs_orjson
def test_plain_values_are_not_rebuilt_before_orjson_writes_them(monkeypatch):
    def explode(*args):
        raise AssertionError("rebuilt")

    monkeypatch.setattr(codecs, "_tagged", explode)
    assert dumps([17, {"a": [None, 0.5, True], "b": ("x",)}]) == b'[17,{"a":[null,0.5,true],"b":["x"]}]'


BROKEN = [
    b"",
    b"{",
    b"nope",
    b"NaN",
    b"[Infinity]",
    b"\xff\xfe",
    b"\x80\x04K\x05.",  # a pickle
    b'{"$date":5}',
    b'{"$date":"yesterday"}',
    b'{"$datetime":null}',
    b'{"$decimal":"x"}',
    b'{"$decimal":{}}',
    b'{"$uuid":"x"}',
    b'{"$int":"zz"}',
    b'{"$int":7}',
    b'{"$timedelta":"1"}',
    b'{"$timedelta":1e300}',
    b'{"$model":"auth.user"}',
    b'{"$model":["auth.user",1]}',
    b'{"$model":[["auth.user"],1,"default"]}',
    b'{"$model":["auth.user",1,{}]}',
    b'{"$model":["os.system",1,"default"]}',
    b'{"$model":["auth",1,"default"]}',
    b'{"$model":["auth.user",1,"elsewhere"]}',
    b'{"$newer":1}',
]


@pytest.mark.parametrize("text", BROKEN, ids=repr)
def test_text_that_cannot_be_read_raises_a_codec_error_and_nothing_else(library, text):
    with pytest.raises(CodecError):
        loads(text)


@pytest.mark.parametrize(
    "text", [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 900 + b'{"$date":"2031-05-01"}' + b"}" * 900]
)
def test_text_that_is_nested_too_deeply_does_not_crash_the_reader(library, text):
    try:
        loads(text)
    except CodecError:
        return
    assert len(text) < 100_000  # only what the stack really holds may pass


@needs_orjson
def test_canonical_text_is_the_same_with_and_without_orjson_and_for_any_order_of_keys(monkeypatch):
    values = [{"b": 1.0, "a": [1e16, "ü", date(2031, 5, 1)]}, {"a": [1e16, "ü", date(2031, 5, 1)], "b": 1.0}]
    texts = set()
    for library in ("orjson", "stdlib"):
        use(library, monkeypatch)
        texts |= {codecs.canonical(value) for value in values}
    assert texts == {'{"a":[1e+16,"ü",{"$date":"2031-05-01"}],"b":1.0}'.encode()}


# -- model instances -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_model_instance_is_stored_as_a_reference_and_read_again(library):
    user = User.objects.create(username="ada")
    text = dumps({"user": user})
    assert json.loads(text) == {"user": {"$model": ["auth.user", user.pk, "default"]}}
    User.objects.update(username="grace")
    found = loads(text)["user"]
    assert (found, found.username) == (user, "grace")


@pytest.mark.django_db
def test_a_lazy_request_user_is_stored_as_the_user(library):
    user = User.objects.create(username="ada")
    assert loads(dumps(SimpleLazyObject(lambda: user))) == user


@pytest.mark.django_db
def test_a_missing_row_is_told_clearly(library):
    group = Group.objects.create(name="staff")
    text = dumps([group])
    pk = group.pk
    group.delete()
    with pytest.raises(
        InstanceMissing, match=rf"auth.Group with primary key {pk} isn't in database 'default'"
    ):
        loads(text)


@pytest.mark.django_db
def test_a_primary_key_of_the_wrong_type_is_a_codec_error(library):
    with pytest.raises(CodecError, match=r"can't be a primary key of auth\.User"):
        loads(b'{"$model":["auth.user","x","default"]}')


@pytest.mark.django_db
def test_a_deleted_instance_is_refused_when_stored(library):
    user = User.objects.create(username="ada")
    user.delete()
    with pytest.raises(CodecError, match=r"unsaved auth\.User"):
        dumps(user)


def test_references_can_be_shown_without_a_database(library):
    text = b'[{"$model":["auth.user",17,"default"]},{"$date":"2031-05-01"}]'
    assert loads(text, fetch=False) == [ModelReference("auth.user", 17, "default"), date(2031, 5, 1)]


def test_it_can_be_told_from_the_text_whether_a_database_is_needed(library):
    pk = uuid4()
    assert codecs.refers_to_models(b'[{"$model":["auth.user",17,"default"]}]')
    assert not codecs.refers_to_models(dumps([pk, {"$model": 1}, {"b": "$model"}, '{"$model":']))
