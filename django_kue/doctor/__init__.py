"""The doctor: looks at the settings, at outboxes, Redis, the queues and the workers, and says what to do.

Findings are values, so that a command, a page or a monitor can show them as it likes.

>>> from django_kue.doctor import Level, examine
>>> [finding.what for finding in examine() if finding.level is Level.ERROR]
[]
"""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from django_kue.doctor.findings import Finding, Level
from django_kue.errors import KueError
from django_kue.overview import readable

__all__ = ["Finding", "Level", "examine"]


def examine() -> list[Finding]:
    """All findings, good ones too, in the order in which things are examined.

    If Redis can't be reached, that's the last finding. Takes a few round trips, and at most
    ``KUE["ENQUEUE_TIMEOUT"]`` for each when Redis is slow.
    """
    # Imported here: whoever only shows findings, such as a worker with the admin's pages, doesn't need these.
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
