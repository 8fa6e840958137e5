"""Exceptions as they're stored with their jobs."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from django_kue.conf import settings
from django_kue.jobs import JobError
from django_kue.redaction import without_texts

_PACKAGE = str(Path(__file__).parent)


def describe(exception: BaseException, secrets: Sequence[str] = ()) -> JobError:
    """An exception as it's stored, without ``secrets``; if its ``str()`` raises, with a placeholder."""
    kind = f"{type(exception).__module__}.{type(exception).__qualname__}"
    try:
        message = str(exception)
    except BaseException as error:  # noqa: BLE001 - even SystemExit, from inside a hostile __str__
        message = f"(its text can't be shown: {type(error).__name__})"
    try:
        frames = _own_frames(exception)
        is_bare = frames is None and exception.__cause__ is None and exception.__context__ is None
        lines = [] if is_bare else traceback.format_exception(type(exception), exception, frames)
        trace = "".join(lines)
    except BaseException as error:  # noqa: BLE001
        trace = f"(the traceback can't be shown: {type(error).__name__})"
    message, trace = without_texts(message, secrets), without_texts(trace, secrets)
    return JobError(kind, _cut(message, settings.MAX_ERROR // 4), _cut(trace, settings.MAX_ERROR))


def _own_frames(exception: BaseException) -> TracebackType | None:
    """The traceback, beginning with the job's own code."""
    trace = exception.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return trace or exception.__traceback__


def _cut(text: str, most: int) -> str:
    """Cut the middle out of a text that's too long; what can't be encoded in UTF-8 is replaced."""
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half} characters are cut here …\n{text[-half:]}"
    return text.encode(errors="replace").decode()
