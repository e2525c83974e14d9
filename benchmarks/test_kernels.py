# SPDX-License-Identifier: Apache-2.0
"""Each kernel against OpenCV on one thread, both writing into memory that they are given."""

from __future__ import annotations

import cv2
import pytest

from kernel_cases import CONTENTS, OPERATIONS, SIDES

CASES = [("radiograph", side) for side in SIDES] + [(content, 1024) for content in CONTENTS[1:]]


@pytest.fixture(autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize(("content", "side"), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_kernel(versus, operation, content, side):
    try:
        image = operation.image(content, side)
    except LookupError as error:
        pytest.skip(str(error))
    out = operation.out(side)
    versus(operation.ours(image, out), operation.opencv(image, out), "cv2")
