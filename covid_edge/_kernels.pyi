# SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
from numpy.typing import NDArray

def clahe_u8(
    src: NDArray[np.uint8],
    dst: NDArray[np.uint8],
    clip_limit: float,
    grid_rows: int,
    grid_cols: int,
    threads: int,
) -> None: ...
def clahe_u16(
    src: NDArray[np.uint16],
    dst: NDArray[np.uint16],
    bits: int,
    clip_limit: float,
    grid_rows: int,
    grid_cols: int,
    threads: int,
) -> None: ...
def morph_open(
    src: NDArray[Any], dst: NDArray[Any], kernel_rows: int, kernel_cols: int
) -> None: ...
def resize(src: NDArray[np.uint8], dst: NDArray[np.uint8]) -> None: ...
def area_reduce(src: NDArray[np.uint8], dst: NDArray[np.uint8]) -> None: ...
def preprocess(
    src: NDArray[np.uint8],
    dst: NDArray[np.uint8],
    clip_limit: float,
    grid_rows: int,
    grid_cols: int,
    kernel_rows: int,
    kernel_cols: int,
) -> None: ...
def product(
    vector: NDArray[np.float32], matrix: NDArray[np.int8], out: NDArray[np.float32]
) -> None: ...
def available_variants() -> tuple[str, ...]: ...
def select_variant(name: str) -> None: ...
def active_variants() -> dict[str, str]: ...
