"""Small pictures on which the demo CLIP is pre-trained: the demo's figures in quite other styles.

None of the nine styles here (chalk, neon, paper cut-out, mosaic, stamp, blueprint, crayon,
embroidery, pixels) occurs in the demo data set, whose pages are painted by `deft_core.demo`;
only the outlines are shared. The main colour is drawn independently of the class, so that a
caption can name both. `python -m tools.pretraining_pictures --sheet out.png` writes a contact
sheet.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from deft_core.demo.canvas import (
    Colour,
    Fill,
    Outline,
    cloudy,
    distance,
    draw_part,
    figure_mask,
    jittered,
    linear_ramp,
    mask_of,
    paint_figure,
    radial_ramp,
    shaded,
    stroke,
    two_tone,
)
from deft_core.demo.figures import CLASS_NAMES as DEMO_NAMES
from deft_core.demo.figures import Figure, draw_figure
from deft_core.demo.outlines import Pose, rotate, smooth
from tools.extra_figures import EXTRA_NAMES, draw_extra_figure

Rng = np.random.Generator

CLASS_NAMES: tuple[str, ...] = (*DEMO_NAMES, *EXTRA_NAMES)

_COLOURS: dict[str, Colour] = {
    "red": (208, 36, 40),
    "orange": (240, 130, 30),
    "yellow": (246, 210, 50),
    "green": (64, 150, 60),
    "teal": (20, 150, 145),
    "blue": (40, 90, 200),
    "purple": (125, 60, 165),
    "pink": (240, 120, 170),
    "brown": (125, 78, 45),
    "black": (32, 32, 36),
    "grey": (135, 138, 142),
    "white": (244, 243, 240),
}
COLOUR_NAMES: tuple[str, ...] = tuple(_COLOURS)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a style is to draw: figure, pose, main colour, canvas size, generator."""

    figure: Figure
    pose: Pose
    colour: Colour
    size: int
    rng: Rng


def draw(
    class_index: int, colour_index: int, rng: Rng, size: int = 64, *, is_easy: bool = False
) -> np.ndarray:
    """A new picture of the class in the colour, uint8 of shape (size, size, 3).

    An easy one is large, upright, whole and sharp: what a model should see first.
    """
    name = CLASS_NAMES[class_index]
    figure = draw_figure(name, rng) if name in DEMO_NAMES else draw_extra_figure(name, rng)
    canvas = 2 * size
    subject = Subject(
        figure=figure,
        pose=easy_pose(rng, canvas) if is_easy else random_pose(rng, canvas),
        colour=jittered(rng, _COLOURS[COLOUR_NAMES[colour_index]], amount=14),
        size=canvas,
        rng=rng,
    )
    style = _STYLES[int(rng.choice(len(_STYLES), p=_STYLE_SHARES))]
    image = style(subject)
    if is_easy:
        return np.asarray(image.reduce(2))
    if rng.random() < 0.3:
        add_bystanders(image, subject, name)
    if rng.random() < 0.2:
        occlude(rng, image, subject.pose)
    return finish(rng, image.reduce(2))


def easy_pose(rng: Rng, size: int) -> Pose:
    """Upright in the middle, at most mirrored."""
    x, y = 0.5 + rng.uniform(-0.05, 0.05, 2)
    return Pose(
        centre=(float(x) * size, float(y) * size),
        scale=0.5 * float(rng.uniform(0.8, 1.0)) * size,
        rotation=float(rng.normal(0, 5)),
        is_mirrored=bool(rng.random() < 0.5),
    )


def random_pose(rng: Rng, size: int) -> Pose:
    """Rotation to +-35 degrees, mirrored or not, scale 0.45 to 1, anywhere on the canvas."""
    scale = 0.5 * (rng.uniform(0.45, 1.0) if rng.random() < 0.95 else rng.uniform(0.25, 0.45))
    room = max(0.06, 0.53 - scale)
    x, y = 0.5 + rng.uniform(-room, room, 2)
    tilt = rng.uniform(-0.2, 0.2, 2) if rng.random() < 0.4 else (0.0, 0.0)
    return Pose(
        centre=(float(x) * size, float(y) * size),
        scale=float(scale) * size,
        rotation=float(np.clip(rng.normal(0, 16), -35, 35)),
        is_mirrored=bool(rng.random() < 0.5),
        shear=float(rng.uniform(-0.2, 0.2)) if rng.random() < 0.4 else 0.0,
        perspective=(float(tilt[0]), float(tilt[1])),
    )


