"""``kue doctor --deep``: audits every key of the queues, and repairs them if asked to."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from django_kue.audit import KINDS, Fault, Findings, Group, look, mend
from django_kue.cli import arguments
from django_kue.cli.screen import Screen
from django_kue.conf import settings
from django_kue.store import ask, reads
from django_kue.words import many, one_line


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--deep", action="store_true", help="audit every key of the queues instead")
    parser.add_argument(
        "--queue",
        action="append",
        dest="queues",
        metavar="QUEUE",
        help="with --deep: only this one (repeatable)",
    )
    parser.add_argument("--repair", action="store_true", help="with --deep: repair what is found")
    arguments.add_yes(parser)


def examine(screen: Screen, options: Namespace) -> int:
    """Show what the audit found, and what a repair left; exit code 1 if something is still wrong."""
    if options.is_json and options.repair and not options.is_sure:
        raise arguments.misused(
            "--json can't ask for confirmation: manage.py kue doctor --deep --repair --json --yes"
        )
    found = [look(name) for name in _names(options)]
    broken = [one for one in found if one.fixable]
    if not options.is_json:
        for one in found:
            _say(screen, one)
    if broken and options.repair:
        found = _repaired(screen, found, options)
    if options.is_json:
        screen.json([_as_json(one) for one in found])
    else:
        _verdict(screen, found, options)
    return 1 if any(one.count for one in found) else 0


def _names(options: Namespace) -> list[str]:
    if options.queues:
        return [arguments.queue_named(name).name for name in options.queues]
    return list(dict.fromkeys([*settings.queues, *sorted(ask(reads.registry()).queues)]))


def _repaired(screen: Screen, found: list[Findings], options: Namespace) -> list[Findings]:
    total = sum(one.fixable for one in found)
    if not options.is_sure:
        screen.line()
        screen.confirm(f"This repairs {many(total, 'fault')}. No job's record is deleted.", "repaired")
    found = [mend(one.queue) if one.fixable else one for one in found]
    if not options.is_json:
        screen.line()
        screen.line(f"{many(total, 'fault')} repaired. After another audit:", "SUCCESS")
        for one in found:
            _say(screen, one)
    return found


# ── for people ──


def _say(screen: Screen, found: Findings) -> None:
    wrong = many(found.count, "fault") if found.count else "nothing is wrong"
    sign, role = ("✗", "ERROR") if found.count else ("✓", "SUCCESS")
    screen.line(f"{screen.paint(sign, role)} {found.queue}: {many(found.jobs, 'job')}, {wrong}.")
    for kind, group in found.kinds.items():
        _say_group(screen, kind, group)
    for text in found.unchecked:
        screen.line(f"  {screen.paint('!', 'WARNING')} Not checked: {one_line(text)}")


def _say_group(screen: Screen, kind: str, group: Group) -> None:
    meaning, repair = KINDS[kind]
    screen.line(f"  {screen.paint(kind, 'ERROR')} ({group.count:,}): {screen.wrapped(meaning, '    ')}")
    for fault in group.first:
        screen.line(f"    {one_line(_line(fault))}")
    if group.count > len(group.first):
        screen.line(f"    … and {group.count - len(group.first):,} more")
    screen.line(f"    → Repair: {screen.wrapped(repair, '      ')}")


def _line(fault: Fault) -> str:
    return f"{fault.name}: {fault.detail}" if fault.detail else fault.name


def _verdict(screen: Screen, found: list[Findings], options: Namespace) -> None:
    screen.line()
    total = sum(one.count for one in found)
    if not total:
        screen.line("All keys are sound.", "SUCCESS")
        return
    screen.line(f"{many(total, 'fault')}.", "ERROR")
    if any(one.fixable for one in found) and not options.repair:
        screen.line("To repair what can be repaired: manage.py kue doctor --deep --repair")


# ── for programs ──


def _as_json(found: Findings) -> dict[str, Any]:
    return {
        "queue": found.queue,
        "jobs": found.jobs,
        "faults": [
            {
                "kind": kind,
                "count": group.count,
                "meaning": KINDS[kind].meaning,
                "repair": KINDS[kind].repair,
                "first": [{"name": fault.name, "detail": fault.detail} for fault in group.first],
            }
            for kind, group in found.kinds.items()
        ],
        "unchecked": found.unchecked,
    }
