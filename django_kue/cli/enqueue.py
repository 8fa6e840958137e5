"""``kue enqueue``: enqueues a job by its function's name."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from difflib import get_close_matches
from typing import Any

from django.core.management.base import CommandError

from django_kue import registry
from django_kue.cli import arguments
from django_kue.cli.arguments import Subcommand
from django_kue.cli.jobs import as_json
from django_kue.cli.screen import Screen
from django_kue.decorators import JobFunction

OPTIONS = ("queue", "priority", "delay", "run_at", "attempts", "timeout", "expires", "keep", "title")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of a function with @job: shop.jobs.send_receipt")
    parser.add_argument("--args", type=arguments.json_list, default=[], metavar="JSON", dest="positional",
                        help="positional arguments: '[17]'")  # fmt: skip
    parser.add_argument("--kwargs", type=arguments.json_dict, default={}, metavar="JSON", dest="named",
                        help="keyword arguments: '{\"order_id\": 17}'")  # fmt: skip
    parser.add_argument("--queue", metavar="QUEUE")
    parser.add_argument(
        "--priority", type=arguments.priority, metavar="P", help="-100 to 100, or low … critical"
    )
    parser.add_argument("--delay", type=arguments.seconds, metavar="TIME", help="90 (seconds), 15m, 12h, 3d")
    parser.add_argument("--run-at", type=arguments.moment, metavar="MOMENT", help="2031-05-01T09:30")
    parser.add_argument("--attempts", type=int, metavar="N")
    parser.add_argument("--timeout", type=arguments.seconds, metavar="TIME")
    parser.add_argument("--expires", type=arguments.seconds, metavar="TIME")
    parser.add_argument(
        "--keep", type=arguments.seconds, metavar="TIME", help="how long it's kept when it's finished"
    )
    parser.add_argument("--title")
    arguments.add_json(parser)


def _enqueue(screen: Screen, options: Namespace) -> int:
    definition = _definition(options.name)
    given: Any = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    try:
        definition = definition.using(**given)
    except (TypeError, ValueError) as error:
        raise arguments.misused(str(error)) from error
    job = definition.enqueue(*options.positional, **options.named)
    if options.is_json:
        screen.json(as_json(job))
    else:
        screen.line(job.id)
    return 0


def _definition(name: str) -> JobFunction[Any, Any]:
    definition = registry.get(name)
    if definition is None:
        raise CommandError(f"There's no job function {name!r}.{_hint(name)}")
    return definition


def _hint(name: str) -> str:
    known = [function.name for function in registry.functions()]
    same_end = [full for full in known if full.rpartition(".")[2] == name.rpartition(".")[2]]
    close = same_end or get_close_matches(name, known, 1, 0.8)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    if known:
        shown = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
        return f" Known functions are {shown}."
    return " None are known: functions with @job belong in the jobs.py or tasks.py of an installed app."


SUBCOMMANDS = (
    Subcommand("enqueue", "Enqueue a job by its function's name, and print its id", _arguments, _enqueue),
)