def add_bystanders(image: Image.Image, subject: Subject, name: str) -> None:
    """One or two far smaller figures of other classes, away from the subject."""
    rng, size = subject.rng, subject.size
    others = [other for other in DEMO_NAMES if other != name]
    for _ in range(int(rng.integers(1, 3))):
        spots = rng.uniform(0.08, 0.92, (6, 2)) * size
        x, y = spots[int(np.argmax(np.hypot(*(spots - subject.pose.centre).T)))]
        scale = min(0.09 * size, 0.4 * subject.pose.scale) * rng.uniform(0.6, 1)
        pose = Pose(centre=(float(x), float(y)), scale=scale, rotation=float(rng.normal(0, 15)))
        fills: dict[str, Fill] = {
            role: random_colour(rng) for role in ("body", "second", "accent", "dark")
        }
        paint_figure(image, draw_figure(str(rng.choice(others)), rng), pose=pose, fills=fills)


def random_colour(rng: Rng, low: int = 0, high: int = 256) -> Colour:
    """Any colour with its channels between the bounds."""
    r, g, b = (int(c) for c in rng.integers(low, high, 3))
    return (r, g, b)


def unlike(rng: Rng, colours: tuple[Colour, ...], *, least: float = 190.0) -> Colour:
    """A random colour far from these ones."""
    best, widest = (0, 0, 0), -1.0
    for _ in range(12):
        colour = random_colour(rng)
        gap = min(distance(colour, other) for other in colours)
        if gap >= least:
            return colour
        if gap > widest:
            best, widest = colour, gap
    return best


