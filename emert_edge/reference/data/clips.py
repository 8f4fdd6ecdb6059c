"""Clips whose reactions are known: face crops, spans of sound, seven intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emert_edge.face import Box, crop_affine
from emert_edge.kernels import crop_normalize
from emert_edge.reference.reactions import ReactionConfig

__all__ = ["ClipData", "ClipSource", "cropped_face", "even_rows"]

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ClipData:
    """n clips, as `ReactionConfig` cuts them; T frames and A spans of sound each."""

    frames: Image
    """(n, T, 3, H, W), RGB planes in [0, 255]."""
    frame_mask: npt.NDArray[np.bool_]
    """(n, T), whether a frame was there and a face in it."""
    audio: npt.NDArray[np.float16] | None
    """(n, A, B, M), log-mel spans in dB; None where nothing is heard."""
    audio_mask: npt.NDArray[np.bool_] | None
    """(n, A), whether a span was there."""

    def __len__(self) -> int:
        return len(self.frames)

    @staticmethod
    def empty(count: int, config: ReactionConfig) -> ClipData:
        """Clips of which nothing was seen or heard yet."""
        spans = (count, config.spans, config.mel_bins, config.span_frames)
        return ClipData(
            np.zeros((count, config.frames, 3, *config.size), np.uint8),
            np.zeros((count, config.frames), np.bool_),
            np.zeros(spans, np.float16) if config.audio else None,
            np.zeros(spans[:2], np.bool_) if config.audio else None,
        )


class ClipSource(Protocol):
    """One split's clips, read when they are asked for."""

    intensities: npt.NDArray[np.float32]
    """(n, 7) in [0, 1], in the order of `REACTIONS`; a row of NaN has no labels."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> ClipData:
        """Those clips, in that order."""
        ...


def even_rows(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """Which of `count` things to take so that `wanted` lie evenly: the middle of each part; all where they are fewer.

    Examples
    --------
    >>> even_rows(10, 3).tolist(), even_rows(2, 3).tolist()
    ([1, 5, 8], [0, 1])
    """
    if count <= wanted:
        return np.arange(count)
    return ((2 * np.arange(wanted) + 1) * count) // (2 * wanted)


def cropped_face(frame: Image, box: Box, size: tuple[int, int], scale: float) -> Image:
    """The square around a face box as planes (3, H, W) RGB, by the functions that a device runs."""
    planes = crop_normalize(frame, crop_affine(box, size, scale), size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return np.rint(planes * 255).astype(np.uint8)
