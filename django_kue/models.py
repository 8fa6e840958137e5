"""What Django's admin, permissions and history know of jobs: models without tables, and the outbox's table.

The rows of models without tables live in Redis and are read by ``django_kue.admin``. For everything else that
walks models (``dumpdata``, serializers, the deletion collector) they're empty: no query for them ever runs.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from django_kue.states import State

STATES = [
    (str(State.DELAYED), pgettext_lazy("state", "delayed")),
    (str(State.WAITING), pgettext_lazy("state", "waiting")),
    (str(State.ACTIVE), pgettext_lazy("state", "active")),
    (str(State.COMPLETED), pgettext_lazy("state", "completed")),
    (str(State.FAILED), pgettext_lazy("state", "failed")),
    (str(State.CANCELLED), pgettext_lazy("state", "cancelled")),
]


class NoRows(models.Manager[Any]):
    """Always empty, and never queries the database."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().none()


class InRedis(models.Model):
    """A model whose rows aren't in the database."""

    objects: ClassVar[NoRows] = NoRows()

    class Meta:
        abstract = True
        managed = False
        base_manager_name = "objects"

    def save(self, *args: Any, **kwargs: Any) -> None:
        raise ImproperlyConfigured(f"{self._meta.label} isn't in the database: there's nothing to save")

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        raise ImproperlyConfigured(f"{self._meta.label} isn't in the database: use Job.remove()")


class Dashboard(InRedis):
    """No rows at all: the dashboard's place in the admin, and the permission to see it."""

    id = models.AutoField(primary_key=True)

    class Meta(InRedis.Meta):
        default_permissions = ("view",)
        verbose_name = _("dashboard")
        verbose_name_plural = _("dashboard")

    def __str__(self) -> str:
        return str(self._meta.verbose_name)


class Job(InRedis):
    """A job in the admin's lists; ``job`` is the :class:`django_kue.Job` behind it."""

    id = models.CharField(_("ID"), max_length=63, primary_key=True)
    state = models.CharField(_("state"), max_length=9, choices=STATES)
    queue = models.CharField(_("queue"), max_length=40)
    name = models.CharField(_("function"), max_length=200)
    title = models.CharField(_("title"), max_length=200)
    at = models.DateTimeField(
        _("date"), help_text=_("when it finished, is due, was started, or was enqueued")
    )

    job: Any

    class Meta(InRedis.Meta):
        default_permissions = ("view", "change", "delete")
        permissions = (("enqueue_job", _("Can enqueue job")),)
        ordering = ("-at",)
        verbose_name = _("job")
        verbose_name_plural = _("jobs")

    def __str__(self) -> str:
        return self.title or self.id


class Queue(InRedis):
    """A queue in the admin's list; ``overview`` holds its numbers."""

    name = models.CharField(_("name"), max_length=40, primary_key=True)

    overview: Any

    class Meta(InRedis.Meta):
        default_permissions = ("view", "change", "delete")
        ordering = ("name",)
        verbose_name = _("queue")
        verbose_name_plural = _("queues")

    def __str__(self) -> str:
        return self.name


class Worker(InRedis):
    """A worker in the admin's list; ``worker`` is the :class:`django_kue.workers.Worker` behind it."""

    id = models.CharField(_("ID"), max_length=200, primary_key=True)

    worker: Any

    class Meta(InRedis.Meta):
        default_permissions = ("view", "change")
        ordering = ("id",)
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return self.id


class Schedule(InRedis):
    """A schedule in the admin's list; ``schedule`` is the ``django_kue.schedules.Schedule`` behind it."""

    name = models.CharField(_("name"), max_length=200, primary_key=True)

    schedule: Any

    class Meta(InRedis.Meta):
        permissions = (("run_schedule", _("Can run schedule now")),)
        ordering = ("name",)
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")

    def __str__(self) -> str:
        return self.name


class UtcNow(Now):
    """The database's time. MySQL and MariaDB store a time without its zone, and each session has its own;
    there it's UTC, so that no other session and no clock change makes a row look older or younger."""

    def as_mysql(self, compiler: Any, connection: Any, **extra_context: Any) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra_context)


class Outbox(models.Model):
    """A job on its way from a transaction to Redis, see ``django_kue.outbox``. Times are the database's."""

    id = models.BigAutoField(primary_key=True)
    key = models.CharField(_("key"), max_length=22)
    queue = models.CharField(_("queue"), max_length=40)
    record = models.BinaryField()
    terms = models.JSONField(default=dict)
    created_at = models.DateTimeField(_("enqueued"), db_default=UtcNow())
    attempts = models.PositiveIntegerField(_("failed tries"), default=0)
    retry_at = models.DateTimeField(null=True)
    error = models.TextField(_("error"), blank=True, default="")

    class Meta:
        default_permissions = ("view", "change", "delete")
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=["key"], name="django_kue_outbox_key"),)
        verbose_name = _("job in the outbox")
        verbose_name_plural = _("outbox")

    def __str__(self) -> str:
        return f"{self.queue}.{self.key}"
