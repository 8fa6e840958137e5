"""What the demo's jobs work on: a database, sales, photos, a clip, and people."""

from __future__ import annotations

import fcntl
import io
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.management import call_command
from django_kue import embedded, queues
from PIL import Image, ImageDraw, ImageFont, ImageOps

from images.models import Photo
from reports.models import Sale
from shop.demo.processes import DemoError
from video.ffmpeg import film
from video.models import Clip

SALES = {2024: 12_000, 2025: 52_000}  # year: rows
PRODUCTS = {"Green tea": 690, "Black tea": 590, "Tea pot": 3490, "Cup": 890, "Strainer": 490, "Biscuits": 390}
PHOTOS = 8
PHOTO_SIZE = (1600, 1200)
CLIP_SECONDS = 4
LOGIN = "demo"  # name and password


@contextmanager
def own_folder() -> Iterator[None]:
    """Lock the demo's folder, and remove what an earlier demo left there.

    Raises:
        DemoError: another demo has locked it.
    """
    folder = settings.BASE_DIR
    with (folder / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(
                f"Another demo is running in {folder}. Stop it, or set SHOP_VAR to another folder."
            ) from None
        embedded.stop(embedded.project_folder())  # left by a demo that was killed
        for leftovers in (embedded.project_folder(), settings.MEDIA_ROOT):
            shutil.rmtree(leftovers, ignore_errors=True)
        for leftover in [*folder.glob("shop.sqlite3*"), *folder.glob("*.log")]:
            leftover.unlink()
        yield


def empty_queues() -> None:
    """Remove what an earlier demo left in a Redis that isn't ours to wipe."""
    for queue in queues():
        queue.resume()
        queue.empty()
        for state in ("completed", "failed", "cancelled"):
            queue.clean(state, older_than=0)
        for job in queue.jobs("active", limit=1000):
            job.remove()


def make_database() -> None:
    """Tables, and a login for the admin."""
    call_command("migrate", verbosity=0, interactive=False)
    User.objects.create_superuser(LOGIN, "demo@shop.example", LOGIN)


def make_sales() -> int:
    """Two years of sales, with more of them towards Christmas. Returns how many."""
    dice = random.Random(7)
    names = list(PRODUCTS)
    rows = []
    for year, count in SALES.items():
        for _ in range(count):
            product, quantity = dice.choice(names), dice.randint(1, 4)
            day = date(year, 1, 1) + timedelta(days=max(dice.randrange(365), dice.randrange(250)))
            rows.append(
                Sale(
                    sold_on=day, product=product, quantity=quantity, amount_cents=quantity * PRODUCTS[product]
                )
            )
    Sale.objects.bulk_create(rows, batch_size=5000)
    return len(rows)


def make_photos() -> list[Photo]:
    """Pictures like a camera's: large, with noise, most of them JPEG, some PNG."""
    return [
        Photo.objects.create(title=f"Product {number}", original=ContentFile(*photograph(number)))
        for number in range(1, PHOTOS + 1)
    ]


def make_broken_photo() -> Photo:
    """A file that only claims to be a picture."""
    return Photo.objects.create(
        title="Broken", original=ContentFile(b"not a picture at all " * 500, "broken.jpg")
    )


def photograph(number: int) -> tuple[bytes, str]:
    """One picture: its bytes and its file name."""
    dice = random.Random(number)
    light, dark = (f"hsl({(number * 47) % 360}, 55%, {lightness}%)" for lightness in (78, 28))
    picture = ImageOps.colorize(Image.radial_gradient("L").resize(PHOTO_SIZE), light, dark)
    is_png = number % 4 == 0
    if not is_png:
        noise = Image.effect_noise(PHOTO_SIZE, 60).convert("RGB")
        picture = Image.blend(picture, noise, 0.12)
    draw = ImageDraw.Draw(picture)
    for _ in range(5):
        x, y, size = dice.randrange(1300), dice.randrange(900), dice.randrange(90, 280)
        draw.ellipse((x, y, x + size, y + size), outline="white", width=6)
    draw.text((80, 1040), f"Product {number}", "white", ImageFont.load_default(90))
    data = io.BytesIO()
    if is_png:
        picture.save(data, "PNG")
    else:
        picture.save(data, "JPEG", quality=92)
    return data.getvalue(), f"product-{number}.{'png' if is_png else 'jpg'}"


def make_clip() -> Clip:
    """A few seconds of video with sound."""
    source = Path(settings.MEDIA_ROOT) / "clips" / "source.mp4"
    source.parent.mkdir(parents=True, exist_ok=True)
    film(source, CLIP_SECONDS)
    return Clip.objects.create(title="The new tea pot", source="clips/source.mp4", seconds=CLIP_SECONDS)


def make_customers(count: int) -> list[User]:
    """People who will forget their passwords."""
    return [
        User.objects.create_user(f"customer{number}", f"customer{number}@people.example")
        for number in range(1, count + 1)
    ]
