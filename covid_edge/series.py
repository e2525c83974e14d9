# SPDX-License-Identifier: Apache-2.0
"""Which files are one CT series, and the order of its slices.

A series is what shares a SeriesInstanceUID; a file of several frames is one by itself. Its slices
are in order of the first of these that all of them have:

1. ImagePositionPatient along the normal of ImageOrientationPatient, if their normals agree, so
   from the feet to the head of a patient whose rows run to the left, and columns to the back;
2. SliceLocation;
3. InstanceNumber, which also decides among slices of one place;
4. the order given.

Only headers are read for it (:func:`covid_edge.dicom.read_layout`), and little of them is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .dicom import Layout, Plane

__all__ = ["in_order", "in_series"]

#: Cosine of the angle up to which two normals agree: some 2.5 degrees.
_PARALLEL = 0.999

File = TypeVar("File")


def in_series(
    files: Sequence[File], layout: Callable[[File], Layout | None]
) -> Iterator[list[File]]:
    """Yield each file by itself, but those of a series together, in order, where the first stood.

    Parameters
    ----------
    files : sequence
    layout : callable
        File → which slices it holds, or None.
    """
    series: dict[str, list[File]] = {}
    for file in files:
        if key := _series(layout(file)):
            series.setdefault(key, []).append(file)
    for file in files:
        key = _series(layout(file))
        if not key:
            yield [file]
        elif key in series:
            slices = series.pop(key)
            yield [slices[k] for k in in_order([layout(one).planes[0] for one in slices])]


def _series(layout: Layout | None) -> str | None:
    return layout.series if layout is not None and layout.frames == 1 else None


def in_order(planes: Sequence[Plane]) -> list[int]:
    """Return the order of slices: the place of the first among `planes`, of the second..."""
    order = list(range(len(planes)))
    # The least of the keys first: sorting keeps the order of what is equal.
    for keys in (_all(plane.number for plane in planes), _places(planes)):
        if keys is not None:
            order.sort(key=keys.__getitem__)
    return order


def _places(planes: Sequence[Plane]) -> list[float] | None:
    normals = _all(plane.normal for plane in planes)
    positions = _all(plane.position for plane in planes)
    if normals and positions and all(_dot(one, normals[0]) > _PARALLEL for one in normals):
        return [_dot(position, normals[0]) for position in positions]
    return _all(plane.location for plane in planes)


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b))


def _all(values: Iterable[object]) -> list | None:
    values = list(values)
    return None if None in values else values
