"""One picture-book page: a figure in a scene, with the accidents of a real picture.

Pages are painted at twice the final size and reduced. About one page in fourteen is hard on
purpose: tiny, blurred, pale, cut off by the border or largely covered.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deft_core.demo.canvas import (
    FILL_KINDS,
    Colour,
    Fill,
    Outline,
    cloudy,
    distance,
    figure_mask,
    jittered,
    linear_ramp,
    make_fill,
    paint_figure,
    radial_ramp,
    shaded,
)
from deft_core.demo.figures import CLASS_NAMES, Figure, draw_figure
from deft_core.demo.outlines import Pose, ellipse, rotate, smooth
from deft_core.demo.scenery import (
    PALETTES,
    Palette,
    hexes,
    leaf_outline,
    paint_background,
    paint_clutter,
    pick,
)

Rng = np.random.Generator

SIZE = 192
_CANVAS = 2 * SIZE
_HARD = ("tiny", "blurred", "pale", "cut", "covered")
_HARD_SHARE = 0.07

_NATURAL = {
    "apple": hexes("c1272d d64045 8db33a e8b53a"),
    "arrow": hexes("d1495b 2f6690 e07a5f 3a7d44"),
    "bell": hexes("e0a526 d4a017 c98a1b b5651d"),
    "boat": hexes("b23a48 2f6690 8c5e3c 3a7d44"),
    "car": hexes("c1272d 2a6f97 e9a820 4f9d69 e07a5f"),
    "cloud": hexes("ffffff eef4fa cfdce8 9fb3c8"),
    "fish": hexes("f08a24 3d8fb5 e05a47 7a9e3f"),
    "flower": hexes("e0569b e63946 f2b134 8e5bb5 ffffff"),
    "heart": hexes("d62839 e0406a b3153c f06b8b"),
    "house": hexes("d98b5f e8c77a b5533c 9fb8ad c9b79c"),
    "key": hexes("c99a2e a8741a 8d99ae 6b705c"),
    "moon": hexes("f6d55c ffe8a3 f4c542 e8e4d0"),
    "mug": hexes("2f6690 c1272d e9c46a 4f9d69 ffffff"),
    "star": hexes("f6c32c ffb703 ffe066 f28f3b"),
    "tree": hexes("2d6a4f 52934a 7aa33a 3f7d3a c96f2a"),
    "umbrella": hexes("d62839 6a4c93 1982c4 f2a03d"),
}
_COMPANIONS = {
    "tree": hexes("6b4423 8a5a35 5a3d2b"),
    "flower": hexes("3a7d44 5a9a48 2d6a4f"),
    "apple": hexes("3a7d44 6a994e"),
    "house": hexes("a63d2f 5c4742 34495e 7a4b2a"),
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page is going to be, drawn before any painting."""

    palette: Palette
    hard: str | None
    pose: Pose


def paint_picture(name: str, rng: Rng) -> Image.Image:
    """A new page showing the named class, SIZE x SIZE pixels, RGB."""
    page = plan_page(rng)
    image = paint_background(rng, _CANVAS, page.palette)
    paint_clutter(rng, image, page.palette)
    if page.hard is None and rng.random() < 0.3:
        paint_bystanders(rng, image, page, shown=name)
    figure = draw_figure(name, rng)
    behind = colour_behind(image, page.pose)
    fills, outline = dress(rng, name, page, behind)
    paint_shadow(rng, image, figure, page.pose)
    paint_figure(image, figure, pose=page.pose, fills=fills, outline=outline)
    if page.hard == "covered" or rng.random() < 0.15:
        cover(rng, image, page)
    return finish(rng, image.reduce(2), page)


def plan_page(rng: Rng) -> Page:
    """Palette, difficulty and pose of a page."""
    hard = str(rng.choice(_HARD)) if rng.random() < _HARD_SHARE else None
    scale = rng.uniform(0.24, 0.41)
    room = 0.52 - scale * 0.95
    if hard == "tiny":
        scale, room = rng.uniform(0.075, 0.1), 0.33
    x, y = 0.5 + rng.uniform(-room, room, 2)
    if hard == "cut":
        scale = rng.uniform(0.36, 0.48)
        x, y = rotate(np.array([[0.4, 0.0]]), rng.uniform(0, 360))[0] + 0.5
    turn = rng.normal(0, 9) if rng.random() < 0.8 else rng.uniform(-40, 40)
    tilt = rng.uniform(-0.22, 0.22, 2) if rng.random() < 0.4 else (0.0, 0.0)
    pose = Pose(
        centre=(x * _CANVAS, y * _CANVAS),
        scale=scale * _CANVAS,
        rotation=float(turn),
        is_mirrored=bool(rng.random() < 0.5),
        shear=float(rng.uniform(-0.2, 0.2)) if rng.random() < 0.4 else 0.0,
        perspective=(float(tilt[0]), float(tilt[1])),
    )
    return Page(palette=PALETTES[int(rng.integers(len(PALETTES)))], hard=hard, pose=pose)