def backdrop(rng: Rng, size: int, tone: Colour, *, avoid: Colour) -> Image.Image:
    """A background around a tone: plain, gradient, noise, rays, grid; often with clutter."""
    other = tone
    for _ in range(6):
        candidate = shaded(random_colour(rng), rng.uniform(-0.3, 0.5))
        if distance(candidate, avoid) > 150:
            other = candidate
            break
    kind = int(rng.integers(7))
    if kind == 0:
        image = Image.new("RGB", (size, size), tone)
    elif kind == 1:
        ramp = 0.5 + rng.uniform(0.6, 1.2) * linear_ramp(size, angle=rng.uniform(0, 360))
        image = two_tone(mask_of(ramp), tone, other)
    elif kind == 2:
        image = two_tone(cloudy(rng, size, cells=int(rng.integers(3, 24))), tone, other)
    elif kind == 3:
        cx, cy = rng.uniform(-0.5, 0.5, 2)
        image = two_tone(mask_of(1.1 - 1.4 * radial_ramp(size, cx=cx, cy=cy)), tone, other)
    elif kind == 4:
        phase = linear_ramp(size, angle=rng.uniform(0, 180)) / rng.uniform(0.05, 0.3) % 1
        mixed = tuple((a + b) // 2 for a, b in zip(tone, other, strict=True))
        image = two_tone(mask_of(np.abs(phase - 0.5) * 8 - 1.5), tone, mixed)  # type: ignore[arg-type]
    elif kind == 5:
        image = Image.new("RGB", (size, size), tone)
        edge = int(size * rng.uniform(0.3, 0.85))
        image.paste(other, (0, edge, size, size))
    else:
        speck = Image.fromarray(rng.integers(0, 256, (size // 2, size // 2), dtype=np.uint8))
        image = two_tone(speck.resize((size, size)), tone, shaded(tone, rng.uniform(-0.3, 0.3)))
    if rng.random() < 0.65:
        clutter(rng, image, avoid=avoid)
    return image


def clutter(rng: Rng, image: Image.Image, *, avoid: Colour) -> None:
    """Random polygons, lines and dots over the background."""
    brush = ImageDraw.Draw(image)
    size = image.width
    for _ in range(int(rng.integers(1, 12))):
        colour = random_colour(rng)
        if distance(colour, avoid) < 110:
            continue
        x, y = rng.uniform(0, size, 2)
        kind, reach = rng.random(), size * rng.uniform(0.02, 0.13)
        if kind < 0.4:
            angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
            shape = np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach + (x, y)
            shape = smooth(shape) if rng.random() < 0.4 else shape
            brush.polygon(shape.ravel().tolist(), fill=colour)
        elif kind < 0.75:
            line = smooth(rng.normal((x, y), reach * 1.6, (4, 2)), closed=False)
            stroke(brush, line, width=rng.uniform(1, 4), fill=colour)
        else:
            for cx, cy in rng.normal((x, y), reach * 2, (6, 2)):
                brush.circle((cx, cy), rng.uniform(1, 3), fill=colour)


def companions(subject: Subject, behind: Colour) -> dict[str, Fill]:
    """Colours by role: tints of the main colour, or free companions of it."""
    rng, body = subject.rng, subject.colour
    if rng.random() < 0.35:
        lighter, darker = shaded(body, rng.uniform(0.25, 0.6)), shaded(body, -0.5)
        return {"body": body, "second": shaded(body, rng.uniform(-0.35, 0.3)), "accent": lighter,
                "dark": darker if sum(body) > 200 else shaded(body, 0.5)}  # fmt: skip
    second = unlike(rng, (body, behind), least=130)
    accent = unlike(rng, (body,), least=190)
    dark = (25, 22, 30) if sum(body) > 240 else (238, 232, 220)
    return {"body": body, "second": second, "accent": accent, "dark": dark}


def cut_out(subject: Subject) -> Image.Image:
    """Layers of coloured paper, each with a drop shadow."""
    rng, size = subject.rng, subject.size
    tone = unlike(rng, (subject.colour,))
    image = backdrop(rng, size, tone, avoid=subject.colour)
    reach, soft = rng.uniform(1, 5), rng.uniform(0.5, 3)
    shadow = figure_mask(subject.figure, size=size, pose=subject.pose, grow=1)
    shadow = ImageChops.offset(shadow, round(reach), round(reach))
    shadow = shadow.filter(ImageFilter.GaussianBlur(soft)).point(lambda v: int(v * 0.5))
    image.paste((0, 0, 0), (0, 0), shadow)
    outline = None
    if rng.random() < 0.35:
        outline = Outline(colour=random_colour(rng), width=float(rng.uniform(0.7, 3)))
    fills = companions(subject, tone)
    paint_figure(image, subject.figure, pose=subject.pose, fills=fills, outline=outline)
    return image


def chalk(subject: Subject) -> Image.Image:
    """Broken strokes of chalk on a dark board, or of charcoal on paper for dark colours."""
    rng, size = subject.rng, subject.size
    colour = shaded(subject.colour, 0.25) if sum(subject.colour) > 180 else subject.colour
    low = 15 if sum(subject.colour) > 180 else 185
    board = random_colour(rng, low, low + 55)
    image = two_tone(cloudy(rng, size, cells=5), board, shaded(board, 0.15))
    if rng.random() < 0.5:
        clutter(rng, image, avoid=subject.colour)
    dust = mask_of(rng.random((size, size), dtype=np.float32) * 1.5 + 0.25)
    lines = outline_mask(subject, width=rng.uniform(2, 4.5))
    if rng.random() < 0.6:
        inside = figure_mask(subject.figure, size=size, pose=subject.pose)
        phase = linear_ramp(size, angle=rng.uniform(0, 180)) / rng.uniform(0.025, 0.05) % 1
        hatch = mask_of((np.abs(phase - 0.5) - 0.22) * 9)
        lines = ImageChops.lighter(lines, ImageChops.multiply(inside, hatch))
    image.paste(colour, (0, 0), ImageChops.multiply(lines, dust))
    return image


def outline_mask(subject: Subject, *, width: float) -> Image.Image:
    """Contour lines of every part, hidden parts hidden."""
    mask = Image.new("L", (subject.size, subject.size))
    brush = ImageDraw.Draw(mask)
    previous = ""
    for part in subject.figure:
        if part.role == "dark" and part.width is not None:
            draw_part(brush, part, pose=subject.pose, fill=255)
            continue
        if part.role != previous:
            for other in subject.figure:
                if other.role == part.role:
                    draw_part(brush, other, pose=subject.pose, fill=255, grow=0.8 * width)
            previous = part.role
        draw_part(brush, part, pose=subject.pose, fill=0, grow=-0.2 * width)
    return mask


def neon(subject: Subject) -> Image.Image:
    """Glowing tubes at night."""
    rng, size = subject.rng, subject.size
    wall = random_colour(rng, 5, 50)
    image = two_tone(cloudy(rng, size, cells=8), wall, shaded(wall, -0.5))
    if rng.random() < 0.4:
        clutter(rng, image, avoid=subject.colour)
        image = image.point(lambda v: v // 2)
    tube = outline_mask(subject, width=rng.uniform(2, 4.5))
    glow = tube.filter(ImageFilter.GaussianBlur(rng.uniform(3, 7))).point(lambda v: min(255, 2 * v))
    light = shaded(subject.colour, 0.15 if sum(subject.colour) > 250 else 0.5)
    halo = Image.new("RGB", (size, size))
    halo.paste(light, (0, 0), glow)
    image = ImageChops.add(image, halo)
    image.paste(shaded(light, rng.uniform(0.1, 0.6)), (0, 0), tube)
    return image


def mosaic(subject: Subject) -> Image.Image:
    """Tiles or triangles of one colour each, laid over the flat figure."""
    rng, size = subject.rng, subject.size
    image = flat(subject)
    cell = int(rng.integers(4, 7))
    n = size // cell
    means = np.asarray(image.resize((n, n), Image.Resampling.BOX), dtype=np.float32)
    small = means * rng.uniform(0.82, 1.15, (n, n, 1))
    tiles = Image.fromarray(np.clip(small, 0, 255).astype(np.uint8))
    tiles = tiles.resize((n * cell, n * cell), Image.Resampling.NEAREST).resize((size, size))
    grout = random_colour(rng)
    brush = ImageDraw.Draw(tiles)
    if rng.random() < 0.7:
        for at in range(0, size, cell):
            brush.line((at, 0, at, size), fill=grout)
            brush.line((0, at, size, at), fill=grout)
    return Image.blend(tiles, image, rng.uniform(0.1, 0.5))


def flat(subject: Subject) -> Image.Image:
    """Plain colours on a background: the start of the mosaic and pixel styles."""
    tone = unlike(subject.rng, (subject.colour,), least=230)
    image = backdrop(subject.rng, subject.size, tone, avoid=subject.colour)
    fills = companions(subject, tone)
    paint_figure(image, subject.figure, pose=subject.pose, fills=fills)
    return image


def stamp(subject: Subject) -> Image.Image:
    """One ink pressed unevenly on paper, details left bare."""
    rng, size = subject.rng, subject.size
    paper = unlike(rng, (subject.colour,), least=260)
    image = backdrop(rng, size, paper, avoid=subject.colour)
    mask = Image.new("L", (size, size))
    brush = ImageDraw.Draw(mask)
    tones = {"body": 255, "second": int(rng.choice([120, 255])), "accent": 0, "dark": 0}
    for part in subject.figure:
        inside = tones[part.role]
        if part.role == "dark" and subject.pose.scale and not is_inside(part.points):
            inside = 255
        draw_part(brush, part, pose=subject.pose, fill=inside)
        if part.role == "accent" and part.width is None:
            rim = subject.pose.place(np.concatenate([part.points, part.points[:1]]))
            stroke(brush, rim, width=2, fill=255)
    worn: np.ndarray = np.asarray(cloudy(rng, size, cells=30), dtype=np.float32) / 255
    worn = worn * 1.4 + rng.uniform(0.2, 0.6) + 0.3 * rng.random((size, size), dtype=np.float32)
    image.paste(subject.colour, (0, 0), ImageChops.multiply(mask, mask_of(worn)))
    return image


def is_inside(points: np.ndarray) -> bool:
    """Whether a part lies well within the figure's square, as eyes and creases do."""
    return bool(np.abs(points).max() < 0.62)


def blueprint(subject: Subject) -> Image.Image:
    """Thin drafting lines over a grid."""
    rng, size = subject.rng, subject.size
    paper = unlike(rng, (subject.colour,), least=280)
    image = Image.new("RGB", (size, size), paper)
    brush = ImageDraw.Draw(image)
    ruled = shaded(paper, 0.2 if sum(paper) < 400 else -0.15)
    step = size / rng.integers(6, 16)
    for at in np.arange(rng.uniform(0, step), size, step):
        brush.line((at, 0, at, size), fill=ruled)
        brush.line((0, at, size, at), fill=ruled)
    if rng.random() < 0.4:
        clutter(rng, image, avoid=subject.colour)
    if rng.random() < 0.5:
        wash = figure_mask(subject.figure, size=size, pose=subject.pose)
        image.paste(subject.colour, (0, 0), wash.point(lambda v: v // 4))
    image.paste(subject.colour, (0, 0), outline_mask(subject, width=rng.uniform(1.8, 3.8)))
    return image


def crayon(subject: Subject) -> Image.Image:
    """Waxy scribbling that overshoots the outline."""
    rng, size = subject.rng, subject.size
    paper = unlike(rng, (subject.colour,), least=230)
    image = backdrop(rng, size, paper, avoid=subject.colour)
    fills = companions(subject, paper)
    angle = rng.uniform(0, 180)
    phase = linear_ramp(size, angle=angle) / rng.uniform(0.025, 0.05)
    shaky = phase + np.asarray(cloudy(rng, size, cells=10), dtype=np.float32) / 90
    wax = mask_of((np.abs(shaky % 1 - 0.5) - rng.uniform(0.0, 0.09)) * 7)
    tooth = mask_of(rng.random((size, size), dtype=np.float32) * 2 + 0.3)
    wax = ImageChops.multiply(wax, tooth)
    for role in ("dark", "second", "body", "accent", "dark"):
        parts = [part for part in subject.figure if part.role == role]
        fill = fills[role]
        if parts and not isinstance(fill, Image.Image):
            inside = figure_mask(parts, size=size, pose=subject.pose, grow=rng.uniform(0, 1.2))
            image.paste(fill, (0, 0), ImageChops.multiply(inside, wax))
    image.paste(shaded(subject.colour, -0.3), (0, 0), outline_mask(subject, width=1.6))
    return image


def embroidery(subject: Subject) -> Image.Image:
    """Satin stitches on woven cloth."""
    rng, size = subject.rng, subject.size
    cloth = unlike(rng, (subject.colour,))
    x, y = (linear_ramp(size, angle=a) * size for a in (0, 90))
    weave = mask_of(0.5 + 0.25 * np.sin(x * 2.1) + 0.25 * np.sin(y * 2.1))
    image = two_tone(weave, cloth, shaded(cloth, -0.25))
    if rng.random() < 0.5:
        clutter(rng, image, avoid=subject.colour)
    fills = {
        role: threads(rng, size, fill)
        for role, fill in companions(subject, cloth).items()
        if not isinstance(fill, Image.Image)
    }
    rim = Outline(colour=shaded(subject.colour, -0.35), width=float(rng.uniform(0.6, 2)))
    paint_figure(image, subject.figure, pose=subject.pose, fills=fills, outline=rim)
    return image


def threads(rng: Rng, size: int, colour: Colour) -> Image.Image:
    """Parallel threads with light along them."""
    angle = rng.uniform(0, 180)
    across = linear_ramp(size, angle=angle) * size / rng.uniform(2.5, 4.5)
    along = linear_ramp(size, angle=angle + 90) * size / rng.uniform(14, 30)
    row = np.floor(across)
    shine = 0.5 + 0.5 * np.sin((along + row * 0.37) * 2 * np.pi)
    return two_tone(mask_of(0.35 + 0.5 * shine * (np.abs(across % 1 - 0.5) < 0.35)),
                    shaded(colour, 0.15), shaded(colour, -0.25))  # fmt: skip


def pixel_art(subject: Subject) -> Image.Image:
    """Coarse pixels with few levels."""
    rng, size = subject.rng, subject.size
    n = int(rng.integers(22, 40))
    image = flat(subject).resize((n, n), Image.Resampling.BOX)
    bits = int(rng.integers(2, 5))
    image = image.point(lambda v: min(255, ((v >> (8 - bits)) << (8 - bits)) + (128 >> bits)))
    return image.resize((size, size), Image.Resampling.NEAREST)


_STYLES: tuple[Callable[[Subject], Image.Image], ...] = (
    cut_out, chalk, neon, mosaic, stamp, blueprint, crayon, embroidery, pixel_art,
)  # fmt: skip
_STYLE_SHARES = (0.34, 0.07, 0.06, 0.07, 0.1, 0.07, 0.13, 0.1, 0.06)


def occlude(rng: Rng, image: Image.Image, pose: Pose) -> None:
    """A bar or a blob over the edge of the figure."""
    brush = ImageDraw.Draw(image)
    turn = rng.uniform(0, 360)
    at = rotate(np.array([[rng.uniform(0.5, 1.0) * pose.scale, 0]]), turn)[0] + pose.centre
    reach = pose.scale * rng.uniform(0.15, 0.35)
    if rng.random() < 0.5:
        shape = rotate(np.array([[-0.4, -6], [0.4, -6], [0.4, 6], [-0.4, 6]]), turn)
    else:
        angle = np.sort(rng.uniform(0, 2 * np.pi, 7))
        shape = smooth(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    brush.polygon((shape * reach + at).ravel().tolist(), fill=random_colour(rng))


def finish(rng: Rng, image: Image.Image) -> np.ndarray:
    """Blur, contrast, uneven light and grain."""
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.4))))
    pixels: np.ndarray = np.asarray(image, dtype=np.float32)
    contrast, mean = rng.uniform(0.72, 1.15), float(pixels.mean())
    pixels = (pixels - mean) * contrast + mean + rng.uniform(-22, 22)
    size = image.width
    if rng.random() < 0.4:
        tilt = 1 + rng.uniform(0.1, 0.5) * linear_ramp(size, angle=rng.uniform(0, 360))
        pixels = pixels * tilt[..., None]
    if rng.random() < 0.4:
        noise = rng.standard_normal((size, size, 1), dtype=np.float32)
        pixels = pixels + noise * rng.uniform(2, 14)
    return np.clip(pixels, 0, 255).astype(np.uint8)


_CHUNK = 512


def make_pictures(
    n: int, seed: int, size: int = 64, workers: int = 2, *, is_easy: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`n` pictures (n, size, size, 3), their class and colour indices; the same for one seed.

    The result does not depend on the number of workers.
    """
    seeds = np.random.SeedSequence(seed).spawn(-(-n // _CHUNK))
    sizes = [min(_CHUNK, n - start) for start in range(0, n, _CHUNK)]
    job = partial(_make_chunk, size=size, is_easy=is_easy)
    if workers <= 1:
        chunks = list(map(job, seeds, sizes))
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            chunks = list(pool.map(job, seeds, sizes))
    pictures, classes, colours = (np.concatenate(column) for column in zip(*chunks, strict=True))
    return pictures, classes, colours


def _make_chunk(
    seed: np.random.SeedSequence, n: int, *, size: int, is_easy: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, len(CLASS_NAMES), n)
    colours = rng.integers(0, len(COLOUR_NAMES), n)
    pictures = [
        draw(int(k), int(c), rng, size, is_easy=is_easy)
        for k, c in zip(classes, colours, strict=True)
    ]
    return np.stack(pictures), classes, colours


def write_sheet(path: str, *, seed: int, columns: int = 12, size: int = 64) -> None:
    """A contact sheet with one row a class."""
    sheet = Image.new("RGB", (columns * size, len(CLASS_NAMES) * size))
    for row in range(len(CLASS_NAMES)):
        for column in range(columns):
            rng = np.random.default_rng([seed, row, column])
            picture = draw(row, int(rng.integers(len(COLOUR_NAMES))), rng, size)
            sheet.paste(Image.fromarray(picture), (column * size, row * size))
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a contact sheet of pre-training pictures.")
    parser.add_argument("--sheet", required=True, metavar="PNG")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_sheet(arguments.sheet, seed=arguments.seed)


if __name__ == "__main__":
    main()
