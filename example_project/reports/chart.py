"""A bar chart drawn with Pillow alone, so that no plotting library is needed."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
WIDTH, HEIGHT = 1000, 520
LEFT, RIGHT, TOP, BOTTOM = 90, 30, 80, 50  # margins around the plot
SCALE = 2  # drawn at twice the size and shrunk: smooth edges
PAPER, INK, FAINT, BAR = "#ffffff", "#1f2933", "#dfe4ea", "#2f7d6b"


def draw_months(title: str, cents: Sequence[int]) -> bytes:
    """A PNG with a bar for each of twelve months.

    Args:
        cents: twelve amounts, January first.
    """
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    draw = ImageDraw.Draw(image)
    step = _round_step(max(cents) / 100 / 4)
    top_value = step * max(1, math.ceil(max(cents) / 100 / step))
    _text(draw, (LEFT, 24), title, 26, "la")
    for line in range(0, top_value + 1, step):
        y = _height_of(line * 100, top_value)
        _line(draw, y)
        _text(draw, (LEFT - 12, y), f"{line:,}", 15, "rm")
    slot = (WIDTH - LEFT - RIGHT) / 12
    for month, amount in enumerate(cents):
        x = LEFT + slot * month
        bar = (x + slot * 0.18, _height_of(amount, top_value), x + slot * 0.82, HEIGHT - BOTTOM)
        draw.rounded_rectangle(
            [side * SCALE for side in bar], 5 * SCALE, BAR, corners=(True, True, False, False)
        )
        _text(draw, (x + slot / 2, HEIGHT - BOTTOM + 22), MONTHS[month], 15, "mm")
    png = io.BytesIO()
    image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(png, "PNG", optimize=True)
    return png.getvalue()


def _round_step(raw: float) -> int:
    """The first of 1, 2, 5, 10, 20, 50, … that isn't below ``raw``."""
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= raw:
                return digit * power
        power *= 10


def _height_of(cents: float, top_value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * cents / 100 / top_value


def _line(draw: ImageDraw.ImageDraw, y: float) -> None:
    draw.line([LEFT * SCALE, y * SCALE, (WIDTH - RIGHT) * SCALE, y * SCALE], FAINT, SCALE)


def _text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, anchor: str) -> None:
    font = ImageFont.load_default(size * SCALE)
    draw.text((at[0] * SCALE, at[1] * SCALE), text, INK, font, anchor=anchor)