def colour_behind(image: Image.Image, pose: Pose) -> Colour:
    """The mean colour where the figure will stand."""
    x, y = pose.centre
    half = pose.scale * 0.9
    crop = (max(0, x - half), max(0, y - half), min(_CANVAS, x + half), min(_CANVAS, y + half))
    mean = np.asarray(image.resize((1, 1), Image.Resampling.BOX, box=crop))
    r, g, b = (int(level) for level in mean[0, 0])
    return (r, g, b)


def contrasting(
    rng: Rng, candidates: tuple[Colour, ...], *, against: tuple[Colour, ...], least: float
) -> Colour:
    """A random candidate at least this far from all the others, else the farthest one."""
    order = [candidates[i] for i in rng.permutation(len(candidates))]
    gaps = [min(distance(colour, other) for other in against) for colour in order]
    for colour, gap in zip(order, gaps, strict=True):
        if gap >= least:
            return colour
    return order[int(np.argmax(gaps))]


def dress(
    rng: Rng, name: str, page: Page, behind: Colour
) -> tuple[dict[str, Fill], Outline | None]:
    """Fills by role and the outline: the figure's clothes."""
    colours = page.palette.colours
    wanted = _NATURAL[name] if rng.random() < (0.85 if name == "cloud" else 0.6) else colours
    if page.hard == "pale":
        shift = 0.3 if sum(behind) < 420 else -0.17
        body = jittered(rng, shaded(behind, shift), amount=4)
        tones = {"second": shaded(behind, shift * 0.6), "accent": shaded(behind, shift * 1.3)}
        return {"body": body, "dark": shaded(behind, -0.25), **tones}, None
    body = jittered(rng, contrasting(rng, wanted, against=(behind,), least=170))
    if distance(body, behind) < 120:
        body = contrasting(
            rng, (*colours, page.palette.ink, (250, 246, 236)), against=(behind,), least=200
        )
    companions = _COMPANIONS.get(name, ()) if rng.random() < 0.85 else ()
    second = contrasting(rng, companions or colours, against=(body, behind), least=110)
    lights = (*hexes("fff6e0 ffe29a ffffff fbe3d6 d8ecf5"), *colours)
    accent = contrasting(rng, lights, against=(body,), least=150)
    dark = page.palette.ink
    if distance(dark, body) < 130:
        dark = (245, 238, 220)
    kind = str(rng.choice(FILL_KINDS, p=[0.3, 0.17, 0.08, 0.07, 0.1, 0.18, 0.1]))
    calm = kind if kind in ("watercolour", "crayon", "gradient") else "flat"
    fills: dict[str, Fill] = {
        "body": make_fill(rng, kind, size=_CANVAS, colour=body),
        "second": make_fill(rng, calm, size=_CANVAS, colour=second),
        "accent": accent,
        "dark": dark,
    }
    return fills, choose_outline(rng, page, behind, body=body, dark=dark)


def choose_outline(
    rng: Rng, page: Page, behind: Colour, *, body: Colour, dark: Colour
) -> Outline | None:
    """Ink, a pale sticker rim, a darker shade of the body, or no outline."""
    kind = rng.random()
    needs_rim = distance(dark, behind) < 150
    if needs_rim or kind < 0.12:
        rim = (250, 246, 236) if distance(behind, (250, 246, 236)) > 150 else page.palette.ink
        return Outline(colour=rim, width=float(rng.uniform(2.5, 5.0)))
    if kind < 0.5:
        return Outline(colour=page.palette.ink, width=float(rng.uniform(1.5, 4.5)))
    if kind < 0.65:
        return Outline(colour=shaded(body, -0.45), width=float(rng.uniform(2.0, 4.0)))
    return None


def paint_shadow(rng: Rng, image: Image.Image, figure: Figure, pose: Pose) -> None:
    """Sometimes a soft or a printed shadow under the figure."""
    kind = rng.random()
    if kind > 0.35:
        return
    offset = rng.uniform(4, 12)
    moved = Pose(
        centre=(pose.centre[0] + offset, pose.centre[1] + offset),
        scale=pose.scale,
        rotation=pose.rotation,
        is_mirrored=pose.is_mirrored,
        shear=pose.shear,
        perspective=pose.perspective,
    )
    mask = figure_mask(figure, size=_CANVAS, pose=moved)
    if kind < 0.25:
        mask = mask.reduce(4).filter(ImageFilter.GaussianBlur(1.6)).resize(mask.size)
    image.paste((30, 26, 40), (0, 0), mask.point(lambda level: int(level * 0.35)))


