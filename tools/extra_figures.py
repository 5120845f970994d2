"""Eight more things, drawn only to give the demo CLIP a wider pre-training than its demo classes.

They follow the rules of `deft_core.demo.figures`.
"""

from collections.abc import Callable

import numpy as np

from deft_core.demo.figures import Figure, Part, box, chance, fitted
from deft_core.demo.outlines import bezier, ellipse, mirrored, polygon, rounded, smooth

Rng = np.random.Generator


def balloon(rng: Rng) -> Figure:
    wide = rng.uniform(0.62, 0.75)
    half = bezier((0, -1), (wide * 1.1, -1), (wide * 1.1, 0.05), (0.08, 0.38), (0.05, 0.4),
                  (0.02, 0.4), (0, 0.4))  # fmt: skip
    sway = rng.uniform(-0.2, 0.2)
    string = smooth([(0, 0.45), (sway, 0.75), (-sway, 1.05), (sway, 1.4)], closed=False)
    parts = [Part("dark", string, 0.04), Part("body", mirrored(half))]
    parts.append(Part("body", polygon((0, 0.34), (0.12, 0.5), (-0.12, 0.5))))
    if chance(rng, 0.6):
        shine = ellipse(-wide * 0.45, -0.5, 0.16, 0.26, start=150, stop=250, n=12)
        parts.append(Part("accent", shine, 0.08))
    return parts


def book(rng: Rng) -> Figure:
    if chance(rng, 0.5):
        high, dip = rng.uniform(0.55, 0.7), rng.uniform(0.08, 0.18)
        page = bezier((0, -high + dip), (0.3, -high - 0.1), (0.7, -high - 0.05), (0.95, -high),
                      (0.95, -0.2), (0.95, 0.2), (0.95, high),
                      (0.7, high - 0.05), (0.3, high - 0.1), (0, high + dip))  # fmt: skip
        cover = page * 1.06 + (0, 0.05)
        parts = [Part("body", mirrored(cover)), Part("accent", mirrored(page))]
        for y in np.linspace(-high * 0.55, high * 0.6, 4):
            for side in (-1, 1):
                parts.append(Part("dark", polygon((side * 0.18, y), (side * 0.78, y - 0.05)), 0.04))
        return [*parts, Part("dark", polygon((0, -high + dip), (0, high + dip)), 0.05)]
    wide = rng.uniform(0.6, 0.75)
    parts = [Part("accent", box(-wide + 0.1, -0.82, wide + 0.06, 1.0))]
    parts.append(Part("body", box(-wide, -1.0, wide, 0.84, radius=0.05)))
    parts.append(Part("second", box(-wide, -1.0, -wide + 0.16, 0.84)))
    parts.append(Part("accent", box(-wide * 0.4, -0.7, wide * 0.75, -0.35, radius=0.03)))
    return parts


def cactus(rng: Rng) -> Figure:
    thick = rng.uniform(0.36, 0.46)
    parts = [Part("body", polygon((0, 0.6), (0, -0.78)), thick)]
    for side, y in ((-1, rng.uniform(-0.1, 0.25)), (1, rng.uniform(-0.3, 0.1)))[
        : int(rng.choice([1, 2, 2, 2]))
    ]:
        arm = smooth([(0, y), (side * 0.5, y), (side * 0.6, y - 0.15), (side * 0.6, y - 0.5)],
                     closed=False)  # fmt: skip
        parts.append(Part("body", arm, thick * 0.62))
    for x, y in rng.uniform((-0.12, -0.75), (0.12, 0.5), (8, 2)):
        parts.append(Part("accent", polygon((x, y), (x + 0.04, y - 0.07)), 0.03))
    pot = rounded([(-0.42, 0.5), (0.42, 0.5), (0.32, 1), (-0.32, 1)], 0.05)
    return [*parts, Part("second", pot)]


def guitar(rng: Rng) -> Figure:
    waist = rng.uniform(0.22, 0.3)
    half = bezier((0, -0.12), (0.3, -0.16), (0.42, 0.12), (waist, 0.3), (0.34, 0.4), (0.6, 0.5),
                  (0.56, 0.75), (0.5, 1.0), (0.2, 1.02), (0, 1.02))  # fmt: skip
    parts = [Part("body", mirrored(half))]
    parts.append(Part("second", box(-0.07, -1.1, 0.07, 0.3)))
    parts.append(Part("second", rounded([(-0.13, -1.4), (0.13, -1.4), (0.1, -1.05),
                                         (-0.1, -1.05)], 0.04)))  # fmt: skip
    parts.append(Part("dark", ellipse(0, 0.36, 0.16, 0.16)))
    parts.append(Part("dark", polygon((-0.2, 0.78), (0.2, 0.78)), 0.07))
    parts.append(Part("accent", polygon((0, -1.05), (0, 0.76)), 0.025))
    return parts


