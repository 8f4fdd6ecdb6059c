"""What a bundle takes on this device: each stage, an estimate, many streams, minutes of it, and the board's state."""

from __future__ import annotations

from emert_edge.benchmarking.board import Board
from emert_edge.benchmarking.measure import measure

__all__ = ["Board", "measure"]
