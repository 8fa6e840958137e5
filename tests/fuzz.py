"""Fuzzing of what reads stored text, by atheris: ``python tests/fuzz.py READER [libFuzzer's options]``.

Whatever bytes stand in Redis, a reader gives a value or raises what its callers know. ``make audit`` runs it,
and ``tests/test_security/test_fuzz.py`` reads with the same functions.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import atheris

    sys.path.insert(0, str(Path(__file__).parents[1]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()

from django_kue import codecs, encryption, records, rows
from django_kue.rows import FOREIGN, JobError, fields_of, fields_of_outcome, log_lines_from, runs_from
from django_kue.states import State
from django_kue.store.reads import Row

KEY = "A" * 22


def read_arguments(text: bytes) -> None:
    """As a worker does; and what could be read can be written, and is the same then."""
    try:
        args, kwargs = records.decode_arguments(text, fetch=False)
    except ValueError:
        return
    if encryption.is_sealed(text) or b"$model" in text:  # a reference isn't an instance
        return
    again = records.encode_arguments(args, kwargs)
    assert repr(records.decode_arguments(again, fetch=False)) == repr((args, kwargs))


def read_record(text: bytes) -> None:
    """As lists and pages do; it never raises."""
    row = Row(KEY, State.FAILED, text, text, None, text, text, text, False)
    for state in State:
        assert fields_of("default", row._replace(state=state))["queue"] == "default"


def read_error(text: bytes) -> None:
    error = JobError.from_text(text)
    assert error is None or (str(error) and error.summary)
    log_lines_from([text], "default", KEY)
    runs_from([text], "default", KEY)


def read_outcome(text: bytes) -> None:
    try:
        fields_of_outcome(text, "default", KEY)
        codecs.loads(text, fetch=False)
    except FOREIGN:
        return


READERS: dict[str, Callable[[bytes], Any]] = {
    "arguments": read_arguments,
    "record": read_record,
    "error": read_error,
    "outcome": read_outcome,
}

if __name__ == "__main__":
    reader = READERS[sys.argv.pop(1)]
    for module in (codecs, encryption, records, rows, sys.modules[__name__]):
        for function in filter(inspect.isfunction, vars(module).values()):
            atheris.instrument_func(function)  # so that it's seen which bytes lead to new places
    atheris.Setup(sys.argv, reader)
    atheris.Fuzz()
