# SPDX-License-Identifier: Apache-2.0
"""Pictures for the property tests of the kernels."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

# What each kernel owes: two thousand cases, the same ones in every run.
# Under sanitizers a case takes several times as long: 10 here draws a tenth of them.
DIVISOR = int(os.environ.get("KERNEL_CASES_DIVIDED_BY", "1"))


def drawn(cases: int) -> settings:
    return settings(max_examples=max(1, cases // DIVISOR), deadline=None, derandomize=True)


thorough = drawn(2000)
quick = drawn(300)

CONTENTS = ("constant", "noise", "faint noise", "gradient", "two levels")


@st.composite
def images(draw: st.DrawFn, largest: int) -> np.ndarray:
    """Draw a uint8 image of 1 to `largest` rows and columns, of any of the usual contents."""
    height, width = draw(pairs(largest))
    content = draw(st.sampled_from(CONTENTS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return picture(content, height, width, rng)


@st.composite
def views(draw: st.DrawFn, largest: int) -> np.ndarray:
    """Draw an image whose pixels lie anyhow in a larger one: in steps, upside down, mirrored."""
    sheet = draw(images(2 * largest))
    steps = st.sampled_from([1, 1, -1, 2, -2, 3])
    return sheet[:: draw(steps), :: draw(steps)][:largest, :largest]


def deep(image: np.ndarray) -> np.ndarray:
    """Make 16-bit pixels whose high and low bytes tell different stories."""
    return image.astype(np.uint16) * 256 + np.roll(image, 1)


def assert_it_writes_out_and_nothing_else(
    kernel: Callable[..., np.ndarray], shape: tuple[int, int], dtype: type[np.generic]
) -> None:
    """Let `kernel` write into the middle of a larger array, twice, over different old pixels."""
    margin, results = 70, []
    rows, columns = (slice(margin, margin + side) for side in shape)
    for canary in (0, 255):
        frame = np.full([side + 2 * margin for side in shape], canary, dtype)
        kernel(out=frame[rows, columns])
        results.append(frame[rows, columns].copy())
        frame[rows, columns] = canary
        assert (frame == canary).all()
    np.testing.assert_array_equal(*results)


def pairs(largest: int) -> st.SearchStrategy[tuple[int, int]]:
    """Draw two whole numbers from 1 to `largest`."""
    return st.tuples(st.integers(1, largest), st.integers(1, largest))


def picture(content: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    shape = (height, width)
    low, high = sorted(int(level) for level in rng.integers(0, 256, 2))
    if content == "constant":
        return np.full(shape, low, np.uint8)
    if content == "noise":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if content == "faint noise":
        return rng.integers(low, high + 1, shape, dtype=np.uint8)
    if content == "gradient":
        y, x = np.indices(shape)
        return (int(rng.integers(8)) * y + int(rng.integers(1, 8)) * x + low).astype(np.uint8)
    return np.where(rng.random(shape) < 0.5, low, high).astype(np.uint8)
