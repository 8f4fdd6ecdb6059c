"""Viewing geometry: from fractions of a screen to degrees of visual angle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ViewingGeometry"]

Float64Array = npt.NDArray[np.float64]

#: Assumed where nothing is known: a 24-inch 16:9 screen from 65 cm, the distance eye trackers are made for.
_SCREEN_MM, _DISTANCE_MM = (531.0, 299.0), 650.0
#: Assumed for gaze in a scene camera's picture: 90° across, 16:9; its plane stands a metre away.
_SCENE_MM, _SCENE_DISTANCE_MM = (2000.0, 1125.0), 1000.0


@dataclass(frozen=True, slots=True)
class ViewingGeometry:
    """A plane of known size, looked at from a point before its middle.

    Attributes
    ----------
    screen_size_mm : (width, height)
        Size of the screen (for a scene camera: of its picture at `screen_distance_mm`).
    screen_distance_mm : float
        Distance of the eye from the screen's middle.
    assumed : bool
        Whether size or distance are defaults that nobody stated.
    """

    screen_size_mm: tuple[float, float]
    screen_distance_mm: float
    assumed: bool

    @classmethod
    def of(
        cls,
        screen_size_mm: tuple[float, float] | None = None,
        screen_distance_mm: float | None = None,
        *,
        space: str | None = None,
    ) -> ViewingGeometry:
        """The geometry that is stated, its missing parts filled with the defaults for that space.

        Raises
        ------
        TypeError, ValueError
            If a size or distance is no positive, finite number.
        """
        size, distance = (_SCENE_MM, _SCENE_DISTANCE_MM) if space == "scene" else (_SCREEN_MM, _DISTANCE_MM)
        if screen_size_mm is not None:
            try:
                width, height = screen_size_mm
                size = float(width), float(height)
            except (TypeError, ValueError):
                raise TypeError(f"screen_size_mm must be (width, height), not {screen_size_mm!r}") from None
        if screen_distance_mm is not None:
            try:
                distance = float(screen_distance_mm)
            except (TypeError, ValueError):
                raise TypeError(f"screen_distance_mm must be a number, not {screen_distance_mm!r}") from None
        if not all(math.isfinite(side) and side > 0 for side in size):
            raise ValueError(f"screen_size_mm must be positive, not {screen_size_mm!r}")
        if not (math.isfinite(distance) and distance > 0):
            raise ValueError(f"screen_distance_mm must be positive, not {screen_distance_mm!r}")
        return cls(size, distance, screen_size_mm is None or screen_distance_mm is None)

    def plane_mm(self, x: Float64Array, y: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Fractions as millimetres right of and below the screen's middle."""
        return (x - 0.5) * self.screen_size_mm[0], (y - 0.5) * self.screen_size_mm[1]

    def angle_deg(self, x: Float64Array, y: Float64Array, to_x: Float64Array, to_y: Float64Array) -> Float64Array:
        """Visual angle between two points (arrays of them) given as fractions, in degrees.

        The angle between the two lines of sight u and v is atan2(‖u × v‖, u · v), exact for small angles too.
        """
        a_x, a_y = self.plane_mm(x, y)
        b_x, b_y = self.plane_mm(to_x, to_y)
        d = self.screen_distance_mm
        cross = np.sqrt(np.square(d * (a_y - b_y)) + np.square(d * (b_x - a_x)) + np.square(a_x * b_y - a_y * b_x))
        angle: Float64Array = np.degrees(np.arctan2(cross, a_x * b_x + a_y * b_y + d * d))
        return angle

    def direction_deg(self, x: Float64Array, y: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Fractions as angles right of and below the screen's middle, in degrees."""
        right, below = self.plane_mm(x, y)
        return (
            np.degrees(np.arctan2(right, self.screen_distance_mm)),
            np.degrees(np.arctan2(below, self.screen_distance_mm)),
        )
