"""``manage.py kue``: see and steer queues, jobs and workers. The subcommands are in ``django_kue.cli``."""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.color import no_style

from django_kue.cli import doctor, enqueue, jobs, listen, outbox, queues, schedules, show, top, verbs, workers
from django_kue.cli.screen import Screen, forgive_encoding
from django_kue.errors import KueError, StoreUnavailable
from django_kue.words import one_line

SUBCOMMANDS = {
    subcommand.name: subcommand
    for room in (queues, top, jobs, show, enqueue, verbs, listen, workers, schedules, outbox, doctor)
    for subcommand in room.SUBCOMMANDS
}


class Command(BaseCommand):
    help = "See and steer queues, jobs and workers. `manage.py kue COMMAND --help` tells you more."
    # The doctor reports what's wrong in the settings, and no command may depend on a database.
    requires_system_checks = []
    requires_migrations_checks = False

    def run_from_argv(self, argv: list[str]) -> None:
        """Without a command, list the commands."""
        super().run_from_argv(argv if len(argv) > 2 else [*argv, "--help"])

    def add_arguments(self, parser: CommandParser) -> None:
        rooms = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
        for subcommand in SUBCOMMANDS.values():
            room = rooms.add_parser(subcommand.name, help=subcommand.help, description=f"{subcommand.help}.")
            subcommand.add_arguments(room)
            _add_general_options(room)

    def handle(self, *args: Any, **options: Any) -> None:
        screen = self._screen(force_color=options["force_color"])
        try:
            code = SUBCOMMANDS[options["subcommand"]].run(screen, Namespace(**options))
            screen.flush()
        except BrokenPipeError:  # as with `kue jobs | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except KeyboardInterrupt:
            code = 130
        except StoreUnavailable as error:
            raise CommandError(
                f"{one_line(error).rstrip('.')}. manage.py kue doctor tells you more."
            ) from error
        except KueError as error:
            raise CommandError(one_line(error)) from error
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if code:
            sys.exit(code)

    def _screen(self, *, force_color: bool) -> Screen:
        forgive_encoding()
        has_color = force_color or self.stdout.isatty()
        style = self.style if has_color else no_style()
        return Screen(self.stdout, self.stderr, style, has_color=has_color)


def _add_general_options(parser: ArgumentParser) -> None:
    """Django's own options, after the subcommand as well as before it."""
    group = parser.add_argument_group("general")
    for flag in ("--traceback", "--no-color", "--force-color"):
        group.add_argument(flag, action="store_true", default=SUPPRESS, help=SUPPRESS)
    for flag in ("--settings", "--pythonpath"):
        group.add_argument(flag, default=SUPPRESS, help=SUPPRESS)
    group.add_argument("-v", "--verbosity", type=int, choices=range(4), default=SUPPRESS, help=SUPPRESS)
