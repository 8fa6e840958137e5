"""How times, durations, sizes and states are said on the admin's pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal

import pytest
from django.template import Context, Engine
from django.test import override_settings
from django.utils import timezone, translation

from django_kue.templatetags import kue

ENGINE = Engine(libraries={"kue": "django_kue.templatetags.kue"})
NOW = datetime(2031, 5, 1, 9, 30, 4, tzinfo=UTC)


class Standing(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return NOW.astimezone(tz)


def rendered(text: str, **context: object) -> str:
    return ENGINE.from_string("{% load kue %}" + text).render(Context(context))


def before(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0, "0 ms"),
        (0.0124, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (184, "3 min 4 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (7500, "2 h 5 min"),
        (86_399, "1 d"),
        (100_000, "1 d 4 h"),
        (200 * 86_400, "200 d"),
        (-2.5, "−2.5 s"),
        (timedelta(minutes=2), "2 min"),
    ],
)
def test_a_duration_has_the_units_that_people_think_in(seconds: float, words: str) -> None:
    assert kue.duration(seconds) == words


def test_a_duration_has_the_languages_own_decimal_mark() -> None:
    with translation.override("de"):
        assert kue.duration(1.25) == "1,2 s"


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (before(seconds=0.2), "now"),
        (before(seconds=5.5), "5 s ago"),
        (before(minutes=3, seconds=30), "3 min ago"),
        (before(hours=2, minutes=5), "2 h ago"),
        (before(days=40, hours=1), "40 d ago"),
        (before(minutes=-10, seconds=-30), "in 10 min"),
    ],
)
def test_a_moment_is_said_from_now(moment: datetime, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kue, "datetime", Standing)
    assert f">{words}</time>" in kue.ago(moment)


def test_a_moment_tells_machines_and_tooltips_the_date() -> None:
    with timezone.override("Europe/Berlin"):
        text = rendered("{{ moment|ago }}", moment=NOW)
    assert '<time datetime="2031-05-01T09:30:04+00:00" title="May 1, 2031, 11:30:04 CEST">' in text
    with timezone.override("Europe/Berlin"):
        assert rendered("{{ moment|clock }}", moment=NOW).endswith(">May 1, 2031, 11:30:04 CEST</time>")


def test_no_moment_is_a_dash() -> None:
    assert rendered("{{ moment|ago }} {{ moment|clock }} {{ moment|bytes }}", moment=None) == "– – –"


def test_a_size_is_in_the_unit_that_fits() -> None:
    assert rendered("{{ 1536|bytes }}") == "1.5\xa0KB"


def test_a_state_is_a_coloured_word() -> None:
    assert rendered("{{ 'failed'|badge }}") == '<span class="kue-badge kue-failed">failed</span>'


def test_a_state_that_is_no_state_is_escaped() -> None:
    assert "<script>" not in rendered("{{ state|badge }}", state='"><script>')


def test_json_is_readable_and_escaped() -> None:
    value = {"name": "Zoë </pre><script>", "price": Decimal("1.50")}
    text = rendered("{{ value|as_json }}", value=value)
    assert "Zoë &lt;/pre&gt;&lt;script&gt;" in text
    assert "\n  &quot;price&quot;: &quot;1.50&quot;\n" in text


@override_settings(USE_THOUSAND_SEPARATOR=True)
def test_large_numbers_of_days_have_separators_when_the_project_wants_them() -> None:
    assert kue.duration(4000 * 86_400) == "4,000 d"


def test_a_long_name_breaks_where_its_parts_end_and_nothing_in_it_is_markup() -> None:
    assert kue.breakable("shop.jobs.send_it") == "shop.<wbr>jobs.<wbr>send_<wbr>it"
    assert rendered("{{ name|breakable }}", name="<b>.x") == "&lt;b&gt;.<wbr>x"
    assert kue.breakable("...") == "..."
