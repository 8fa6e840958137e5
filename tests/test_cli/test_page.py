"""``docs/reference/command-line.md`` tells of everything that there is."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from django_kue import doctor
from django_kue.management.commands import runworker
from django_kue.management.commands.kue import SUBCOMMANDS
from tests.test_cli.hands import ROOT

PAGE = (ROOT / "docs/reference/command-line.md").read_text("utf-8")


def test_the_page_has_every_command_and_every_option() -> None:
    missing = []
    for subcommand in SUBCOMMANDS.values():
        parser = argparse.ArgumentParser(add_help=False)
        subcommand.add_arguments(parser)
        flags = [flag for action in parser._actions for flag in action.option_strings[:1]]
        missing += [word for word in (f"`{subcommand.name}", *flags) if word not in PAGE]
    assert missing == []


def test_the_workers_page_says_what_the_command_says_of_its_options():
    page = (ROOT / "docs/reference/runworker.md").read_text("utf-8")
    parser = argparse.ArgumentParser(add_help=False)
    runworker.Command().add_arguments(parser)
    rows = [f"| `{_usage(action)}` | {action.help} |" for action in parser._actions]

    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


def _usage(action: argparse.Action) -> str:
    takes_none = action.nargs == 0
    return " ".join(
        [action.option_strings[0], *([] if takes_none else [action.metavar or action.dest.upper()])]
    )


def test_the_page_has_every_finding() -> None:
    rooms = Path(doctor.__file__).parent.glob("*.py")
    source = "".join(room.read_text("utf-8") for room in rooms)
    codes = set(re.findall(r'"((?:settings|outbox|redis|worker|queue|schedule|job)\.[a-z_]+)"', source))
    assert len(codes) > 15
    assert [code for code in sorted(codes) if f"`{code}`" not in PAGE] == []
