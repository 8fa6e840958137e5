"""``kue doctor``: shows what the doctor found."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from django_kue.cli import arguments, deep
from django_kue.cli.arguments import Subcommand
from django_kue.cli.screen import Screen
from django_kue.doctor import Finding, Level, examine
from django_kue.words import many, one_line

SIGNS = {Level.OK: "✓", Level.INFO: "i", Level.WARNING: "!", Level.ERROR: "✗"}
ROLES = {Level.OK: "SUCCESS", Level.INFO: "SQL_FIELD", Level.WARNING: "WARNING", Level.ERROR: "ERROR"}

BLIND = ("redis.unseen", "django_kue.I002")  # what Redis didn't let the doctor see


def _arguments(parser: ArgumentParser) -> None:
    arguments.add_json(parser)
    deep.add_arguments(parser)


def _doctor(screen: Screen, options: Namespace) -> int:
    if options.deep:
        return deep.examine(screen, options)
    if options.repair or options.queues:
        raise arguments.misused("--repair and --queue go with an audit: manage.py kue doctor --deep --repair")
    found = examine()
    errors = [finding for finding in found if finding.level is Level.ERROR]
    if options.is_json:
        screen.json([asdict(finding) for finding in found])
    else:
        for finding in sorted(found, key=lambda one: [*SIGNS].index(one.level), reverse=True):
            _say(screen, finding)
        warnings = sum(finding.level is Level.WARNING for finding in found)
        verdict = [many(len(errors), "error")] if errors else []
        verdict += [many(warnings, "warning")] if warnings else []
        role = ROLES[Level.ERROR if errors else Level.WARNING if warnings else Level.OK]
        screen.line()
        well = "All that can be seen is well." if any(one.code in BLIND for one in found) else "All is well."
        screen.line(f"{', '.join(verdict)}." if verdict else well, role)
    return 1 if errors else 0


def _say(screen: Screen, finding: Finding) -> None:
    """A sign and what was found; below it, after an arrow, what to do."""
    what = screen.wrapped(one_line(finding.what))
    screen.line(f"{screen.paint(SIGNS[finding.level], ROLES[finding.level])} {what}")
    if finding.remedy:
        screen.line(f"  → {screen.wrapped(one_line(finding.remedy), '    ')}")


SUBCOMMANDS = (
    Subcommand(
        "doctor",
        "Look at settings, Redis, queues and workers, and say what to do; exit code 1 on errors",
        _arguments,
        _doctor,
    ),
)
