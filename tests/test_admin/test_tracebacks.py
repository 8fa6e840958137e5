"""Own frames stand out in every traceback, and no text is lost or trusted."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_kue import codecs
from django_kue.admin.tracebacks import Part, is_own, parse


def frames(text: str) -> list[Part]:
    return [part for part in parse(text) if part.is_frame]


def traceback_of(function: Callable[[], object]) -> str:
    try:
        function()
    except BaseException:
        return traceback.format_exc()
    raise AssertionError("it didn't raise")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("/srv/shop/orders/jobs.py", True),
        ("/home/me/library/python/jobs.py", True),
        ("jobs.py", True),
        (r"C:\shop\jobs.py", True),
        ("/srv/shop/.venv/lib/python3.12/site-packages/stripe/api.py", False),
        ("/usr/lib/python3/dist-packages/requests/api.py", False),
        ("/usr/lib/python3.13/json/decoder.py", False),
        ("/opt/python/lib/python3.14t/asyncio/tasks.py", False),
        (r"C:\Python312\Lib\json\decoder.py", False),
        (r"C:\shop\venv\Lib\site-packages\stripe\api.py", False),
        ("<frozen importlib._bootstrap>", False),
        ("<string>", False),
        (json.__file__, False),
        (codecs.__file__, False),
    ],
)
def test_a_file_is_the_projects_when_it_is_neither_installed_nor_pythons(file: str, expected: bool) -> None:
    assert is_own(file) is expected


def test_frames_of_the_project_are_told_from_those_of_libraries() -> None:
    text = traceback_of(lambda: json.loads("{"))
    owned = [part.is_own for part in frames(text)]
    assert owned[:2] == [True, True]
    assert len(owned) > 3
    assert not any(owned[2:])


def test_a_frame_holds_its_code_and_the_marks_below_it() -> None:
    [part] = frames(
        "Traceback (most recent call last):\n"
        '  File "/srv/shop/jobs.py", line 3, in pay\n'
        "    bank.charge(card)\n"
        "    ~~~~~~~~~~~^^^^^^\n"
        "ValueError: no\n"
    )
    assert part.text.endswith("^^^^^^\n")


def test_a_repeated_frame_holds_the_count_of_its_repetitions() -> None:
    def dive() -> None:
        dive()

    text = traceback_of(dive)
    assert any("[Previous line repeated" in part.text for part in frames(text))


def test_chained_exceptions_all_have_their_frames() -> None:
    def fail() -> None:
        try:
            json.loads("{")
        except ValueError as error:
            raise LookupError("no order") from error

    text = traceback_of(fail)
    between = [part.text for part in parse(text) if not part.is_frame]
    assert len(between) == 3
    assert "direct cause" in between[1]


def test_the_frames_inside_exception_groups_are_found() -> None:
    def fail() -> None:
        errors = []
        try:
            json.loads("{")
        except ValueError as error:
            errors.append(error)
        raise ExceptionGroup("several", errors)

    inner = [part for part in frames(traceback_of(fail)) if "|     " in part.text]
    assert [inner[0].is_own, inner[-1].is_own] == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no traceback at all",
        '  File "',
        '  File "/srv/jobs.py", line',
        '  File "/srv/jobs.py", line 12, in pay',
        '  File "<script>alert(1)</script>", line 1, in <b>\n    </pre>\n',
        'Traceback\n… 4711 characters are cut here …\n  File "/srv/a.py", line 1\r\nE: \x00\u2028 \x85',
    ],
)
def test_cut_and_hostile_text_stays_as_it_is(text: str) -> None:
    assert "".join(part.text for part in parse(text)) == text


@given(st.lists(st.sampled_from(['  File "/a.py", line 1, in f', "    code", "  | ", "E", "\n", "\r", " "])))
def test_no_text_is_ever_lost(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert "".join(part.text for part in parse(text)) == text


def test_a_long_line_of_what_looks_like_a_frame_takes_no_time() -> None:
    text = "  | " * 50_000 + 'File "' + "x" * 100_000
    assert "".join(part.text for part in parse(text)) == text
