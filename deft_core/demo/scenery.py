"""Palettes, backgrounds and clutter of the picture book.

Each background function paints a whole canvas; clutter is painted over it in place.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from deft_core.demo.canvas import (
    Colour,
    cloudy,
    jittered,
    linear_ramp,
    make_fill,
    mask_of,
    radial_ramp,
    shaded,
    stroke,
    two_tone,
)
from deft_core.demo.outlines import Points, bezier, ellipse, rotate, rounded, shifted, smooth

Rng = np.random.Generator


def hexes(text: str) -> tuple[Colour, ...]:
    """Colours from words of six hexadecimal digits."""
    return tuple((int(w[:2], 16), int(w[2:4], 16), int(w[4:], 16)) for w in text.split())


@dataclass(frozen=True)
class Palette:
    """Colours that go together: paper and scenery, figures, ink."""

    papers: tuple[Colour, ...]
    colours: tuple[Colour, ...]
    ink: Colour


def palette(papers: str, colours: str, ink: str) -> Palette:
    """A palette from hexadecimal colours."""
    return Palette(hexes(papers), hexes(colours), hexes(ink)[0])


PALETTES = (
    palette("f7efe0 e9f0e6 f9e3d5 dfeaf2", "e4572e f3a712 29335c 669bbc 7fa653 d1495b", "2b2d42"),
    palette("f1ead8 dce5c8 cfe0d8 f5e1b8", "386641 6a994e bc4749 e09f3e 9e6240 335c67", "33291f"),
    palette("fff1f5 e5f4f9 fdf3c8 e8e3f7", "ef476f ffb703 06a77d 118ab2 8d5a97 fb8500", "4a2545"),
    palette("1d2b4f 27364b 352f54 16404d", "ffd166 f28482 84a59d f5cac3 a0c4ff e5989b", "0d1321"),
    palette("f4e4c1 e8d5b0 f2d0a9 d8e2dc", "c8553d 588b8b f28f3b 8a3033 2d3047 93b7be", "2d1e16"),
    palette("e3f2fd d0ebff e0f7f4 fff8e1", "0077b6 ef8354 2a9d8f e9c46a e63946 6d597a", "1d3557"),
    palette("faf9f6 efefef e6e8e3 f3eee8", "d62828 f77f00 003049 588157 5f0f40 9a6fb0", "111111"),
    palette("5b8e7d 7a9e9f c97b63 8d99ae", "f4f1de e07a5f 3d405b f2cc8f ffe8d6 813405", "22223b"),
)


def plain(rng: Rng, size: int, colours: Palette) -> Image.Image:
    tone = jittered(rng, pick(rng, colours.papers), amount=5)
    fibres = Image.blend(cloudy(rng, size, cells=4), cloudy(rng, size, cells=64), 0.5)
    return two_tone(fibres, tone, shaded(tone, -rng.uniform(0.03, 0.12)))


def wash(rng: Rng, size: int, colours: Palette) -> Image.Image:
    tone = pick(rng, colours.papers)
    other = shaded(pick(rng, colours.colours), 0.55)
    blots = Image.blend(
        cloudy(rng, size, cells=int(rng.integers(3, 7))), cloudy(rng, size, cells=18), 0.25
    )
    return two_tone(blots, tone, other)


def gradient(rng: Rng, size: int, colours: Palette) -> Image.Image:
    tone = pick(rng, colours.papers)
    other = shaded(pick(rng, (*colours.papers, *colours.colours)), rng.uniform(0.1, 0.5))
    if rng.random() < 0.4:
        cx, cy = rng.uniform(-0.3, 0.3, 2)
        return two_tone(mask_of(1.1 - 1.5 * radial_ramp(size, cx=cx, cy=cy)), tone, other)
    ramp = 0.5 + 0.9 * linear_ramp(size, angle=rng.uniform(0, 360))
    return two_tone(mask_of(ramp), tone, other)


def wallpaper(rng: Rng, size: int, colours: Palette) -> Image.Image:
    tone = pick(rng, colours.papers)
    kind = str(rng.choice(["stripes", "dots", "hatching", "motif", "motif", "check"]))
    other = shaded(pick(rng, colours.colours), rng.uniform(0.4, 0.7))
    if kind == "check":
        period = rng.uniform(0.08, 0.16)
        angle = float(rng.choice([0, 45]))
        one, across = (
            np.abs(linear_ramp(size, angle=angle + turn) / period % 1 - 0.5) < 0.25
            for turn in (0, 90)
        )
        return two_tone(mask_of(1 - 0.45 * (one + across.astype(np.float32))), tone, other)
    if kind == "motif":
        return motifs(rng, size, tone, other)
    image = make_fill(rng, kind, size=size, colour=tone, other=other)
    assert isinstance(image, Image.Image)
    return image


def motifs(rng: Rng, size: int, tone: Colour, other: Colour) -> Image.Image:
    """Wallpaper of small sprigs, diamonds, rings or plus signs in staggered rows."""
    image = Image.new("RGB", (size, size), tone)
    draw = ImageDraw.Draw(image)
    shape = rounded(ellipse(0, 0, 1, 1, n=int(rng.choice([5, 5, 7]))), 0.01)
    shapes = (
        shape,
        leaf_outline(),
        rounded([(-1, 0), (0, -1.4), (1, 0), (0, 1.4)], 0.1),
        smooth([(-1, -1), (0, -0.2), (1, -1), (0.2, 0), (1, 1), (0, 0.2), (-1, 1), (-0.2, 0)]),
    )
    motif = rotate(shapes[int(rng.integers(len(shapes)))], rng.uniform(0, 90))
    step, reach = size * rng.uniform(0.11, 0.19), size * rng.uniform(0.018, 0.032)
    for row in range(int(size / step) + 2):
        for column in range(int(size / step) + 2):
            at = ((column + 0.5 * (row % 2) - 0.3) * step, (row - 0.3) * step)
            draw.polygon((motif * reach + at).ravel().tolist(), fill=other)
    return image


def hills(rng: Rng, size: int, colours: Palette) -> Image.Image:
    """Sky with rows of hills, perhaps a sun disc."""
    sky = pick(rng, colours.papers)
    top = shaded(sky, rng.uniform(-0.15, 0.3))
    image = two_tone(mask_of(0.5 + linear_ramp(size, angle=90)), sky, top)
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.4:
        x, y = rng.choice([0.12, 0.86]), rng.uniform(0.1, 0.2)
        draw.circle(
            (x * size, y * size),
            size * rng.uniform(0.05, 0.09),
            fill=shaded(pick(rng, colours.colours), 0.5),
        )
    base = pick(rng, colours.colours)
    horizon = rng.uniform(0.5, 0.7)
    n = int(rng.integers(1, 4))
    for i in range(n):
        heights = horizon + i * 0.14 + rng.uniform(-0.06, 0.06, 5)
        ridge = smooth(np.stack([np.linspace(-0.1, 1.1, 5), heights], axis=1), closed=False)
        land = np.concatenate([ridge, [[1.1, 1.1], [-0.1, 1.1]]]) * size
        draw.polygon(land.ravel().tolist(), fill=shaded(base, 0.6 - 0.3 * (i + 1) / n))
    if rng.random() < 0.5:
        grass(rng, draw, size, shaded(base, 0.15))
    return image


def grass(rng: Rng, draw: ImageDraw.ImageDraw, size: int, colour: Colour) -> None:
    for x, y in rng.uniform((0, 0.75), (1, 1), (int(rng.integers(10, 30)), 2)) * size:
        tall = size * 0.03
        for lean in (-0.4, 0.1, 0.5):
            draw.line((x, y, x + lean * tall, y - tall), fill=colour, width=max(1, size // 160))


def room(rng: Rng, size: int, colours: Palette) -> Image.Image:
    """A wall above a table or floor, the wall often papered."""
    image = wallpaper(rng, size, colours) if rng.random() < 0.5 else plain(rng, size, colours)
    wood = shaded(pick(rng, colours.colours), rng.uniform(0.25, 0.55))
    edge = int(size * rng.uniform(0.6, 0.8))
    board = make_fill(
        rng, str(rng.choice(["flat", "crayon", "gradient", "watercolour"])), size=size, colour=wood
    )
    if isinstance(board, Image.Image):
        board = board.crop((0, edge, size, size))
    image.paste(board, (0, edge, size, size))
    draw = ImageDraw.Draw(image)
    draw.line((0, edge, size, edge), fill=shaded(wood, -0.3), width=max(2, size // 110))
    return image


def sea(rng: Rng, size: int, colours: Palette) -> Image.Image:
    """Bands of wavy water, or of sand, under a sky."""
    image = gradient(rng, size, colours)
    draw = ImageDraw.Draw(image)
    tone = pick(rng, colours.colours)
    x = np.linspace(0, 1, 60)
    start = rng.uniform(0.45, 0.75)
    for i, y in enumerate(np.arange(start, 1.05, rng.uniform(0.07, 0.13))):
        crest = y + 0.014 * np.sin(x * rng.uniform(18, 36) + rng.uniform(0, 6))
        water = np.concatenate([np.stack([x, crest], axis=1), [[1, 1.1], [0, 1.1]]]) * size
        draw.polygon(water.ravel().tolist(), fill=shaded(tone, 0.55 - 0.07 * i))
    return image


def speckled(rng: Rng, size: int, colours: Palette) -> Image.Image:
    """Snow, seeds or night lights: small dots over a gradient."""
    image = gradient(rng, size, colours)
    draw = ImageDraw.Draw(image)
    tone = shaded(pick(rng, (*colours.colours, (255, 255, 255))), 0.4)
    for x, y, r in rng.uniform((0, 0, 0.003), (1, 1, 0.012), (int(rng.integers(20, 70)), 3)) * size:
        draw.circle((x, y), r, fill=tone)
    return image


_BACKGROUNDS = (
    plain,
    plain,
    wash,
    gradient,
    wallpaper,
    wallpaper,
    hills,
    hills,
    room,
    sea,
    speckled,
)


def paint_background(rng: Rng, size: int, colours: Palette) -> Image.Image:
    """A background of a random kind."""
    return _BACKGROUNDS[int(rng.integers(len(_BACKGROUNDS)))](rng, size, colours)


def pick(rng: Rng, colours: tuple[Colour, ...]) -> Colour:
    """One of the colours."""
    return colours[int(rng.integers(len(colours)))]


def leaf_outline() -> Points:
    """A pointed leaf from (-1, 0) to (1, 0)."""
    return bezier((-1, 0), (-0.4, -0.7), (0.4, -0.6), (1, 0), (0.4, 0.6), (-0.4, 0.7), (-1, 0))


def sprig(rng: Rng, draw: ImageDraw.ImageDraw, size: int, colour: Colour) -> None:
    """A twig with leaves reaching in from the border."""
    side = rng.uniform(0, 360)
    root = rotate(np.array([[0.62, rng.uniform(-0.3, 0.3)]]), side)[0] + 0.5
    long = rng.uniform(0.2, 0.32)
    for i in range(5):
        lean = 40 * (1 if i % 2 else -1)
        leaf = rotate(shifted(leaf_outline(), 1, 0) * (0.065, 0.045), lean)
        leaf = shifted(leaf, 0.03 + i * long / 5, 0)
        turned = rotate(leaf, side + 180 + rng.uniform(-3, 3)) + root
        draw.polygon((turned * size).ravel().tolist(), fill=colour)
    line = rotate(np.array([[0, 0], [long, 0]]), side + 180) + root
    stroke(draw, line * size, width=size / 120, fill=shaded(colour, -0.2))


def confetti(rng: Rng, draw: ImageDraw.ImageDraw, size: int, colours: Palette) -> None:
    for x, y in rng.uniform(0, 1, (int(rng.integers(8, 26)), 2)) * size:
        reach = size * rng.uniform(0.008, 0.02)
        piece = ellipse(0, 0, reach, reach * 0.6, n=int(rng.choice([4, 5, 12])))
        turned = shifted(rotate(piece, rng.uniform(0, 180)), x, y)
        draw.polygon(turned.ravel().tolist(), fill=pick(rng, colours.colours))


def scribble(rng: Rng, draw: ImageDraw.ImageDraw, size: int, colour: Colour) -> None:
    """A child's pencil line near the border."""
    middle = rotate(np.array([[0.4, 0.0]]), rng.uniform(0, 360))[0] + 0.5
    points = smooth(rng.normal(0, 0.09, (int(rng.integers(4, 9)), 2)) + middle, closed=False)
    stroke(draw, points * size, width=size * rng.uniform(0.006, 0.012), fill=colour)


def border_shape(rng: Rng, draw: ImageDraw.ImageDraw, size: int, colour: Colour) -> None:
    """Part of a rounded shape that the page cuts off."""
    middle = rotate(np.array([[0.58, 0.0]]), rng.uniform(0, 360))[0] + 0.5
    angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 8))))
    reach = rng.uniform(0.08, 0.2)
    shape = smooth(np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach + middle)
    draw.polygon((shape * size).ravel().tolist(), fill=colour)


def paint_clutter(rng: Rng, image: Image.Image, colours: Palette) -> None:
    """Zero to three kinds of clutter, mostly near the border."""
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.choice([0, 1, 1, 2, 3]))):
        colour = shaded(pick(rng, colours.colours), rng.uniform(-0.1, 0.4))
        kind = rng.random()
        if kind < 0.3:
            sprig(rng, draw, image.width, colour)
        elif kind < 0.5:
            confetti(rng, draw, image.width, colours)
        elif kind < 0.75:
            scribble(rng, draw, image.width, colour)
        else:
            border_shape(rng, draw, image.width, colour)
