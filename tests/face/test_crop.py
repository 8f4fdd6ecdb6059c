"""The crop is a square around the canonical box, exact to the half pixel."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emert_edge.face import canonical_box, crop_affine

coordinates = st.floats(-2000, 2000)
sides = st.floats(4, 2000)


@given(
    x=coordinates,
    y=coordinates,
    width=sides,
    height=sides,
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    scale=st.floats(0.5, 3),
)
def test_the_square_fills_the_output(
    x: float, y: float, width: float, height: float, rows: int, columns: int, scale: float
) -> None:
    affine = crop_affine((x, y, width, height), size=(rows, columns), scale=scale)
    half = scale * max(width, height) / 2
    centre = np.array([x + width / 2, y + height / 2])
    # A continuous coordinate lies half a pixel beside its index.
    corners = np.stack([centre - half, centre + half]) - 0.5
    mapped = corners @ affine[:, :2].T + affine[:, 2] + 0.5
    np.testing.assert_allclose(mapped, [[0, 0], [columns, rows]], atol=1e-6 * max(rows, columns))


def test_a_crop_at_scale_one_is_the_box_pixel_for_pixel() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    affine = crop_affine((30, 20, 40, 40), size=(40, 40), scale=1.0)
    np.testing.assert_array_equal(cv2.warpAffine(frame, affine, (40, 40)), frame[20:60, 30:70])


def test_an_oblong_box_gives_a_square_about_its_centre() -> None:
    np.testing.assert_allclose(
        crop_affine((40, 30, 20, 40), size=(112, 112)), crop_affine((30, 30, 40, 40), size=(112, 112))
    )


def test_the_eyes_and_mouth_lie_where_the_canon_says() -> None:
    x, y, width, height = canonical_box(eyes=(100.0, 80.0), mouth=(100.0, 120.0))
    assert width == height == pytest.approx(104)
    assert x + width / 2 == pytest.approx(100)
    assert (80 - y) / height == pytest.approx(0.39, abs=0.005)
    assert (120 - y) / height == pytest.approx(0.77, abs=0.005)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"box": (0, 0, 10)}, TypeError, "box"),
        ({"box": "face"}, TypeError, "box"),
        ({"box": None}, TypeError, "box"),
        ({"box": (0, 0, 0, 10)}, ValueError, "box"),
        ({"box": (0, float("nan"), 10, 10)}, ValueError, "box"),
        ({"size": 112}, TypeError, "size"),
        ({"size": (112.0, 112)}, TypeError, "size"),
        ({"size": (0, 112)}, ValueError, "size"),
        ({"scale": 0.0}, ValueError, "scale"),
        ({"scale": float("inf")}, ValueError, "scale"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        crop_affine(**{"box": (0, 0, 10, 10), "size": (112, 112), "scale": 1.3, **arguments})


@pytest.mark.parametrize("mouth", [(5.0, 5.0), (float("nan"), 9.0), (float("inf"), 9.0)])
def test_a_box_needs_two_finite_landmarks(mouth: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="mouth"):
        canonical_box(eyes=(5.0, 5.0), mouth=mouth)
