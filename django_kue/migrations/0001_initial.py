"""Gives the admin's models their content types and permissions. There are no tables in it."""

from __future__ import annotations

from django.db import migrations, models

IN_REDIS = {"managed": False, "base_manager_name": "objects", "abstract": False}


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Dashboard",
            fields=[("id", models.AutoField(primary_key=True))],
            options={
                **IN_REDIS,
                "default_permissions": ("view",),
                "verbose_name": "dashboard",
                "verbose_name_plural": "dashboard",
            },
        ),
        migrations.CreateModel(
            name="Job",
            fields=[("id", models.CharField(max_length=63, primary_key=True, verbose_name="ID"))],
            options={
                **IN_REDIS,
                "default_permissions": ("view", "change", "delete"),
                "permissions": (("enqueue_job", "Can enqueue job"),),
                "ordering": ("-at",),
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
            },
        ),
        migrations.CreateModel(
            name="Queue",
            fields=[("name", models.CharField(max_length=40, primary_key=True, verbose_name="name"))],
            options={
                **IN_REDIS,
                "default_permissions": ("view", "change", "delete"),
                "ordering": ("name",),
                "verbose_name": "queue",
                "verbose_name_plural": "queues",
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[("id", models.CharField(max_length=200, primary_key=True, verbose_name="ID"))],
            options={
                **IN_REDIS,
                "default_permissions": ("view", "change"),
                "ordering": ("id",),
                "verbose_name": "worker",
                "verbose_name_plural": "workers",
            },
        ),
    ]
