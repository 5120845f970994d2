"""Figures onto Pillow images: parts, merged outlines, masks and two-tone fills.

A fill is a plain colour or a whole image to be cut out; both go through `Image.paste`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
from PIL import Image, ImageDraw

from deft_core.demo.figures import Figure, Part
from deft_core.demo.outlines import Points, Pose

Colour = tuple[int, int, int]
Fill = Colour | Image.Image
Rng = np.random.Generator

FILL_KINDS = ("flat", "gradient", "stripes", "dots", "hatching", "watercolour", "crayon")


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The line around merged parts: colour and width in pixels."""

    colour: Colour
    width: float


def stroke(draw: ImageDraw.ImageDraw, points: Points, *, width: float, fill: Colour | int) -> None:
    """A line with round joins and ends, in pixels."""
    thick = max(1, round(width))
    draw.line(points.ravel().tolist(), fill=fill, width=thick, joint="curve")
    if thick > 3:
        for x, y in (points[0], points[-1]):
            draw.circle((float(x), float(y)), (thick - 1) / 2, fill=fill)


def draw_part(
    draw: ImageDraw.ImageDraw, part: Part, *, pose: Pose, fill: Colour | int, grow: float = 0.0
) -> None:
    """One part, grown by some pixels on every side if asked."""
    points = pose.place(part.points)
    if part.width is not None:
        stroke(draw, points, width=part.width * pose.scale + 2 * grow, fill=fill)
        return
    draw.polygon(points.ravel().tolist(), fill=fill)
    if grow > 0:
        closed = np.concatenate([points, points[:2]])
        stroke(draw, closed, width=2 * grow, fill=fill)


def figure_mask(figure: Figure, *, size: int, pose: Pose, grow: float = 0.0) -> Image.Image:
    """The figure's silhouette, white on black."""
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    for part in figure:
        draw_part(draw, part, pose=pose, fill=255, grow=grow)
    return mask


def paint_figure(
    image: Image.Image,
    figure: Figure,
    *,
    pose: Pose,
    fills: Mapping[str, Fill],
    outline: Outline | None = None,
    outlined_roles: frozenset[str] = frozenset({"body", "second", "accent", "dark"}),
) -> None:
    """Paint the figure in place; neighbouring parts of one role share one outline."""
    draw = ImageDraw.Draw(image)
    for role, group in groupby(figure, key=lambda part: part.role):
        parts = list(group)
        fill = fills[role]
        if outline is not None and role in outlined_roles:
            for part in parts:
                draw_part(draw, part, pose=pose, fill=outline.colour, grow=outline.width)
        if isinstance(fill, Image.Image):
            image.paste(fill, (0, 0), figure_mask(parts, size=image.width, pose=pose))
        else:
            for part in parts:
                draw_part(draw, part, pose=pose, fill=fill)


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    return x, y


def linear_ramp(size: int, *, angle: float) -> np.ndarray:
    """Distance along a direction (degrees) on a square canvas, 0 at its middle; shape (n, n)."""
    x, y = _grid(size)
    turn = np.radians(angle)
    return np.float32(np.cos(turn)) * x + np.float32(np.sin(turn)) * y


def radial_ramp(size: int, *, cx: float = 0.0, cy: float = 0.0) -> np.ndarray:
    """Distance from a point (canvas widths from the middle); shape (n, n)."""
    x, y = _grid(size)
    return np.hypot(x - np.float32(cx), y - np.float32(cy))


def mask_of(level: np.ndarray) -> Image.Image:
    """Levels 0..1 as a grey image."""
    return Image.fromarray((np.clip(level, 0, 1) * 255).astype(np.uint8))


def cloudy(rng: Rng, size: int, *, cells: int) -> Image.Image:
    """Soft random blotches of about size / cells pixels, as a grey image."""
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    return coarse.resize((size, size), Image.Resampling.BICUBIC)


def two_tone(mask: Image.Image, light: Colour, dark: Colour) -> Image.Image:
    """`light` where the mask is white, `dark` where it is black."""
    return Image.composite(
        Image.new("RGB", mask.size, light), Image.new("RGB", mask.size, dark), mask
    )


def shaded(colour: Colour, amount: float) -> Colour:
    """The colour mixed towards white (amount > 0) or towards black (amount < 0)."""
    goal = 255 if amount > 0 else 0
    r, g, b = (round(c + (goal - c) * abs(amount)) for c in colour)
    return (r, g, b)


def pattern_mask(rng: Rng, kind: str, *, size: int, period: float) -> Image.Image:
    """The grey pattern of a fill kind other than "flat"; `period` is a share of the canvas."""
    angle = float(rng.uniform(0, 180))
    if kind == "gradient":
        return mask_of(0.5 + rng.choice([-1.6, 1.6]) * linear_ramp(size, angle=angle))
    if kind == "stripes":
        phase = linear_ramp(size, angle=angle) / period
        return mask_of((np.abs(phase % 1 - 0.5) * 4 - 1) * period * size * 0.25 + 0.5)
    if kind == "dots":
        u = linear_ramp(size, angle=angle) / period
        v = linear_ramp(size, angle=angle + 90) / period
        away = np.hypot(u % 1 - 0.5, v % 1 - 0.5)
        return mask_of((away - rng.uniform(0.2, 0.33)) * period * size + 0.5)
    if kind == "hatching":
        phase = linear_ramp(size, angle=angle) / (period * 0.45)
        wobble = np.asarray(cloudy(rng, size, cells=24), dtype=np.float32) / 255
        return mask_of((np.abs(phase % 1 - 0.5) * 2 - 0.25 - 0.2 * wobble) * 6)
    if kind == "watercolour":
        return Image.blend(cloudy(rng, size, cells=6), cloudy(rng, size, cells=40), 0.35)
    if kind == "crayon":
        wide = size * 3 // 2
        grain = Image.fromarray(rng.integers(0, 256, (wide // 2, wide // 12), dtype=np.uint8))
        scratch = grain.resize((wide, wide), Image.Resampling.BILINEAR).rotate(angle)
        edge = (wide - size) // 2
        return scratch.crop((edge, edge, edge + size, edge + size))
    raise AssertionError(f"no fill kind {kind!r}")


def make_fill(
    rng: Rng, kind: str, *, size: int, colour: Colour, other: Colour | None = None
) -> Fill:
    """A fill of this kind in the colour, patterned with `other` or a shade of the colour."""
    if kind == "flat":
        return colour
    spread = {"gradient": 0.4, "watercolour": 0.45, "crayon": 0.35, "hatching": 0.5}.get(kind, 0.3)
    second = other or shaded(colour, spread if wants_light(colour) else -spread)
    mask = pattern_mask(rng, kind, size=size, period=float(rng.uniform(0.045, 0.085)))
    return two_tone(mask, colour, second)


def wants_light(colour: Colour) -> bool:
    """Whether a second tone should be lighter than the colour."""
    return sum(colour) < 400


def distance(one: Colour, other: Colour) -> float:
    """How different two colours look, 0 to about 765 (the "redmean" formula)."""
    r, g, b = (a - c for a, c in zip(one, other, strict=True))
    red = (one[0] + other[0]) / 2
    return float(((2 + red / 256) * r * r + 4 * g * g + (2 + (255 - red) / 256) * b * b) ** 0.5)


def jittered(rng: Rng, colour: Colour, *, amount: float = 12.0) -> Colour:
    """The colour with a little noise on each channel."""
    r, g, b = (int(np.clip(c + rng.normal(0, amount), 0, 255)) for c in colour)
    return (r, g, b)
