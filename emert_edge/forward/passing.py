"""What every way through the graphs is, wherever it keeps frames and tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emert_edge.encoder_inputs import EncoderInput
from emert_edge.engines import Engine
from emert_edge.session import EyeTokens, Token, Window

__all__ = ["Forward", "tokens_by_kind"]

FloatArray = npt.NDArray[np.float32]


class Encoder(Protocol):
    """One encoder's open batch."""

    def add(self, token: Token, source: EncoderInput) -> None:
        """Take what a token is to be made of; the batch runs when it is full or wanted."""


class Forward(ABC):
    """How windows go through the graphs.

    A step offers the new faces, fixations and eye tokens of up to `max_batch` windows, one after the other, then calls
    `head` with these windows.
    """

    _faces: Encoder
    _fixations: Encoder | None
    _head: Engine

    @abstractmethod
    def warmup(self) -> None:
        """Run once all that a step of one window runs."""

    @abstractmethod
    def frame_memory(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Allocate a frame that the encoders' inputs can be made of."""

    @abstractmethod
    def head(self, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        """Finish what waits, run the head, and return its outputs; row by row they are the windows'."""

    @abstractmethod
    def abandon(self) -> None:
        """Forget what a step that failed has offered and what was not encoded: its tokens stay empty."""

    def face(self, token: Token, source: EncoderInput) -> None:
        """Encode a face into a token, now or with others."""
        self._faces.add(token, source)

    def fixation(self, token: Token, source: EncoderInput) -> None:
        """Encode gaze over a scene into a token, now or with others."""
        assert self._fixations is not None, "a bundle without fixation tokens has none to encode"
        self._fixations.add(token, source)

    def eye(self, row: int, eye: EyeTokens) -> None:
        """Take a window's eye tokens: of the window that will stand at `row`."""
        inputs = self._head.inputs
        for name, values in (("eye_tokens", eye.features), ("eye_mask", eye.mask), ("gaze_points", eye.points)):
            if name in inputs:
                inputs[name][row] = values


def tokens_by_kind(windows: Sequence[Window], with_fixations: bool) -> dict[str, list[tuple[Token, ...]]]:
    """Return the windows' tokens of each kind that the head takes."""
    kinds = {"face": [window.faces for window in windows]}
    if with_fixations:
        kinds["fixation"] = [window.fixations for window in windows]
    return kinds
