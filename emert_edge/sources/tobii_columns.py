"""The columns of Tobii's exports: names with a unit behind them, and what points in two units tell of the screen."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from emert_edge.errors import GazeFormatError

__all__ = ["UnitColumns", "base_and_unit", "screen_side_mm"]

_UNIT = re.compile(r"^(?P<base>.*?)\s*[\[(](?P<unit>[^\])]*)[\])]$")


class UnitColumns:
    """An export's columns by name without unit, and by unit."""

    def __init__(self, header: list[str]) -> None:
        self.units: dict[str, dict[str, int]] = {}
        self.header = header
        self.twice: set[tuple[str, str]] = set()
        for place, name in enumerate(header):
            base, unit = base_and_unit(name)
            held = self.units.setdefault(base.lower(), {})
            if unit in held:
                self.twice.add((base.lower(), unit))
            held.setdefault(unit, place)

    def find(self, base: str, *units: str) -> int | None:
        """The place of the first of these units that the column comes in; "" is a header without unit."""
        held = self.units.get(base.lower(), {})
        for unit in units or tuple(held):
            if unit in held:
                if (base.lower(), unit) in self.twice:
                    raise GazeFormatError(f"two columns are called {self.header[held[unit]]!r}; which one is meant?")
                return held[unit]
        return None


def base_and_unit(name: str) -> tuple[str, str]:
    """A header's name and its unit, spaces left out and micro in one spelling: "DACS px" is "dacspx"."""
    match = _UNIT.match(name)
    if match is None:
        return name, ""
    unit = match["unit"].replace("\u03bc", "u").replace("\u00b5", "u")  # Greek mu, micro sign
    return match["base"], unit.replace(" ", "").lower()


def screen_side_mm(mm: npt.NDArray[np.float64], px: npt.NDArray[np.float64], length_px: float) -> float | None:
    """The length of the screen's side, from one axis of points in millimetres and pixels; None where they tell none."""
    both = np.isfinite(mm) & (px > 1) & (px < length_px - 1)  # pixels may have been kept to the screen
    if both.sum() < 2 or not np.ptp(px[both]) > 0.05 * length_px:
        return None
    # In some exports the millimetres count upwards from below.
    return abs(float(np.polyfit(px[both], mm[both], 1)[0])) * length_px
