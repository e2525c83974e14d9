# SPDX-License-Identifier: Apache-2.0
"""A row vector times an 8-bit matrix: sums in one order, so one result on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covid_edge import _kernels
from reference.images import quick, thorough


def product(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    out = np.full(matrix.shape[1], np.nan, np.float32)
    _kernels.product(vector, matrix, out)
    return out


def row_by_row(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Each product and each sum rounded to float32."""
    sums = np.zeros(matrix.shape[1], np.float32)
    for factor, row in zip(vector, matrix):
        sums += factor * row.astype(np.float32)
    return sums


def drawn(rows: int, cols: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-128, 128, (rows, cols), dtype=np.int8)
    return rng.standard_normal(rows, dtype=np.float32), matrix


@thorough
@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_sums_run_down_the_rows_to_the_bit(rows, cols, seed):
    vector, matrix = drawn(rows, cols, seed)
    np.testing.assert_array_equal(product(vector, matrix), row_by_row(vector, matrix))


@quick
@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_it_is_the_product_as_numpy_has_it(rows, cols, seed):
    vector, matrix = drawn(rows, cols, seed)
    np.testing.assert_allclose(product(vector, matrix), vector @ matrix, rtol=1e-4, atol=1e-3)


def test_a_column_picks_a_row():
    vector = np.array([0, 0, 1, 0, 0], np.float32)
    matrix = np.arange(15, dtype=np.int8).reshape(5, 3)
    assert product(vector, matrix).tolist() == [6, 7, 8]


@pytest.mark.parametrize("rows", [3, 8])
def test_nothing_is_written_past_the_end(rows):
    vector, matrix = drawn(rows, 21, 1)
    around = np.full(23, 7, np.float32)
    _kernels.product(vector, matrix, around[1:22])
    assert (around[0], around[22]) == (7, 7)


@pytest.mark.parametrize(("vector", "out"), [(4, 6), (5, 5), (6, 6)])
def test_what_does_not_fit_is_refused(vector, out):
    with pytest.raises(ValueError, match=r"^vector, matrix and output do not fit together$"):
        _kernels.product(
            np.zeros(vector, np.float32), np.zeros((5, 6), np.int8), np.zeros(out, np.float32)
        )


def test_an_empty_matrix_is_refused():
    nothing = np.zeros(0, np.float32)
    with pytest.raises(ValueError, match=r"^the matrix is empty$"):
        _kernels.product(nothing, np.zeros((0, 0), np.int8), nothing)
