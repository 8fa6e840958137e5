"""Product photos: CPU-bound work in steps, with progress and a log that staff can read.

A worker runs several processes, so that photos use all cores.
"""

from __future__ import annotations

import io
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django_kue import current_job, job
from PIL import Image, ImageOps, UnidentifiedImageError

from images.models import Photo, Rendition

SIZES = {"large": 1200, "medium": 640, "small": 240}  # name: the longer side in pixels
JPEG_QUALITY = 82


# discard_on: a file that isn't a picture won't become one by trying again.
@job(
    queue="images",
    attempts=2,
    title="Photo {photo_id}",
    discard_on=(UnidentifiedImageError, Image.DecompressionBombError),
)
def make_sizes(photo_id: int) -> dict[str, Any]:
    """Make a photo's three sizes. Returns ``{"files": {size: URL}}``, which the shop's page shows."""
    run = current_job()
    photo = Photo.objects.get(pk=photo_id)
    with photo.original.open() as source, Image.open(source) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    run.log("%s: %d × %d pixels, %d kB", photo.title, *picture.size, photo.original.size // 1000)

    files = {}
    for done, (size, longest) in enumerate(SIZES.items()):
        # `progress` and `log` cost the job nothing: they're sent by another thread, many at a time.
        run.progress(done, len(SIZES), {"making": size})
        rendition = make_rendition(photo, picture, size, longest)
        run.log("%s: %d × %d, %d kB", size, rendition.width, rendition.height, rendition.bytes // 1000)
        files[size] = rendition.file.url
    run.progress(len(SIZES), len(SIZES))
    return {"files": files}


def make_rendition(photo: Photo, picture: Image.Image, size: str, longest: int) -> Rendition:
    """Shrink, compress and store one size.

    Running it twice leaves one file and one row: the name is always the same, and the row is updated. Jobs
    may run twice, so they should all be like this.
    """
    small = picture.copy()
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=JPEG_QUALITY, optimize=True, progressive=True)
    name = default_storage.save(f"photos/{photo.key}/{size}.jpg", ContentFile(data.getvalue()))
    rendition, _ = Rendition.objects.update_or_create(
        photo=photo,
        size=size,
        defaults={"file": name, "width": small.width, "height": small.height, "bytes": data.tell()},
    )
    return rendition
