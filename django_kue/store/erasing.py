"""Erasing what tests leave behind under their own prefix. Apart from an audit, nothing else scans keys."""

from __future__ import annotations

import re

from django_kue.conf import settings
from django_kue.errors import KueError
from django_kue.store import transport

TESTS = re.compile(r"kue-test-[0-9a-f]+")  # without any character that's special in SCAN's MATCH


def erase_tests_keys() -> int:
    """Remove all keys under a test's prefix from one server; returns how many.

    Raises:
        KueError: ``KUE["PREFIX"]`` isn't a test's.
    """
    prefix = settings.PREFIX
    if not TESTS.fullmatch(prefix):
        raise KueError(f"keys under {prefix!r} aren't a test's, and are left alone")
    link = transport.borrow()
    try:
        gone = 0
        for pattern in (f"{prefix}:*", f"{{{prefix}}}:*"):
            cursor = b"0"
            while True:
                cursor, keys = link.command(b"SCAN", cursor, b"MATCH", pattern.encode(), b"COUNT", b"1000")
                if keys:
                    gone += link.command(b"DEL", *keys)
                if cursor == b"0":
                    break
        return gone
    finally:
        transport.give_back(link)
