"""A schedule's rule in words, in each language that the admin speaks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cronsim import CronSim, CronSimError
from django.core.management import call_command
from django.test import override_settings
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from django_kue import cron_words, schedules
from django_kue.ticks import Cron, Every
from tests.app import jobs

ENGLISH = [
    ("* * * * *", "Every minute"),
    ("*/5 * * * *", "Every 5 minutes"),
    ("0,30 * * * *", "Every 30 minutes"),
    ("*/7 * * * *", "At minutes 0, 7, …, 56 of every hour"),
    ("5,35 * * * *", "At minutes 5, 35 of every hour"),
    ("0 * * * *", "Every hour"),
    ("30 * * * *", "At minute 30 of every hour"),
    ("0 */2 * * *", "Every 2 hours"),
    ("30 */2 * * *", "At minute 30 of the hours 0, 2, …, 22"),
    ("0 */6 * * *", "At 00:00, 06:00, 12:00 and 18:00 every day"),
    ("*/10 9-17 * * 1-5", "Every 10 minutes from 09:00 through 17:50 on Monday through Friday"),
    ("0 9-17 * * *", "Every hour from 09:00 through 17:00"),
    ("0-10 11 * * *", "Every minute from 11:00 through 11:10"),
    ("*/20 2,5 * * *", "Every 20 minutes in the hours 2, 5"),
    ("15,45 1-3 * * *", "At minutes 15, 45 of the hours 1–3"),
    ("0 9,17 * * sat,sun", "At 09:00 and 17:00 on Saturday and Sunday"),
    ("0 0 * * 7", "At 00:00 on Sunday"),
    ("0 0 31 * *", "At 00:00 on day 31 of the month"),
    ("0 0 1,15 * *", "At 00:00 on days 1, 15 of the month"),
    ("0 0 */2 * *", "At 00:00 on days 1, 3, …, 31 of the month"),
    ("0 0 29 2 *", "At 00:00 on February 29"),
    ("0 0 L * *", "At 00:00 on the last day of the month"),
    ("0 0 LW,15 * *", "At 00:00 on day 15 and the last weekday of the month"),
    ("0 9 * * mon#2", "At 09:00 on the second Monday of the month"),
    ("0 9 * * 5L", "At 09:00 on the last Friday of the month"),
    ("0 0 13 * fri", "At 00:00 on day 13 of the month or on Friday"),
    ("0 0 1-7 * */7", "At 00:00 on days 1–7 of the month if it’s Sunday"),
    ("0 0 1 * 0-6", "At 00:00 every day"),  # either of them: so it's each
    ("0 0 1 1,4,7,10 *", "At 00:00 on day 1 of the month in January, April, July and October"),
    ("*/5 * * jun-aug *", "Every 5 minutes in June through August"),
]


@pytest.mark.parametrize(("fields", "words"), ENGLISH)
def test_what_a_cron_expression_means_is_told(fields: str, words: str) -> None:
    assert cron_words.cron(fields) == words


@pytest.mark.parametrize(
    ("language", "fields", "words"),
    [
        ("de", "30 2 * * mon-fri", "Jeden Montag bis Freitag um 02:30 Uhr"),
        ("de", "0 0 15,L * *", "Am 15. Tag und letzten Tag des Monats um 00:00 Uhr"),
        ("de", "0 9 * 3 mon#2", "Jeden zweiten Montag im Monat um 09:00 Uhr im März"),
        ("fr", "30 2 * * mon,thu", "Chaque lundi et jeudi à 02:30"),
        ("fr", "0 0 29 2 *", "Le 29 février à 00:00"),
        ("es", "*/10 9-17 * * *", "Cada 10 minutos de 09:00 a 17:50"),
        ("es", "0 0 1 1,7 *", "El día 1 del mes a las 00:00 en enero y julio"),
        ("zh-hans", "30 2 * * mon-fri", "每星期一至星期五 02:30"),
        ("zh-hans", "0 0 L * *", "每月 最后一天 00:00"),
    ],
)
def test_in_the_readers_language(language: str, fields: str, words: str) -> None:
    with translation.override(language):
        assert cron_words.cron(fields) == words
        assert Cron(fields, "Asia/Tokyo").words == f"{words} (Asia/Tokyo)"


def test_intervals_too() -> None:
    said = {}
    for language in ("en", "de", "fr", "es", "zh-hans"):
        with translation.override(language):
            said[language] = [Every.of(seconds).words for seconds in (60, 300, 1.5)]

    assert said == {
        "en": ["Every minute", "Every 5 minutes", "Every 1.5 seconds"],
        "de": ["Jede Minute", "Alle 5 Minuten", "Alle 1,5 Sekunden"],
        "fr": ["Chaque minute", "Toutes les 5 minutes", "Toutes les 1,5 secondes"],
        "es": ["Cada minuto", "Cada 5 minutos", "Cada 1,5 segundos"],
        "zh-hans": ["每 1 分钟", "每 5 分钟", "每 1.5 秒"],
    }


WORDS = [
    "*",
    "0",
    "1",
    "5",
    "7",
    "12",
    "29",
    "31",
    "59",
    "L",
    "LW",
    "mon",
    "jan",
    "-",
    ",",
    "/",
    "#",
    "*/5",
    "1-5",
]
FIELD = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map("".join)


@given(st.lists(FIELD, min_size=5, max_size=5).map(" ".join))
def test_whatever_is_a_cron_expression_has_words(fields: str) -> None:
    try:
        CronSim(fields, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError:
        return

    assert "%(" not in cron_words.cron(fields)


def test_the_commands_speak_english_whatever_the_projects_language_is(capsys: Any) -> None:
    schedules.create("nightly", jobs.noop, cron="30 2 * * mon")
    with translation.override("de"), override_settings(LANGUAGE_CODE="de"):
        assert schedules.get("nightly").words == "Jeden Montag um 02:30 Uhr (UTC)"

        call_command("kue", "schedules")

    assert "At 02:30 on Monday" in capsys.readouterr().out
