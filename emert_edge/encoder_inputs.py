"""What an encoder reads: a face in a frame, or gaze over a scene. Both are written by the CPU's kernels or a GPU's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.manifest import FaceInput, FixationInput
from emert_edge.kernels import Color, crop_normalize_into, fuse_gaze_frame_into
from emert_edge.window import HeldFrame

if TYPE_CHECKING:
    from emert_edge.kernels import cuda

__all__ = ["EncoderInput", "FaceCrop", "GazeFrame", "plane_order"]

FloatArray = npt.NDArray[np.float32]


class EncoderInput(Protocol):
    """One row of an encoder's input, not written yet."""

    def write(self, row: FloatArray) -> None:
        """Write it on the CPU."""

    def launch(self, row: cuda.DeviceArray, scratch: FloatArray | None, stream: Any) -> None:
        """Enqueue the writing of it on a GPU.

        The frame, which must be page-locked, and `scratch` are read until that is done; what else belongs to this
        object is free when the call returns.
        """

    def release(self) -> None:
        """Give the frame's memory back: it has been read."""


@dataclass(slots=True)
class FaceCrop:
    """A face in a frame: what its encoder reads are `(3, height, width)` planes.

    Attributes
    ----------
    frame : HeldFrame
    affine : ndarray, shape (2, 3), float64
        From crop to frame, as `crop_affine` gives it.
    spec : FaceInput
        The bundle's.
    release : callable
        Gives the frame's memory back, when it has been read.
    """

    frame: HeldFrame
    affine: npt.NDArray[np.float64]
    spec: FaceInput
    release: Callable[[], None]

    def write(self, row: FloatArray) -> None:
        """Write it on the CPU."""
        spec, color = self.spec, plane_order(self.frame.color, self.spec.color)
        crop_normalize_into(row, self.frame.image, self.affine, spec.mean, spec.std, color=color)

    def launch(self, row: cuda.DeviceArray, scratch: FloatArray | None, stream: Any) -> None:
        """Enqueue the writing of it on a GPU; no scratch is needed."""
        from emert_edge.kernels import cuda

        spec, color = self.spec, plane_order(self.frame.color, self.spec.color)
        cuda.crop_normalize_into(row, self.frame.image, self.affine, spec.mean, spec.std, color=color, stream=stream)


@dataclass(slots=True)
class GazeFrame:
    """A fixation map and, where there was a frame, the scene under it: `(4, height, width)` planes.

    Attributes
    ----------
    fixation_map : ndarray, shape (height, width), float32
        Is the caller's again when the input has been written or launched.
    scene : HeldFrame or None
    spec : FixationInput
        The bundle's.
    release : callable
        Gives the scene's memory back, when it has been read.
    """

    fixation_map: FloatArray
    scene: HeldFrame | None
    spec: FixationInput
    release: Callable[[], None]

    def write(self, row: FloatArray) -> None:
        """Write it on the CPU."""
        if self.scene is None:
            row[:3] = 0
            row[3] = self.fixation_map
            return
        spec, color = self.spec, plane_order(self.scene.color, self.spec.color)
        fuse_gaze_frame_into(row, self.scene.image, self.fixation_map, spec.mean, spec.std, color=color)

    def launch(self, row: cuda.DeviceArray, scratch: FloatArray | None, stream: Any) -> None:
        """Enqueue the writing of it on a GPU; `scratch` is `(4, height, width)`, page-locked."""
        from emert_edge.kernels import cuda

        assert scratch is not None
        scratch[3] = self.fixation_map
        if self.scene is None:
            scratch[:3] = 0
            cuda.copy(row, scratch, stream=stream)
            return
        spec, color = self.spec, plane_order(self.scene.color, self.spec.color)
        cuda.fuse_gaze_frame_into(row, self.scene.image, scratch[3], spec.mean, spec.std, color=color, stream=stream)


def plane_order(frame: str, planes: str) -> Color:
    """Return the colour order to name to a kernel, which always turns it into RGB, so that its planes come as asked."""
    return "bgr" if (frame == "bgr") == (planes == "rgb") else "rgb"
