"""Sixteen everyday things as parametric vector figures, the classes of the demo data set.

A figure is a list of parts in painting order. Every draw differs in proportions and in kind (pine
or round tree, sailing boat or steamer). Neighbouring parts of one role are meant to merge, so a
painter outlines them together. Roles: "body" has the figure's own colour, "second" a companion
colour, "accent" a lighter or contrasting one, "dark" is for lines, wheels and eyes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from deft_core.demo.outlines import (
    Points,
    bezier,
    ellipse,
    mirrored,
    polygon,
    rotate,
    rounded,
    shifted,
    smooth,
    union,
)

Rng = np.random.Generator


@dataclass(frozen=True)
class Part:
    """One filled outline, or, with a `width` (figure units), one stroke along the points."""

    role: str
    points: Points
    width: float | None = None


Figure = list[Part]


def box(x0: float, y0: float, x1: float, y1: float, *, radius: float = 0.0) -> Points:
    """A rectangle, its corners rounded if asked."""
    corners = polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return rounded(corners, radius) if radius else corners


def ring(cx: float, cy: float, rx: float, ry: float) -> Points:
    """A closed loop for a stroke, overlapping itself a little so that the join is round."""
    return ellipse(cx, cy, rx, ry, stop=372.0, n=44)


def chance(rng: Rng, probability: float) -> bool:
    """True with this probability."""
    return bool(rng.random() < probability)


def star(rng: Rng) -> Figure:
    n = int(rng.choice([5, 5, 5, 5, 5, 6, 8, 4]))
    inner = {4: 0.36, 5: 0.47, 6: 0.55, 8: 0.62}[n] * rng.uniform(0.88, 1.12)
    radii = np.tile([1.0, inner], n)
    angle = -np.pi / 2 + np.arange(2 * n) * np.pi / n
    corners = np.stack([radii * np.cos(angle), radii * np.sin(angle)], axis=1)
    outline = rounded(corners, rng.choice([0.0, 0.08, 0.22]) + 1e-3)
    parts = [Part("body", outline)]
    extra = rng.random()
    if extra < 0.25:
        parts.append(Part("accent", outline * rng.uniform(0.45, 0.6)))
    elif extra < 0.4:
        parts += face(0.0, 0.05, 0.3)
    elif extra < 0.55:
        parts += [Part("dark", np.array([[0, 0], c * 0.8]), 0.035) for c in corners[::2]]
    return parts


def face(cx: float, cy: float, size: float) -> Figure:
    """Two eyes and a smile."""
    eyes = [
        Part("dark", ellipse(cx + side * 0.5 * size, cy - 0.2 * size, 0.16 * size, 0.22 * size))
        for side in (-1, 1)
    ]
    smile = ellipse(cx, cy + 0.1 * size, 0.5 * size, 0.45 * size, start=20, stop=160, n=14)
    return [*eyes, Part("dark", smile, 0.16 * size)]


def heart(rng: Rng) -> Figure:
    cleft, lobe, belly = rng.uniform(-0.62, -0.4), rng.uniform(0.95, 1.15), rng.uniform(0.2, 0.45)
    half = bezier(
        (0, cleft), (0.12, -1.0), (lobe * 0.55, -1.05), (lobe * 0.72, -0.92),
        (lobe, -0.76), (lobe * 1.05, -0.2), (lobe * 0.75, 0.15),
        (lobe * 0.6, belly), (0.18, 0.72), (0, 0.98),
    )  # fmt: skip
    outline = mirrored(half)
    parts = [Part("body", outline)]
    extra = rng.random()
    if extra < 0.3:
        shine = ellipse(-0.42, -0.42, 0.3, 0.3, start=170, stop=260, n=12)
        parts.append(Part("accent", shine, 0.11))
    elif extra < 0.5:
        parts.append(Part("accent", outline * rng.uniform(0.5, 0.7) + (0, -0.04)))
    elif extra < 0.6:
        parts += face(0.0, -0.2, 0.4)
    return parts


def house(rng: Rng) -> Figure:
    half, top, eave = rng.uniform(0.6, 0.85), rng.uniform(-0.2, 0.1), rng.uniform(0.08, 0.2)
    peak = top - rng.uniform(0.6, 0.95)
    parts = []
    if chance(rng, 0.65):
        x = rng.uniform(0.2, 0.5) * half * rng.choice([-1, 1])
        tall = top + 0.55 * (peak - top)
        parts.append(Part("accent", box(x - 0.11, tall - 0.3, x + 0.11, top)))
    parts.append(Part("body", box(-half, top - 0.02, half, 1.0)))
    parts.append(Part("second", roof(rng, half + eave, top, peak)))
    door = rng.uniform(-0.45, 0.45) * half if chance(rng, 0.6) else 0.0
    wide, tall = rng.uniform(0.13, 0.19), rng.uniform(0.42, 0.58)
    parts.append(Part("dark", box(door - wide, 1 - tall, door + wide, 1.0, radius=0.08)))
    parts.append(Part("accent", ellipse(door + wide * 0.55, 1 - tall * 0.45, 0.035, 0.035, n=12)))
    for x in (-half * 0.58, half * 0.58):
        if abs(x - door) > wide + 0.2:
            parts += window(x, top + 0.36, rng.uniform(0.13, 0.18))
    if peak - top < -0.7 and chance(rng, 0.6):
        parts.append(Part("accent", ellipse(0, top + 0.38 * (peak - top), 0.13, 0.13)))
    return parts


def roof(rng: Rng, half: float, top: float, peak: float) -> Points:
    """A roof outline: gabled, hipped, mansard or rounded thatch."""
    kind = rng.integers(4)
    if kind == 0:
        return rounded([(-half, top), (0, peak), (half, top)], 0.05)
    if kind == 1:
        flat = half * rng.uniform(0.3, 0.6)
        return rounded([(-half, top), (-flat, peak), (flat, peak), (half, top)], 0.05)
    if kind == 2:
        knee = (half * 0.72, top + 0.62 * (peak - top))
        return rounded([(-half, top), (-knee[0], knee[1]), (0, peak), knee, (half, top)], 0.04)
    return bezier(
        (-half, top), (-half * 0.7, top), (-half * 0.5, peak), (0, peak),
        (half * 0.5, peak), (half * 0.7, top), (half, top),
    )  # fmt: skip


def window(x: float, y: float, size: float) -> Figure:
    """A window with glazing bars."""
    return [
        Part("accent", box(x - size, y - size, x + size, y + size)),
        Part("dark", polygon((x - size, y), (x + size, y)), 0.035),
        Part("dark", polygon((x, y - size), (x, y + size)), 0.035),
    ]


def tree(rng: Rng) -> Figure:
    if chance(rng, 0.45):
        return pine(rng)
    trunk, base = rng.uniform(0.1, 0.17), rng.uniform(0.05, 0.25)
    foot = trunk * rng.uniform(1.2, 1.9)
    wood = bezier(
        (-trunk, base - 0.2), (-trunk, 0.6), (-trunk, 0.9), (-foot, 1.0),
        (-foot, 1.0), (foot, 1.0), (foot, 1.0), (trunk, 0.9), (trunk, 0.6), (trunk, base - 0.2),
    )  # fmt: skip
    kind = rng.random()
    if kind < 0.55:
        crown = bumpy(rng, wide=rng.uniform(0.5, 0.62), high=rng.uniform(0.42, 0.5), cy=base - 0.6)
    elif kind < 0.8:
        crown = ellipse(0, base - 0.55, rng.uniform(0.55, 0.72), rng.uniform(0.62, 0.7))
    else:
        crown = ellipse(0, base - 0.5, rng.uniform(0.36, 0.45), 0.75)
    parts = [Part("second", wood)]
    parts.append(Part("body", crown))
    if chance(rng, 0.4):
        parts.append(Part("second", polygon((0, base + 0.1), (0, base - 0.45)), 0.07))
        parts.append(Part("second", polygon((0, base - 0.15), (0.2, base - 0.45)), 0.06))
    if chance(rng, 0.3):
        for x, y in rng.uniform(-0.38, 0.38, (6, 2)):
            parts.append(Part("accent", ellipse(x, base - 0.58 + y, 0.06, 0.06, n=14)))
    return parts


def bumpy(rng: Rng, *, wide: float, high: float, cy: float) -> Points:
    """A leafy crown: circles set around an ellipse."""
    n = int(rng.integers(6, 10))
    angle = np.arange(n) * 2 * np.pi / n + rng.uniform(0, 1)
    radius = rng.uniform(0.26, 0.36, n)
    circles = np.stack([wide * np.cos(angle), cy + high * np.sin(angle), radius], axis=1)
    return union(np.concatenate([circles, [[0, cy, 0.45]]]), centre=(0, cy))


def pine(rng: Rng) -> Figure:
    n, sag = int(rng.integers(2, 5)), rng.uniform(0.0, 0.12)
    half, trunk = rng.uniform(0.55, 0.75), rng.uniform(0.08, 0.13)
    parts = [Part("second", box(-trunk, 0.5, trunk, 1.0))]
    levels = np.linspace(-1.0, 0.68, n + 1)
    for i in reversed(range(n)):
        wide = half * (0.5 + 0.5 * (i + 1) / n)
        top, low = levels[i] - (0.22 if i else 0.0), levels[i + 1]
        right = bezier((0, top), (wide * 0.3, top + 0.5 * (low - top)), (wide * 0.6, low - 0.1),
                       (wide, low), (wide * 0.6, low + sag), (wide * 0.3, low + sag),
                       (0, low + sag))  # fmt: skip
        parts.append(Part("body", mirrored(right)))
    if chance(rng, 0.25):
        for y in levels[1:]:
            parts.append(Part("accent", ellipse(rng.uniform(-0.2, 0.2), y - 0.12, 0.06, 0.06)))
    elif chance(rng, 0.5):
        for y in levels[1:-1]:
            wave = smooth([(-half * 0.42, y), (0, y + 0.1), (half * 0.42, y)], closed=False)
            parts.append(Part("dark", wave, 0.035))
    return parts


def fish(rng: Rng) -> Figure:
    high, nose = rng.uniform(0.38, 0.62), rng.uniform(0.85, 1.0)
    tail, spread = rng.uniform(0.5, 0.62), rng.uniform(0.38, 0.55)
    fork = rng.uniform(0.1, 0.3)
    tail_fin = smooth([(tail - 0.12, 0), (0.98, -spread), (1.0 - fork, 0), (0.98, spread)])
    back_fin = smooth([(-0.35, -high * 0.7), (0.1, -high - rng.uniform(0.12, 0.3)),
                       (0.35, -high * 0.55), (0, -high * 0.5)])  # fmt: skip
    belly_fin = smooth([(-0.1, high * 0.7), (0.2, high + rng.uniform(0.08, 0.25)),
                        (0.25, high * 0.6)])  # fmt: skip
    body = bezier(
        (-nose, 0), (-nose * 0.7, -high), (-0.1, -high * 1.35), (tail, -0.1),
        (tail + 0.03, -0.04), (tail + 0.03, 0.04), (tail, 0.1),
        (-0.1, high * 1.35), (-nose * 0.7, high), (-nose, 0),
    )  # fmt: skip
    parts = [Part("second", tail_fin), Part("second", back_fin), Part("second", belly_fin)]
    parts.append(Part("body", body))
    pattern = rng.random()
    if pattern < 0.35:
        for x in (-0.12, 0.14, 0.36)[: int(rng.integers(2, 4))]:
            reach = high * (0.78 - 0.9 * max(x, 0.0))
            bow = ellipse(x - 0.1, 0, 0.12, reach, start=-75, stop=75, n=14)
            parts.append(Part("accent", bow, 0.1))
    elif pattern < 0.65:
        for x, y in ((-0.1, -0.14), (-0.1, 0.16), (0.12, 0), (0.3, -0.09), (0.3, 0.1)):
            parts.append(Part("dark", ellipse(x, y, 0.09, 0.1, start=-80, stop=80, n=10), 0.03))
    parts.append(Part("dark", ellipse(-0.62, 0, 0.2, high * 0.6, start=-55, stop=55, n=14), 0.04))
    eye = rng.uniform(0.08, 0.12)
    parts.append(Part("accent", ellipse(-0.62, -high * 0.25, eye, eye, n=20)))
    parts.append(Part("dark", ellipse(-0.64, -high * 0.25, eye * 0.55, eye * 0.55, n=16)))
    return parts


def umbrella(rng: Rng) -> Figure:
    high, n = rng.uniform(0.68, 0.9), int(rng.choice([3, 4, 4, 5, 6]))
    rim, depth = 0.05, rng.uniform(0.08, 0.14)
    edges = np.linspace(-1.0, 1.0, n + 1)
    side = 1 if chance(rng, 0.5) else -1
    foot = rng.uniform(0.72, 0.85)
    hook = ellipse(side * 0.16, foot, 0.16, 0.16, start=180, stop=10 if side > 0 else 350, n=16)
    if side < 0:
        hook = ellipse(-0.16, foot, 0.16, 0.16, start=0, stop=170, n=16)
    handle = np.concatenate([polygon((0, rim - 0.2), (0, foot)), hook])
    parts = [Part("dark", handle, rng.uniform(0.07, 0.1))]
    parts.append(Part("dark", polygon((0, rim - high - 0.12), (0, rim - high + 0.1)), 0.07))
    dome = ellipse(0, rim, 1.0, high, start=180, stop=360)
    scallops = [
        ellipse((a + b) / 2, rim, (b - a) / 2, -depth, start=0, stop=180, n=12)
        for a, b in zip(edges[:-1][::-1], edges[1:][::-1], strict=True)
    ]
    parts.append(Part("body", np.concatenate([dome, *scallops])))
    if chance(rng, 0.45):
        for a, b in list(pairwise(edges))[n % 2 :: 2]:
            parts.append(Part("accent", gore(a, b, rim, high, depth)))
    else:
        for x in edges[1:-1]:
            rib = ellipse(0, rim, x, high, start=0, stop=-90, n=14)
            parts.append(Part("dark", rib, 0.03))
    return parts


def gore(a: float, b: float, rim: float, high: float, depth: float) -> Points:
    """One panel of the umbrella between rim positions a and b."""
    left = ellipse(0, rim, a, high, start=0, stop=-90, n=14)
    right = ellipse(0, rim, b, high, start=-90, stop=0, n=14)
    scallop = ellipse((a + b) / 2, rim, (b - a) / 2, -depth, start=0, stop=180, n=12)
    return np.concatenate([left, right, scallop])


def arrow(rng: Rng) -> Figure:
    kind = rng.random()
    shaft, head, neck = rng.uniform(0.12, 0.26), rng.uniform(0.5, 0.72), rng.uniform(0.0, 0.35)
    if kind < 0.5:
        notch = rng.choice([0.0, 0.0, 0.25])
        barb = rng.choice([0.0, 0.0, 0.18])
        corners = [(1, 0), (neck - barb, head), (neck, shaft), (-1, shaft), (-1 + notch, 0),
                   (-1, -shaft), (neck, -shaft), (neck - barb, -head)]  # fmt: skip
        parts = [Part("body", rounded(corners, rng.choice([0.01, 0.1])))]
        if chance(rng, 0.3):
            parts.append(Part("accent", polygon((-0.7, 0), (neck + 0.3, 0)), 0.07))
        return parts
    if kind < 0.75:
        bow = ellipse(-0.2, 0.55, 0.75, rng.uniform(0.75, 1.0), start=185, stop=300, n=24)
        tip, heading = bow[-1], bow[-1] - bow[-2]
        angle = np.degrees(np.arctan2(heading[1], heading[0]))
        point = polygon((0.62, 0), (-0.12, 0.46), (-0.12, -0.46))
        return [
            Part("body", bow, 2 * shaft * 0.8),
            Part("body", rounded(rotate(point, angle) + tip, 0.04)),
        ]
    parts = [Part("body", polygon((-0.9, 0), (0.7, 0)), rng.uniform(0.09, 0.14))]
    parts.append(Part("body", polygon((1, 0), (0.5, 0.3), (0.62, 0), (0.5, -0.3))))
    for x in (-0.95, -0.8, -0.65):
        parts.append(Part("second", polygon((x - 0.1, -0.24), (x + 0.1, 0), (x - 0.1, 0.24)), 0.08))
    return parts


def cloud(rng: Rng) -> Figure:
    base = 0.34
    bumps = [(-0.66, 0.07, 0.28), (-0.27, -0.16, 0.36), (0.2, -0.28, 0.42), (0.64, 0.05, 0.3)]
    if chance(rng, 0.35):
        bumps = [(-0.62, 0.05, 0.31), (0.0, -0.24, 0.48), (0.62, 0.03, 0.32)]
    circles = np.array(bumps) + rng.uniform(-0.055, 0.055, (len(bumps), 3))
    core = np.array([[0, 0.02, 0.36], [-0.4, 0.1, 0.24], [0.4, 0.1, 0.24]])
    if chance(rng, 0.3):
        below = np.array([[-0.42, 0.2, 0.27], [0.05, 0.24, 0.32], [0.46, 0.2, 0.27]])
        outline = union(np.concatenate([circles, core, below]), centre=(0, 0.08), n=200)
    else:
        outline = union(np.concatenate([circles, core]), centre=(0, 0.08), n=200)
        outline[:, 1] = np.minimum(outline[:, 1], base)
    parts = [Part("body", outline)]
    extra = rng.random()
    if extra < 0.3:
        for x0 in np.linspace(-0.5, 0.5, int(rng.integers(3, 6))):
            drop = polygon((x0, base + 0.16), (x0 - 0.1, base + rng.uniform(0.35, 0.5)))
            parts.append(Part("second", drop, 0.055))
    elif extra < 0.65:
        curl = ellipse(rng.uniform(-0.3, 0.1), -0.02, 0.24, 0.22, start=190, stop=330, n=14)
        parts.append(Part("dark", curl, 0.035))
    elif extra < 0.75:
        parts += face(0.0, 0.0, 0.3)
    return parts


def mug(rng: Rng) -> Figure:
    half, taper, top = rng.uniform(0.52, 0.64), rng.uniform(-0.04, 0.12), rng.uniform(-0.7, -0.5)
    lip = rng.uniform(0.06, 0.15)
    side = 1 if chance(rng, 0.5) else -1
    reach, drop = rng.uniform(0.34, 0.44), rng.uniform(0.34, 0.46)
    handle = ellipse(side * (half - 0.06), (top + 1) / 2, reach, drop, start=-100, stop=100, n=24)
    if side < 0:
        handle = ellipse(-(half - 0.06), (top + 1) / 2, reach, drop, start=80, stop=280, n=24)
    parts = [Part("body", handle, rng.uniform(0.12, 0.18))]
    low = half - taper
    wall = bezier(
        (-half, top), (-half, 0), (-low, 0.5), (-low, 0.82), (-low, 0.98), (-low * 0.8, 1),
        (-low * 0.6, 1), (0, 1.02), (0, 1.02), (low * 0.6, 1), (low * 0.8, 1), (low, 0.98),
        (low, 0.82), (low, 0.5), (half, 0), (half, top),
    )  # fmt: skip
    parts.append(Part("body", wall))
    parts += mug_pattern(rng, low, top)
    parts.append(Part("accent", ellipse(0, top, half, lip)))
    parts.append(Part("dark", ellipse(0, top + 0.02, half * 0.86, lip * 0.72)))
    if chance(rng, 0.5):
        for x in (-0.2, 0.05, 0.28)[: int(rng.integers(2, 4))]:
            steam = [(x, top - 0.12), (x + 0.08, top - 0.25), (x - 0.06, top - 0.38),
                     (x + 0.03, top - 0.52)]  # fmt: skip
            parts.append(Part("accent", smooth(steam, closed=False), 0.05))
    return parts


def mug_pattern(rng: Rng, half: float, top: float) -> Figure:
    """What is printed on the mug: a band, dots, a disc or nothing."""
    kind = rng.integers(4)
    middle = (top + 1) / 2 + 0.08
    if kind == 0:
        return [Part("second", box(-half, middle - 0.14, half, middle + 0.14))]
    if kind == 1:
        spots = [(-0.3, -0.2), (0.05, -0.1), (0.32, -0.22), (-0.15, 0.2), (0.22, 0.22)]
        return [Part("second", ellipse(x, middle + y, 0.09, 0.09, n=18)) for x, y in spots]
    if kind == 2:
        return [Part("second", ellipse(0, middle, 0.24, 0.24))]
    return []


def key(rng: Rng) -> Figure:
    bow, thick = rng.uniform(0.3, 0.4), rng.uniform(0.14, 0.2)
    start = -1 + bow
    shaft = rng.uniform(0.14, 0.2)
    kind = rng.random()
    parts: Figure = []
    if kind < 0.45:
        parts.append(Part("body", ring(start, 0, bow, bow * rng.uniform(0.9, 1.25)), thick))
    elif kind < 0.65:
        for angle in (90, 180, 270):
            x, y = bow * 0.72 * np.cos(np.radians(angle)), bow * 0.9 * np.sin(np.radians(angle))
            parts.append(Part("body", ring(start + x, y, bow * 0.55, bow * 0.55), thick * 0.9))
    elif kind < 0.85:
        loop = rounded(box(start - bow, -bow, start + bow, bow), 0.12)
        parts.append(Part("body", np.concatenate([loop, loop[:2]]), thick))
    else:
        parts.append(Part("body", ring(start, 0, bow * 0.75, bow * 0.75), bow * 0.75))
    parts.append(Part("body", polygon((start + bow * 0.9, 0), (0.94, 0)), shaft))
    n, length = int(rng.integers(2, 4)), rng.uniform(0.28, 0.42)
    for i, x in enumerate(np.linspace(0.9, 0.9 - 0.2 * (n - 1), n)):
        tooth = length * (1.0 if i % 2 == 0 else rng.uniform(0.55, 1.0))
        parts.append(Part("body", box(x - 0.065, 0, x + 0.065, tooth + 0.06)))
    if chance(rng, 0.4):
        x = start + bow + thick * 0.8
        parts.append(Part("accent", box(x, -shaft * 0.95, x + 0.09, shaft * 0.95, radius=0.03)))
    return parts


def car(rng: Rng) -> Figure:
    kind = rng.random()
    belt, floor = rng.uniform(-0.05, 0.05), 0.48
    if kind < 0.4:
        shape, cabin = sedan(rng, belt, floor)
    elif kind < 0.7:
        shape, cabin = beetle(belt, floor)
    else:
        shape, cabin = van(rng, belt, floor)
    parts = [Part("body", shape), Part("accent", cabin)]
    middle = float(cabin[:, 0].mean())
    top = float(cabin[:, 1].min())
    parts.append(Part("body", polygon((middle, top - 0.03), (middle, belt + 0.03)), 0.08))
    if chance(rng, 0.5):
        parts.append(Part("second", polygon((-0.86, 0.24), (0.86, 0.24)), 0.07))
    parts.append(Part("dark", polygon((middle + 0.06, belt + 0.14), (middle + 0.2, belt + 0.14)),
                      0.045))  # fmt: skip
    parts.append(Part("accent", ellipse(-0.9, 0.16, 0.07, 0.09, n=18)))
    radius = rng.uniform(0.2, 0.26)
    for x in (-0.55, 0.55):
        parts.append(Part("dark", ellipse(x, floor, radius, radius)))
    for x in (-0.55, 0.55):
        parts.append(Part("accent", ellipse(x, floor, radius * 0.45, radius * 0.45, n=20)))
    return parts


def sedan(rng: Rng, belt: float, floor: float) -> tuple[Points, Points]:
    high = rng.uniform(0.38, 0.5)
    shape = rounded([(-1, floor), (-0.98, belt + 0.08), (-0.55, belt), (-0.28, belt - high),
                     (0.35, belt - high), (0.66, belt), (0.98, belt + 0.04), (1, floor)],
                    0.14)  # fmt: skip
    cabin = rounded([(-0.42, belt), (-0.22, belt - high + 0.1), (0.3, belt - high + 0.1),
                     (0.5, belt)], 0.05)  # fmt: skip
    return shape, cabin


def beetle(belt: float, floor: float) -> tuple[Points, Points]:
    shape = bezier(
        (-1, floor), (-1.02, 0.1), (-0.85, belt), (-0.55, belt - 0.02),
        (-0.45, -0.45), (-0.1, -0.56), (0.1, -0.55),
        (0.6, -0.5), (0.95, -0.1), (1, floor), (0.5, floor), (-0.5, floor), (-1, floor),
    )  # fmt: skip
    cabin = bezier(
        (-0.42, belt), (-0.35, -0.3), (-0.1, -0.44), (0.08, -0.44),
        (0.35, -0.42), (0.55, -0.2), (0.6, belt), (0.3, belt), (-0.2, belt), (-0.42, belt),
    )  # fmt: skip
    return shape, cabin


def van(rng: Rng, belt: float, floor: float) -> tuple[Points, Points]:
    top = -rng.uniform(0.5, 0.62)
    shape = rounded([(-1, floor), (-1, belt + 0.02), (-0.72, top), (0.98, top), (1, floor)], 0.15)
    cabin = rounded([(-0.78, belt), (-0.6, top + 0.12), (0.85, top + 0.12), (0.85, belt)], 0.06)
    return shape, cabin


def flower(rng: Rng) -> Figure:
    parts: Figure = []
    has_stem = chance(rng, 0.85)
    cy = -0.38 if has_stem else 0.0
    if has_stem:
        sway = rng.uniform(-0.2, 0.2)
        stem = smooth([(0, cy), (sway, 0.35), (0.3 * sway, 1.0)], closed=False)
        parts.append(Part("second", stem, rng.uniform(0.07, 0.1)))
        for side in (-1, 1)[: int(rng.integers(1, 3))]:
            leaf = smooth([(0, 0), (0.2, -0.17), (0.52, -0.14), (0.3, 0.05)]) * (side, 1)
            parts.append(Part("second", shifted(leaf, sway * 0.7, rng.uniform(0.5, 0.8))))
    if has_stem and chance(rng, 0.22):
        return parts + tulip(rng)
    n = int(rng.choice([5, 5, 6, 7, 8, 10]))
    reach = rng.uniform(0.36, 0.42)
    wide = reach * min(1.0, 2.9 / n) * rng.uniform(0.9, 1.15)
    long = rng.uniform(0.3, 0.36)
    for angle in np.arange(n) * 360 / n + rng.uniform(0, 40):
        petal = smooth([(0.06, 0), (reach, -wide * 0.9), (reach + long * 0.85, -wide * 0.45),
                        (reach + long, 0), (reach + long * 0.85, wide * 0.45),
                        (reach, wide * 0.9)])  # fmt: skip
        parts.append(Part("body", rotate(petal, angle) * 0.9 + (0, cy)))
    parts.append(Part("accent", ellipse(0, cy, *[rng.uniform(0.17, 0.25)] * 2)))
    if chance(rng, 0.4):
        parts += [
            Part("dark", ellipse(x, cy + y, 0.025, 0.025, n=8))
            for x, y in rng.uniform(-0.1, 0.1, (6, 2))
        ]
    return parts


def tulip(rng: Rng) -> Figure:
    high = rng.uniform(0.85, 1.0)
    cup = bezier(
        (0, 0.05), (-0.5, 0.0), (-0.55, -0.5), (-0.48, -high),
        (-0.35, -high + 0.1), (-0.25, -0.6), (-0.22, -0.58),
        (-0.15, -0.75), (-0.05, -high), (0, -high),
        (0.05, -high), (0.15, -0.75), (0.22, -0.58),
        (0.25, -0.6), (0.35, -high + 0.1), (0.48, -high),
        (0.55, -0.5), (0.5, 0.0), (0, 0.05),
    )  # fmt: skip
    crease = smooth([(-0.22, -0.56), (-0.2, -0.3), (-0.05, -0.05)], closed=False)
    return [
        Part("body", cup),
        Part("dark", crease, 0.03),
        Part("dark", crease * (-1, 1), 0.03),
    ]


def boat(rng: Rng) -> Figure:
    rail, bow = rng.uniform(0.42, 0.5), rng.uniform(0.1, 0.2)
    hull = bezier(
        (-0.95, rail), (-0.4, rail + 0.05), (0.4, rail + 0.05), (1, rail - bow),
        (0.95, 0.75), (0.75, 0.95), (0.6, 1),
        (0.2, 1.02), (-0.2, 1.02), (-0.6, 1), (-0.8, 0.9), (-0.9, 0.7), (-0.95, rail),
    )  # fmt: skip
    parts = steamer(rng, rail) if chance(rng, 0.3) else sails(rng, rail)
    parts.append(Part("body", hull))
    if chance(rng, 0.5):
        parts.append(Part("accent", polygon((-0.88, rail + 0.16), (0.86, rail + 0.13)), 0.07))
    if chance(rng, 0.45):
        x = np.linspace(-1.1, 1.1, 23)
        wave = np.stack([x, 1.02 + 0.05 * np.sin(x * rng.uniform(9, 12))], axis=1)
        parts.append(Part("second", wave, 0.08))
    return parts


def sails(rng: Rng, rail: float) -> Figure:
    """A mast with one or two billowing sails and perhaps a flag."""
    mast, top = rng.uniform(-0.15, 0.1), -1.0
    bulge, back = rng.uniform(0.0, 0.2), rng.uniform(0.55, 0.75)
    main = bezier(
        (mast + 0.06, top + 0.08), (mast + 0.3, -0.5), (mast + back, 0.0 + bulge),
        (mast + back, rail - 0.16), (mast + 0.4, rail - 0.1), (mast + 0.2, rail - 0.1),
        (mast + 0.06, rail - 0.12),
    )  # fmt: skip
    parts = [Part("dark", polygon((mast, top), (mast, rail + 0.1)), 0.065)]
    parts.append(Part("accent", main))
    if chance(rng, 0.75):
        front = rng.uniform(0.5, 0.7)
        jib = bezier(
            (mast - 0.06, top + 0.22), (mast - 0.15, -0.4), (mast - front * 0.7, 0.1),
            (mast - front, rail - 0.14), (mast - 0.4, rail - 0.1), (mast - 0.2, rail - 0.1),
            (mast - 0.06, rail - 0.12),
        )  # fmt: skip
        parts.append(Part("second" if chance(rng, 0.5) else "accent", jib))
    if chance(rng, 0.5):
        flag = polygon((mast, top - 0.04), (mast - 0.28, top + 0.05), (mast, top + 0.14))
        parts.append(Part("second", flag))
    return parts


def steamer(rng: Rng, rail: float) -> Figure:
    """Cabin, portholes, funnel and smoke."""
    funnel, top = rng.uniform(-0.1, 0.25), rng.uniform(-0.45, -0.3)
    parts = [Part("second", box(funnel - 0.14, top, funnel + 0.14, 0.1))]
    parts.append(Part("dark", box(funnel - 0.14, top + 0.04, funnel + 0.14, top + 0.16)))
    if chance(rng, 0.6):
        puffs = np.array([[-0.12, -0.12, 0.13], [-0.32, -0.26, 0.17], [-0.6, -0.34, 0.2]])
        parts += [Part("accent", ellipse(funnel + x, top + y, r, r)) for x, y, r in puffs]
    parts.append(Part("accent", box(-0.6, 0.05, 0.55, rail + 0.12, radius=0.05)))
    for x in (-0.4, -0.13, 0.14, 0.4)[: int(rng.integers(3, 5))]:
        parts.append(Part("dark", ellipse(x, 0.25, 0.08, 0.08, n=18)))
    return parts


def moon(rng: Rng) -> Figure:
    tip, inner = np.radians(rng.uniform(38, 68)), rng.uniform(-0.5, -0.05)
    cx = (1 - inner**2) / (2 * (np.cos(tip) - inner))
    radius = cx - inner
    edge = np.degrees(np.arctan2(np.sin(tip), np.cos(tip) - cx))
    outer = ellipse(0, 0, 1, 1, start=np.degrees(tip), stop=360 - np.degrees(tip), n=56)
    bite = ellipse(cx, 0, radius, radius, start=360 - edge, stop=edge, n=40)
    parts = [Part("body", np.concatenate([outer, bite]))]
    extra = rng.random()
    middle = (inner - 1) / 2
    if extra < 0.3:
        parts.append(Part("dark", ellipse(middle + 0.02, -0.2, 0.05, 0.08, n=16)))
        smile = ellipse(middle - 0.02, 0.18, 0.2, 0.16, start=10, stop=120, n=12)
        parts.append(Part("dark", smile, 0.04))
    elif extra < 0.6:
        for x, y, r in ((0, -0.1, 0.11), (0.02, 0.3, 0.08), (0.13, -0.5, 0.07)):
            parts.append(Part("accent", ellipse(middle + x, y, r, r, n=20)))
    return parts


def bell(rng: Rng) -> Figure:
    shoulder, waist = rng.uniform(0.32, 0.46), rng.uniform(0.42, 0.55)
    mouth, low = rng.uniform(0.78, 0.95), 0.62
    half = bezier(
        (0, -0.8), (shoulder * 0.8, -0.8), (shoulder * 1.2, -0.62), (waist, -0.2),
        (waist + 0.08, 0.2), (mouth * 0.78, 0.42), (mouth, low),
        (mouth * 0.6, low + 0.07), (mouth * 0.3, low + 0.09), (0, low + 0.09),
    )  # fmt: skip
    clapper = rng.uniform(0.14, 0.2)
    parts = [Part("dark", ellipse(0, low + 0.14, clapper, clapper * 1.1))]
    if chance(rng, 0.3):
        parts.append(Part("second", polygon((0, -0.8), (0, -1.25)), rng.uniform(0.16, 0.22)))
        parts.append(Part("second", ellipse(0, -1.28, 0.15, 0.13)))
    else:
        parts.append(Part("second", ring(0, -0.9, 0.13, 0.14), 0.08))
    parts.append(Part("body", mirrored(half)))
    if chance(rng, 0.6):
        y = rng.uniform(0.38, 0.44)
        band = smooth([(-mouth * 0.74, y), (0, y + 0.09), (mouth * 0.74, y)], closed=False)
        parts.append(Part("accent", band, rng.uniform(0.06, 0.12)))
    if chance(rng, 0.4):
        shine = smooth([(-0.22, -0.55), (-0.3, -0.25), (-0.38, 0.05)], closed=False)
        parts.append(Part("accent", shine, 0.07))
    if chance(rng, 0.3):
        bow = smooth([(0, -0.78), (0.35, -1.05), (0.45, -0.78), (0.35, -0.58)])
        parts += [Part("second", bow), Part("second", bow * (-1, 1))]
    return parts


def apple(rng: Rng) -> Figure:
    wide, dip = rng.uniform(0.85, 1.0), rng.uniform(-0.62, -0.52)
    half = bezier(
        (0, dip), (0.2, dip - 0.28), (wide, -0.95), (wide, -0.12),
        (wide, 0.45), (0.58, 0.98), (0.28, 0.94), (0.16, 0.92), (0.1, 0.86), (0, 0.86),
    )  # fmt: skip
    lean = rng.uniform(-0.2, 0.2)
    stem = smooth([(0, dip + 0.1), (lean * 0.4, dip - 0.2), (lean, dip - 0.46)], closed=False)
    parts = [Part("dark", stem, rng.uniform(0.08, 0.11))]
    outline = mirrored(half)
    parts.append(Part("body", outline))
    if chance(rng, 0.8):
        leaf = smooth([(0, 0), (0.18, -0.2), (0.5, -0.24), (0.34, 0.02)])
        side = -1 if lean > 0 else 1
        parts.append(Part("second", leaf * (side, 1) + (0.03 * side, dip - 0.1)))
    if chance(rng, 0.5):
        shine = ellipse(-wide * 0.5, -0.2, 0.18, 0.3, start=150, stop=250, n=12)
        parts.append(Part("accent", shine, 0.09))
    parts.append(Part("dark", ellipse(0, dip - 0.03, 0.2, 0.12, start=20, stop=160, n=12), 0.04))
    return parts


_DRAWERS: dict[str, Callable[[Rng], Figure]] = {
    drawer.__name__: drawer
    for drawer in (
        apple, arrow, bell, boat, car, cloud, fish, flower,
        heart, house, key, moon, mug, star, tree, umbrella,
    )
}  # fmt: skip

CLASS_NAMES: tuple[str, ...] = tuple(sorted(_DRAWERS))


def draw_figure(name: str, rng: Rng) -> Figure:
    """A new figure of the named class, fitted into the square from -1 to 1."""
    return fitted(_DRAWERS[name](rng))


def fitted(figure: Figure) -> Figure:
    """The figure centred and scaled so that its longer side spans -1 to 1."""
    reach = [
        edge
        for part in figure
        for edge in (part.points - (part.width or 0) / 2, part.points + (part.width or 0) / 2)
    ]
    points = np.concatenate(reach)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = 2.0 / float((high - low).max())
    return [
        replace(
            part,
            points=(part.points - (low + high) / 2) * scale,
            width=None if part.width is None else part.width * scale,
        )
        for part in figure
    ]
