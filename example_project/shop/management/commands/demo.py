"""``manage.py demo``: real background work on real input, while you watch."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from shop.demo.processes import DemoError
from shop.demo.screen import Screen
from shop.demo.show import run


class Command(BaseCommand):
    """See the package ``shop.demo``."""

    help = "Enqueue real jobs of all kinds, show them at work, and check the results."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="end after the summary; exit code 0 if all is well"
        )
        parser.add_argument("--port", type=int, help="the site's port (default: 8000, or a free one)")

    def handle(self, *args: Any, **options: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)  # end as Ctrl-C does: in order
        try:
            is_good = run(Screen(), once=options["once"], port=options["port"])
        except DemoError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("stopped before the end", returncode=130) from None
        sys.exit(not is_good)


def interrupt(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt
