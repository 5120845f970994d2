"""Smooth outlines and poses: the geometry under every demo figure.

Outlines are arrays of shape (n, 2) in figure units, x to the right and y down. A figure fills the
square from -1 to 1; a `Pose` carries it onto a canvas. Curves are sampled finely enough for a
canvas of about 400 pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Points = np.ndarray
XY = tuple[float, float]


def polygon(*points: XY) -> Points:
    """Corner points as an outline."""
    return np.array(points, dtype=float)


def ellipse(
    cx: float,
    cy: float,
    rx: float,
    ry: float,
    *,
    start: float = 0.0,
    stop: float = 360.0,
    tilt: float = 0.0,
    n: int = 40,
) -> Points:
    """Points on an ellipse from angle `start` to `stop`, tilted; angles in degrees."""
    angle = np.radians(np.linspace(start, stop, n))
    points = np.stack([rx * np.cos(angle), ry * np.sin(angle)], axis=1)
    return shifted(rotate(points, tilt), cx, cy)


def bezier(*points: XY, n: int = 14) -> Points:
    """Points on a chain of cubic Bézier curves: start, control, control, end, control, ..."""
    nodes = np.array(points, dtype=float)
    t = np.linspace(0.0, 1.0, n)[:, None]
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    pieces = [
        sum(w * nodes[i + k] for k, w in enumerate(weights)) for i in range(0, len(nodes) - 1, 3)
    ]
    return np.concatenate(pieces)


def smooth(points: Sequence[XY] | Points, *, closed: bool = True, n: int = 8) -> Points:
    """A Catmull-Rom curve through the points."""
    nodes = np.asarray(points, dtype=float)
    if closed:
        padded = np.concatenate([nodes[-1:], nodes, nodes[:2]])
    else:
        padded = np.concatenate([nodes[:1], nodes, nodes[-1:]])
    p0, p1, p2, p3 = (padded[k : len(padded) - 3 + k, None] for k in range(4))
    t = np.linspace(0.0, 1.0, n, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, nodes[-1:]])


def rounded(points: Sequence[XY] | Points, radius: float, *, n: int = 6) -> Points:
    """The closed polygon with its corners rounded; `radius` is cut to half the shorter side."""
    nodes = np.asarray(points, dtype=float)
    before = np.roll(nodes, 1, axis=0) - nodes
    after = np.roll(nodes, -1, axis=0) - nodes
    length_before = np.hypot(before[:, 0], before[:, 1])[:, None] + 1e-9
    length_after = np.hypot(after[:, 0], after[:, 1])[:, None] + 1e-9
    cut = np.minimum(radius, 0.5 * np.minimum(length_before, length_after))
    start = (nodes + before / length_before * cut)[:, None]
    stop = (nodes + after / length_after * cut)[:, None]
    t = np.linspace(0.0, 1.0, n)[None, :, None]
    curve: Points = (1 - t) ** 2 * start + 2 * t * (1 - t) * nodes[:, None] + t**2 * stop
    return curve.reshape(-1, 2)


def mirrored(half: Points) -> Points:
    """A closed outline symmetric about x = 0, from its right half (top to bottom)."""
    return np.concatenate([half, half[::-1] * (-1, 1)])


def union(circles: Points, *, centre: XY = (0.0, 0.0), n: int = 120) -> Points:
    """Outline of a union of circles (rows x, y, radius), seen as rays from `centre`.

    Exact where the union is star-shaped about the centre, which must lie in one of the circles.
    """
    angle = np.linspace(0.0, 2 * np.pi, n, endpoint=False)
    ray = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    offset = circles[:, :2] - centre
    along = ray @ offset.T
    inside = along**2 - (offset**2).sum(axis=1) + circles[:, 2] ** 2
    reach = np.where(inside >= 0, along + np.sqrt(np.maximum(inside, 0)), 0.0).max(axis=1)
    outline: Points = ray * reach[:, None] + centre
    return outline


def shifted(points: Points, dx: float, dy: float) -> Points:
    """The points moved by (dx, dy)."""
    moved: Points = np.add(points, (dx, dy))
    return moved


def rotate(points: Points, degrees: float, *, about: XY = (0.0, 0.0)) -> Points:
    """The points turned about a centre."""
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    turned: Points = (points - about) @ turn + about
    return turned


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where and how a figure stands on the canvas; `scale` is half its size in pixels."""

    centre: XY
    scale: float
    rotation: float = 0.0
    is_mirrored: bool = False
    shear: float = 0.0
    perspective: XY = (0.0, 0.0)

    def place(self, points: Points) -> Points:
        """Points in figure units carried to pixels."""
        x = -points[:, 0] if self.is_mirrored else points[:, 0]
        y = points[:, 1]
        depth = 1.0 + self.perspective[0] * x + self.perspective[1] * y
        tilted = np.stack([(x + self.shear * y) / depth, y / depth], axis=1)
        return rotate(tilted, self.rotation) * self.scale + self.centre
