"""Product photos, and the smaller pictures made from them."""

from __future__ import annotations

import uuid
from pathlib import PurePath

from django.db import models


def original_path(photo: Photo, filename: str) -> str:
    """Where an upload is stored: under a name that we choose, so that the customer's doesn't matter."""
    return f"photos/{photo.key}/original{PurePath(filename).suffix.lower()}"


class Photo(models.Model):
    """A picture as it was uploaded."""

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    title = models.CharField(max_length=100)
    original = models.ImageField(upload_to=original_path)
    uploaded_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.title


class Rendition(models.Model):
    """A photo in one of the sizes that the shop shows."""

    photo = models.ForeignKey(Photo, on_delete=models.CASCADE, related_name="renditions")
    size = models.CharField(max_length=10)
    file = models.FileField()
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    bytes = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["photo", "size"], name="one_rendition_a_size")]

    def __str__(self) -> str:
        return f"{self.photo} ({self.size})"
