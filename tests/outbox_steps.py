"""A project's process that dies at a step of a job's way through the outbox, for ``test_outbox_crashes.py``.

``python -m tests.outbox_steps`` loads Django and makes the tables. Then it reads the names of steps, one a
line, and forks for each: that process ends itself with SIGKILL in the middle of it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import django
from django.core.management import call_command
from django.db import connection, connections, transaction


def die(*args: Any, **kwargs: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def order(step: str, alias: str = "default") -> None:
    """What a request does: it writes a row of the project's own, and enqueues a job that leaves a mark.

    Nothing of the job is kept when it's over: the second send of it has nothing but its id to know it by.
    """
    from django.contrib.auth.models import User

    from tests.app.jobs import leave

    with transaction.atomic(using=alias):
        User.objects.using(alias).create(username=step)
        leave.using(outbox=alias, keep=0).enqueue("ran", step)
        if step == "before the commit":
            die()


def die_in(name: str, step: str, alias: str = "default") -> None:
    """Order, and die instead of a function of the outbox."""
    from django_kue import outbox

    setattr(outbox, name, die)
    order(step, alias)


def relay_and_die_in(name: str, step: str, *, is_after: bool = False) -> None:
    """A relay's process dies, before a function of the outbox or right after it."""
    from django_kue import outbox
    from django_kue.models import Outbox

    outbox.deliver = lambda *args: None
    order(step)
    real = getattr(outbox, name)
    setattr(outbox, name, lambda *args: (real(*args), die()) if is_after else die())
    row = Outbox.objects.order_by("pk").last()
    assert row is not None
    outbox.relay("default", only=[row.pk])


def relay_together() -> None:
    """Two relays at once: how many rows the second sent while the first held its own; how many are left."""
    from django_kue import outbox
    from django_kue.models import Outbox
    from tests.app.jobs import noop

    outbox.deliver = lambda *args: None
    with transaction.atomic():
        noop.using(queue="other", outbox=True).enqueue_many([()] * 600)
    outbox.YOUNG = outbox.YOUNG * 0
    outbox._DUE = outbox.Q(retry_at=None)
    holds, may_go = threading.Event(), threading.Event()
    real = outbox._send_rows

    def hold(rows: Any) -> Any:
        if threading.current_thread() is first:
            holds.set()
            may_go.wait(20)
        return real(rows)

    outbox._send_rows = hold
    first = threading.Thread(target=lambda: (outbox.relay("default"), connections.close_all()))
    first.start()
    holds.wait(20)
    second = outbox.relay("default").sent
    may_go.set()
    first.join()
    print(json.dumps([second, Outbox.objects.count()]))  # noqa: T201


def look_from_other_zones() -> None:
    """How old a fresh row is for sessions east and west of the one that wrote it, in seconds."""
    from django_kue.models import Outbox
    from django_kue.outbox import aged

    in_zone("+01:00")
    row = Outbox.objects.create(key="A" * 22, queue="other", record=b"b1|name|")
    ages = []
    for zone in ("+09:00", "-08:00"):
        in_zone(zone)
        ages.append(aged("default").get(pk=row.pk).age.total_seconds())
    row.delete()
    print(json.dumps(ages))  # noqa: T201


def in_zone(zone: str) -> None:
    """From now on the session's time is another."""
    setting = {"mysql": "SET time_zone = %s", "postgresql": "SET TIME ZONE %s"}.get(connection.vendor)
    if setting:  # SQLite has no sessions
        with connection.cursor() as cursor:
            cursor.execute(setting % f"'{zone}'")


def look() -> None:
    """How many rows are left, and who ordered."""
    from django.contrib.auth.models import User

    from django_kue.models import Outbox

    rows = sum(Outbox.objects.using(alias).count() for alias in connections)
    users = [user.username for alias in connections for user in User.objects.using(alias).all()]
    print(json.dumps([rows, users]))  # noqa: T201


STEPS: dict[str, Callable[[str], None]] = {
    "nothing happens": order,
    "before the commit": order,
    "after the commit, before the send": lambda step: die_in("submit", step),
    "after the send, before the row is deleted": lambda step: die_in("_clear", step),
    "in another database, after the commit": lambda step: die_in("submit", step, "second"),
    "relay: after the claim, before the send": lambda step: relay_and_die_in("_send_rows", step),
    "relay: after the send, before the deletion": lambda step: relay_and_die_in("_settle", step),
    "relay: after the deletion, before its commit": lambda step: relay_and_die_in(
        "_settle", step, is_after=True
    ),
}
LOOKS = {"two relays": relay_together, "look": look, "look from other zones": look_from_other_zones}


def main() -> None:
    django.setup()
    for alias in connections:
        call_command("migrate", verbosity=0, database=alias)
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        connections.close_all()
        if (pid := os.fork()) == 0:
            name = line.strip()
            if name in LOOKS:
                LOOKS[name]()
            else:
                STEPS[name](name)
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