def paint_bystanders(rng: Rng, image: Image.Image, page: Page, *, shown: str) -> None:
    """One or two far smaller figures of other classes, away from the main one."""
    others = [name for name in CLASS_NAMES if name != shown]
    for _ in range(int(rng.integers(1, 3))):
        scale = rng.uniform(0.05, 0.08) * _CANVAS
        spots = rng.uniform(0.1, 0.9, (6, 2)) * _CANVAS
        gaps = np.hypot(*(spots - page.pose.centre).T)
        x, y = spots[int(np.argmax(gaps))]
        pose = Pose(centre=(float(x), float(y)), scale=scale, rotation=float(rng.normal(0, 15)))
        tones = [shaded(pick(rng, page.palette.colours), rng.uniform(0, 0.35)) for _ in range(3)]
        fills: dict[str, Fill] = dict(zip(("body", "second", "accent"), tones, strict=True))
        fills["dark"] = page.palette.ink
        paint_figure(image, draw_figure(str(rng.choice(others)), rng), pose=pose, fills=fills)


def cover(rng: Rng, image: Image.Image, page: Page) -> None:
    """Something in front of the figure: a leaf, a blot or a strip of paper tape."""
    heavy = page.hard == "covered"
    away = rng.uniform(0.45, 0.6) if heavy else rng.uniform(0.75, 1.0)
    reach = page.pose.scale * (rng.uniform(0.55, 0.7) if heavy else rng.uniform(0.2, 0.32))
    turn = rng.uniform(0, 360)
    x, y = rotate(np.array([[away * page.pose.scale, 0]]), turn)[0] + page.pose.centre
    tone = shaded(pick(rng, page.palette.colours), rng.uniform(-0.2, 0.3))
    kind, strength = int(rng.integers(3)), 255
    if kind == 0:
        shape = rotate(leaf_outline() * (1.7, 1.1), rng.uniform(0, 180))
    elif kind == 1:
        shape = smooth(ellipse(0, 0, 1, 1, n=9)[:-1] * rng.uniform(0.75, 1.2, (8, 1)))
    else:
        shape = rotate(tape_outline(rng, rng.uniform(2.2, 3.2)), turn + rng.uniform(-25, 25))
        strength = 255 if heavy else int(rng.integers(170, 235))
    mask = Image.new("L", image.size)
    outline = (shape * reach + (x, y)).ravel().tolist()
    ImageDraw.Draw(mask).polygon(outline, fill=strength)
    pattern = str(rng.choice(["flat", "stripes", "dots", "watercolour"]))
    image.paste(make_fill(rng, pattern, size=_CANVAS, colour=tone), (0, 0), mask)


def tape_outline(rng: Rng, half: float) -> np.ndarray:
    """A strip along y with torn, jagged ends."""
    x = np.linspace(-0.5, 0.5, 7)
    torn = half - 0.12 * (np.arange(7) % 2) + rng.uniform(-0.05, 0.05, 7)
    end = np.stack([x, torn], axis=1)
    return np.concatenate([end, -end])


def finish(rng: Rng, image: Image.Image, page: Page) -> Image.Image:
    """Blur, light, paper and grain over the reduced page."""
    if page.hard == "blurred":
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(3.5, 5.0))))
    elif rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 1.3))))
    pixels = np.asarray(image, dtype=np.float32)
    light = np.ones((SIZE, SIZE), dtype=np.float32)
    if rng.random() < 0.45:
        light *= 1 + rng.uniform(0.1, 0.4) * linear_ramp(SIZE, angle=rng.uniform(0, 360))
    if rng.random() < 0.35:
        light *= 1.04 - rng.uniform(0.2, 0.6) * radial_ramp(SIZE) ** 2
    if rng.random() < 0.6:
        fibre = np.asarray(cloudy(rng, SIZE, cells=SIZE * 2 // 3), dtype=np.float32)
        light *= 1 + rng.uniform(0.03, 0.12) * (fibre / 255 - 0.5)
    if page.hard == "pale":
        pixels = pixels * 0.7 + pixels.mean() * 0.3
    pixels = pixels * (light * rng.uniform(0.9, 1.06))[..., None]
    if rng.random() < 0.35:
        grain = rng.standard_normal((SIZE, SIZE), dtype=np.float32) * rng.uniform(2, 9)
        pixels += grain[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