def hat(rng: Rng) -> Figure:
    if chance(rng, 0.5):
        half = rng.uniform(0.42, 0.55)
        crown = rounded([(-half, 0.5), (-half * 1.1, -0.6), (half * 1.1, -0.6), (half, 0.5)], 0.05)
        brim = ellipse(0, 0.5, 1.0, rng.uniform(0.12, 0.2))
        band = polygon((-half * 1.01, 0.3), (half * 1.01, 0.3))
    else:
        crown = bezier((-0.55, 0.45), (-0.55, -0.4), (-0.3, -0.5), (0, -0.5), (0.3, -0.5),
                       (0.55, -0.4), (0.55, 0.45))  # fmt: skip
        brim = smooth([(-1, 0.42), (0, 0.36), (1, 0.42), (0.7, 0.6), (0, 0.68), (-0.7, 0.6)])
        band = smooth([(-0.53, 0.25), (0, 0.32), (0.53, 0.25)], closed=False)
    return [Part("body", crown), Part("second", band, 0.16), Part("body", brim)]


def ladder(rng: Rng) -> Figure:
    low, top = rng.uniform(0.32, 0.45), rng.uniform(0.22, 0.34)
    thick = rng.uniform(0.1, 0.14)
    rungs = np.linspace(-0.78, 0.78, int(rng.integers(4, 8)))
    parts = []
    for y in rungs:
        half = top + (low - top) * (y + 1) / 2
        parts.append(Part("body", polygon((-half, y), (half, y)), thick * 0.8))
    parts.append(Part("body", polygon((-top, -1), (-low, 1)), thick))
    parts.append(Part("body", polygon((top, -1), (low, 1)), thick))
    return parts


def leaf(rng: Rng) -> Figure:
    wide = rng.uniform(0.4, 0.62)
    half = bezier((0, -1), (wide * 0.6, -0.7), (wide * 1.3, -0.2), (wide, 0.2),
                  (wide * 0.7, 0.55), (0.15, 0.65), (0, 0.72))  # fmt: skip
    parts = [Part("dark", polygon((0, -0.75), (0, 1.05)), 0.07)]
    parts.append(Part("body", mirrored(half)))
    parts.append(Part("dark", polygon((0, -0.75), (0, 0.7)), 0.04))
    for y in np.linspace(-0.35, 0.45, 4):
        reach = wide * (0.85 - 0.5 * abs(y))
        for side in (-1, 1):
            parts.append(Part("dark", polygon((0, y), (side * reach, y - 0.22)), 0.03))
    return parts


def rocket(rng: Rng) -> Figure:
    wide = rng.uniform(0.3, 0.4)
    half = bezier((0, -1), (wide * 0.9, -0.7), (wide * 1.3, -0.1), (wide * 0.8, 0.55),
                  (wide * 0.5, 0.56), (wide * 0.2, 0.56), (0, 0.56))  # fmt: skip
    flame = smooth([(-0.18, 0.5), (-0.2, 0.75), (0, 1.12), (0.2, 0.75), (0.18, 0.5)])
    fin = smooth([(wide * 0.8, 0.1), (wide + 0.38, 0.4), (wide + 0.36, 0.8), (wide * 0.7, 0.5)])
    parts = [Part("accent", flame)] if chance(rng, 0.7) else []
    parts += [Part("second", fin), Part("second", fin * (-1, 1))]
    parts.append(Part("body", mirrored(half)))
    parts.append(Part("accent", ellipse(0, -0.28, 0.15, 0.15)))
    if chance(rng, 0.5):
        parts.append(Part("accent", ellipse(0, 0.12, 0.1, 0.1)))
    return parts


_DRAWERS: dict[str, Callable[[Rng], Figure]] = {
    drawer.__name__: drawer for drawer in (balloon, book, cactus, guitar, hat, ladder, leaf, rocket)
}

EXTRA_NAMES: tuple[str, ...] = tuple(sorted(_DRAWERS))


def draw_extra_figure(name: str, rng: Rng) -> Figure:
    """A new figure of the named extra class, fitted into the square from -1 to 1."""
    return fitted(_DRAWERS[name](rng))
