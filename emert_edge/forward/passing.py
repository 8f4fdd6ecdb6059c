"""What every way through the graphs is, wherever it keeps frames and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emert_edge.encoder_inputs import EncoderInput
from emert_edge.session import EyeTokens, Token, Window

__all__ = ["Forward", "tokens_by_kind", "write_eye"]

FloatArray = npt.NDArray[np.float32]


class Forward(Protocol):
    """How windows go through the graphs.

    A step offers the new faces, fixations and eye tokens of up to `max_batch` windows, one after the other, then calls
    `head` with these windows.
    """

    def warmup(self) -> None:
        """Run once all that a step of one window runs."""

    def frame_memory(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Allocate a frame that the encoders' inputs can be made of."""

    def face(self, token: Token, source: EncoderInput) -> None:
        """Encode a face into a token, now or with others."""

    def fixation(self, token: Token, source: EncoderInput) -> None:
        """Encode gaze over a scene into a token, now or with others."""

    def eye(self, row: int, eye: EyeTokens) -> None:
        """Take a window's eye tokens: of the window that will stand at `row`."""

    def head(self, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        """Finish what waits, run the head, and return its outputs; row by row they are the windows'."""


def write_eye(inputs: Mapping[str, FloatArray], row: int, eye: EyeTokens) -> None:
    """Write a window's eye tokens into those of the head's inputs that there are."""
    for name, values in (("eye_tokens", eye.features), ("eye_mask", eye.mask), ("gaze_points", eye.points)):
        if name in inputs:
            inputs[name][row] = values


def tokens_by_kind(windows: Sequence[Window], with_fixations: bool) -> dict[str, list[tuple[Token, ...]]]:
    """Return the windows' tokens of each kind that the head takes."""
    kinds = {"face": [window.faces for window in windows]}
    if with_fixations:
        kinds["fixation"] = [window.fixations for window in windows]
    return kinds
