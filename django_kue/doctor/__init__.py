"""The doctor: looks at the settings, at outboxes, Redis, the queues and the workers, and says what to do.

Findings are values, so that a command, a page or a monitor can show them as it likes.

>>> from django_kue.doctor import Level, examine
>>> [finding.what for finding in examine() if finding.level is Level.ERROR]  # doctest: +SKIP
"""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from django_kue.doctor.findings import Finding, Level
from django_kue.errors import KueError
from django_kue.overview import readable

__all__ = ["Finding", "Level", "examine"]


def examine() -> list[Finding]:
    """Everything that was looked at, in the order of looking; each finding says how it is.

    When Redis can't be reached that is the last finding. Takes a few round trips, and at most
    ``KUE["ENQUEUE_TIMEOUT"]`` for each when Redis is slow.
    """
    # Who shows findings has no need of those who find them: not a worker, with the admin's pages.
    from django_kue.doctor import outboxes, project, queues, schedules, server, workers

    found = project.examine()
    if any(finding.level is Level.ERROR for finding in found):
        return found
    found += outboxes.examine()
    try:
        found += server.examine()
        seen, broken = readable()
        found += workers.examine(seen)
        found += queues.examine(seen, broken)
        found += schedules.examine(seen)
    except (KueError, ImproperlyConfigured) as error:
        found.append(server.unreachable(error))
    return found
