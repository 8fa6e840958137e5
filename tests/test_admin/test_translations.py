"""The languages that are shipped: every text of the package is translated, and placeholders are kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import polib
import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import translation

import django_kue

PACKAGE = Path(django_kue.__file__).parent
LANGUAGES = ("de", "es", "fr", "zh_Hans")
PLACEHOLDER = re.compile(r"%\(\w+\)s|%[sdn]|\{\w*\}")


def catalogue(language: str) -> polib.POFile:
    return polib.pofile(str(PACKAGE / "locale" / language / "LC_MESSAGES" / "django.po"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated(language: str) -> None:
    po = catalogue(language)

    assert [entry.msgid for entry in po if not entry.translated()] == []
    assert [entry.msgid for entry in po if entry.fuzzy] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_placeholders_are_those_of_the_original(language: str) -> None:
    wrong = [
        text
        for entry in catalogue(language)
        for text in (entry.msgstr_plural.values() if entry.msgid_plural else [entry.msgstr])
        if not set(PLACEHOLDER.findall(text))
        <= set(PLACEHOLDER.findall(entry.msgid + (entry.msgid_plural or "")))
        or (
            not entry.msgid_plural and set(PLACEHOLDER.findall(text)) != set(PLACEHOLDER.findall(entry.msgid))
        )
    ]
    assert wrong == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_compiled_is_what_is_written(language: str) -> None:
    po = catalogue(language)
    mo = polib.mofile(str(PACKAGE / "locale" / language / "LC_MESSAGES" / "django.mo"))

    assert {entry.msgid_with_context: entry.msgstr for entry in mo if not entry.msgid_plural} == {
        entry.msgid_with_context: entry.msgstr for entry in po if not entry.msgid_plural
    }


@pytest.mark.skipif(
    shutil.which("xgettext") is None, reason="no gettext here: NOT TESTED whether texts are missing"
)
def test_no_text_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "django_kue"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(copy)
    call_command("makemessages", locale=["de"], no_location=True, verbosity=0)

    found = polib.pofile(str(copy / "locale/de/LC_MESSAGES/django.po"))
    assert {entry.msgid_with_context for entry in found if not entry.obsolete} == {
        entry.msgid_with_context for entry in catalogue("de")
    }


@pytest.mark.parametrize(
    ("language", "word"), [("de", "fehlgeschlagen"), ("fr", "échou"), ("es", "fallid"), ("zh-hans", "失败")]
)
def test_the_admin_speaks_it(boss: Client, language: str, word: str) -> None:
    with translation.override(translation.get_language()):  # the client leaves the request's language on
        response = boss.get(
            "/admin/django_kue/job/?state__exact=failed", headers={"accept-language": language}
        )

    assert word in response.content.decode().lower()
