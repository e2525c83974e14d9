# SPDX-License-Identifier: Apache-2.0
"""Draw the two example scans of this folder. They are of nobody: shapes, gradients and noise.

    python examples/draw_examples.py [FOLDER]

Both are drawn in units of half the picture: x runs from -1 (left) to 1 (right), y from -1 (top) to
1 (bottom). Brightness runs from 0 (black) to 1 (white) until the last line of each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-1, 1, side)
    return axis[np.newaxis, :], axis[:, np.newaxis]


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, borders repeated; sigma in pixels."""
    radius = max(1, int(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for _ in range(2):
        padded = np.pad(image, ((radius, radius), (0, 0)), mode="edge")
        image = sum(w * padded[i : i + len(image)] for i, w in enumerate(kernel)).T
    return image


def clouds(rng: np.random.Generator, side: int, sigma: float) -> np.ndarray:
    """Smooth noise of unit variance."""
    noise = blur(rng.standard_normal((side, side)), sigma)
    return (noise - noise.mean()) / noise.std()


def ellipse(x, y, cx: float, cy: float, rx: float, ry: float, edge: float = 0.02, power: float = 2):
    """1 inside, 0 outside, with a soft edge; a power over 2 makes it squarer."""
    distance = (np.abs((x - cx) / rx) ** power + np.abs((y - cy) / ry) ** power) ** (1 / power)
    # The clip keeps exp in range; beyond it the value is 0 or 1 to the last bit that shows.
    return 1 / (1 + np.exp(np.clip((distance - 1) * np.minimum(rx, ry) / edge, -60, 60)))


def stroke(side: int, points: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """A line of 1 on 0 through `points` (x, y); widths are half widths."""
    x, y = grid(side)
    drawn = np.zeros((side, side))
    for (px, py), width in zip(points, widths):
        reach = 3 * width
        rows = slice(*np.searchsorted(y[:, 0], [py - reach, py + reach]))
        columns = slice(*np.searchsorted(x[0], [px - reach, px + reach]))
        squared = (x[:, columns] - px) ** 2 + (y[rows] - py) ** 2
        spot = np.exp(-((squared / width**2) ** 2))  # flat within, steep at the rim
        drawn[rows, columns] = np.maximum(drawn[rows, columns], spot)
    return drawn


def vessels(rng, side: int, start, angles, lengths, width: float, depth: int = 4) -> np.ndarray:
    """A tree that leaves `start` at each of `angles` and forks, thinner and thinner."""
    drawn = np.zeros((side, side))
    for angle in angles:
        length = rng.uniform(*lengths)
        bend = rng.uniform(-0.8, 0.8)
        t = np.linspace(0, 1, 60)
        heading = angle + bend * t
        steps = np.stack([np.cos(heading), np.sin(heading)], 1) * length / len(t)
        points = np.asarray(start) + np.cumsum(steps, 0)
        tree = stroke(side, points, width * (1 - 0.45 * t)) * min(1, 0.35 + width / 0.02)
        drawn = np.maximum(drawn, tree)
        if depth > 1:
            forks = angle + bend + rng.uniform(0.2, 0.7, 2) * [-1, 1]
            rest = vessels(
                rng, side, points[-1], forks, [0.7 * n for n in lengths], 0.6 * width, depth - 1
            )
            drawn = np.maximum(drawn, rest)
    return drawn


def draw_xray(side: int = 512, seed: int = 1) -> np.ndarray:
    """A frontal chest radiograph: dark lungs, bright heart, spine, ribs and diaphragm."""
    rng = np.random.default_rng(seed)
    x, y = grid(side)

    # Body: neck, shoulders out of the picture, and the dark of bare film beside it.
    slope = np.clip((y + 0.90) / 0.42, 0, 1)
    half_width = 0.27 + 0.80 * slope**2 * (3 - 2 * slope) - 0.14 * np.clip(y + 0.3, 0, 1)
    body = blur(1 / (1 + np.exp(np.clip((np.abs(x) - half_width) / 0.02, -60, 60))), 3)
    arm = ellipse(np.abs(x), y, 0.99, 0.45, 0.07, 0.75, 0.02)  # the gap between arm and chest
    image = 0.06 + body * (0.60 + 0.12 * np.exp(-((x / 0.5) ** 2)) - 0.06 * y * y)
    image -= 0.35 * arm * body

    # Lungs: narrow above, cut below by the domes of the diaphragm; the left gives way to the heart.
    lungs = np.zeros((side, side))
    for sign, centre, dome in ((-1, -0.42, 0.42), (1, 0.43, 0.50)):
        lung = ellipse(x, y, centre + 0.10 * sign * y, -0.02, 0.31 + 0.06 * y, 0.74, 0.012, 2.3)
        floor = dome + 1.6 * (x - centre + 0.06 * sign) ** 2
        lungs = np.maximum(lungs, lung / (1 + np.exp(np.clip((y - floor) / 0.012, -60, 60))))
    heart = np.maximum(
        ellipse(x, y, 0.12, 0.30, 0.34, 0.30, 0.03), ellipse(x, y, 0.02, 0.02, 0.17, 0.5, 0.03)
    )
    heart = np.maximum(heart, ellipse(x, y, 0.13, -0.22, 0.10, 0.09, 0.02))  # aortic arch
    lungs *= 1 - 0.93 * heart
    image -= 0.46 * blur(lungs, 1.5) * (0.95 - 0.2 * y)
    image += 0.10 * heart * body

    # Vessels fan out of both hila.
    for sign in (-1, 1):
        out = 0 if sign > 0 else np.pi
        angles = out + np.linspace(-1.3, 1.3, 12)
        tree = vessels(rng, side, (0.15 * sign, 0.0), angles, (0.08, 0.2), 0.016)
        image += 0.09 * blur(tree, 1.2) * lungs
        image += 0.12 * ellipse(x, y, 0.19 * sign, 0.02, 0.06, 0.13, 0.05) * lungs
    image += 0.025 * lungs * clouds(rng, side, 5)

    # Ribs: behind, bright bands that fall outwards; in front, fainter ones that fall inwards.
    t = np.linspace(0, 1, 200)
    for number in range(10):
        top = -0.76 + 0.14 * number
        reach = 0.30 + 0.40 * np.sin(np.pi * min(0.5, 0.12 + number * 0.07))
        for sign in (-1, 1):
            level = top - 0.13 * np.sin(2.2 * t) + 0.32 * t**3
            behind = np.stack([sign * (0.06 + reach * t), level], 1)
            level = top + 0.48 - 0.30 * t**1.3
            front = np.stack([sign * (0.26 + (reach - 0.20) * t), level], 1)
            for points, weight in ((behind, 0.10), (front, 0.05)):
                outer = stroke(side, points, np.full(len(t), 0.034))
                inner = stroke(side, points, np.full(len(t), 0.022))
                below = 1 / (1 + np.exp(np.clip((y - 0.62) / 0.05, -60, 60)))
                image += weight * blur(outer - 0.45 * inner, 1) * body * below
    for sign in (-1, 1):  # collar bones, and the edges of the shoulder blades
        line = np.stack([sign * (0.08 + 0.72 * t), -0.62 - 0.13 * t + 0.03 * np.sin(6 * t)], 1)
        bone = stroke(side, line, np.full(len(t), 0.04))
        image += 0.13 * (bone - 0.4 * stroke(side, line, np.full(len(t), 0.026))) * body
        line = np.stack([sign * (0.76 - 0.06 * np.sin(3 * t)), -0.55 + 0.6 * t], 1)
        image += 0.05 * blur(stroke(side, line, np.full(len(t), 0.05)), 2) * body

    # Spine with its discs, and the dark windpipe before it.
    spine = np.exp(-((x / 0.075) ** 2)) * body
    image += spine * (0.07 + 0.025 * np.cos(2 * np.pi * y / 0.15))
    image -= 0.10 * ellipse(x, y, -0.01, -0.68, 0.038, 0.28, 0.012)

    # Below the diaphragm: the belly, with the gas of the stomach under the left dome.
    image -= 0.10 * ellipse(x, y, 0.42, 0.70, 0.16, 0.07, 0.03) * body
    image += 0.03 * body * clouds(rng, side, 24) + 0.008 * clouds(rng, side, 1.2)
    image = blur(image, 0.7) + 0.012 * rng.standard_normal((side, side)) * (0.3 + body)
    return np.uint8(np.clip(255 * image, 0, 255))


def draw_ct(side: int = 400, seed: int = 2) -> np.ndarray:
    """An axial slice through the chest in a lung window: soft tissue bright, air dark."""
    rng = np.random.default_rng(seed)
    x, y = grid(side)
    air, lung, fat, soft, bone = 0.02, 0.17, 0.70, 0.80, 0.97

    image = np.full((side, side), air)
    table = ellipse(x, y, 0, 1.42, 1.15, 0.72, 0.01) - ellipse(x, y, 0, 1.47, 1.15, 0.72, 0.01)
    image += 0.45 * np.clip(table, 0, 1)

    wobble = 1 + 0.015 * clouds(rng, side, 40)
    body = ellipse(x * wobble, y, 0, 0.02, 0.93, 0.66, 0.006, 2.5)
    image += (fat - image) * body
    wall = ellipse(x * wobble, y, 0, 0.03, 0.86, 0.59, 0.008, 2.4)
    image += (soft - image) * wall

    cavity = ellipse(x, y, 0, 0.00, 0.77, 0.49, 0.006, 2.4)
    middle = np.maximum(
        ellipse(x, y, 0.09, -0.12, 0.24, 0.27, 0.008), ellipse(x, y, 0.0, 0.22, 0.13, 0.34, 0.008)
    )
    middle = np.maximum(middle, ellipse(x, y, 0.02, -0.42, 0.07, 0.16, 0.008))
    lungs = cavity * (1 - middle)
    image += (lung - image) * lungs
    image += 0.02 * lungs * clouds(rng, side, 6) + 0.05 * lungs * (y + 0.1)

    # Vessels leave both hila towards the wall; some are cut across and show as dots.
    tree = np.zeros((side, side))
    for sign in (-1, 1):
        out = 0 if sign > 0 else np.pi
        hilum = (0.20 * sign + 0.03, 0.08)
        tree = np.maximum(tree, ellipse(x, y, *hilum, 0.09, 0.07, 0.01))
        angles = out + np.linspace(-1.25, 1.25, 8)
        tree = np.maximum(tree, vessels(rng, side, hilum, angles, (0.13, 0.24), 0.014))
    for _ in range(150):
        cx, cy = rng.uniform(-0.72, 0.72), rng.uniform(-0.42, 0.44)
        radius = rng.uniform(0.004, 0.012)
        tree = np.maximum(tree, rng.uniform(0.4, 1) * ellipse(x, y, cx, cy, radius, radius, 0.003))
    image += (0.78 - image) * np.clip(tree, 0, 1) * lungs

    # Within the middle: heart chambers, aorta, and the two dark main bronchi.
    image += 0.04 * ellipse(x, y, 0.10, -0.12, 0.17, 0.19, 0.03)
    image += 0.07 * ellipse(x, y, 0.12, 0.30, 0.06, 0.06, 0.006)
    for sign in (-1, 1):
        bronchus = ellipse(x, y, 0.01 + 0.10 * sign, 0.12, 0.045, 0.032, 0.005)
        image += (0.06 - image) * bronchus

    # Bones: vertebra with its canal and processes, ribs around the wall, breastbone.
    bones = ellipse(x, y, 0, 0.42, 0.115, 0.095, 0.008)
    for sign in (-1, 1):
        bones = np.maximum(bones, ellipse(x, y, 0.15 * sign, 0.53, 0.11, 0.028, 0.008))
        bones = np.maximum(bones, ellipse(x, y, 0.30 * sign, 0.55, 0.06, 0.02, 0.006))
    bones = np.maximum(bones, ellipse(x, y, 0, 0.59, 0.022, 0.07, 0.008))
    bones = np.maximum(bones, ellipse(x, y, 0.02, -0.555, 0.13, 0.028, 0.006))
    for angle in np.deg2rad([12, 38, 62, 118, 142, 168, 195, 222, 318, 345]):
        cx, cy = 0.815 * np.cos(angle), 0.03 + 0.54 * np.sin(angle)
        across = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        along = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
        bones = np.maximum(bones, ellipse(across, along, 0, 0, 0.022, 0.085, 0.005))
    image += (bone - image) * bones
    marrow = ellipse(x, y, 0, 0.42, 0.09, 0.07, 0.02)
    image -= 0.08 * marrow
    image += (soft - image) * ellipse(x, y, 0, 0.525, 0.035, 0.026, 0.006)  # spinal canal

    image = blur(image, 0.6)
    image += 0.012 * clouds(rng, side, 0.8) * (0.4 + body)
    return np.uint8(np.clip(255 * image, 0, 255))


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    Image.fromarray(draw_xray()).save(folder / "xray.png", optimize=True)
    Image.fromarray(draw_ct()).save(folder / "ct.png", optimize=True)


if __name__ == "__main__":
    main()
