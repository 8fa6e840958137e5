"""The outbox's table, the only one."""

from __future__ import annotations

from django.db import migrations, models

from django_kue.models import UtcNow


class Migration(migrations.Migration):
    dependencies = [("django_kue", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Outbox",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("key", models.CharField(max_length=22, verbose_name="key")),
                ("queue", models.CharField(max_length=40, verbose_name="queue")),
                ("record", models.BinaryField()),
                ("terms", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField(db_default=UtcNow(), verbose_name="enqueued")),
                ("attempts", models.PositiveIntegerField(default=0, verbose_name="failed tries")),
                ("retry_at", models.DateTimeField(null=True)),
                ("error", models.TextField(blank=True, default="", verbose_name="error")),
            ],
            options={
                "default_permissions": ("view", "change", "delete"),
                "ordering": ("id",),
                "constraints": [models.UniqueConstraint(fields=["key"], name="django_kue_outbox_key")],
                "verbose_name": "job in the outbox",
                "verbose_name_plural": "outbox",
            },
        ),
    ]
