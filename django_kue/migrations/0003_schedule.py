"""Gives the admin's schedules their content type and permissions. There's no table."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("django_kue", "0002_outbox")]

    operations = [
        migrations.CreateModel(
            name="Schedule",
            fields=[("name", models.CharField(max_length=200, primary_key=True, verbose_name="name"))],
            options={
                "managed": False,
                "base_manager_name": "objects",
                "abstract": False,
                "permissions": (("run_schedule", "Can run schedule now"),),
                "ordering": ("name",),
                "verbose_name": "schedule",
                "verbose_name_plural": "schedules",
            },
        ),
    ]
