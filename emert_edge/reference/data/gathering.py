"""What a device would compute of a recording, kept as training data.

There is no second gathering here: a recording is replayed into the very `Session` that a device runs, and in the place
where a `Recognizer` runs its graphs the graphs' inputs are kept. Crops, masks, eye features, gaze points and maps are
therefore those of `Recognizer.run`, before they are scaled for a model.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.manifest import EyeInput, FaceInput, FixationInput, PointInput, WindowSpec
from emert_edge.encoder_inputs import EncoderInput
from emert_edge.errors import EmertError
from emert_edge.estimate import Estimate
from emert_edge.eye import FEATURE_NAMES
from emert_edge.face import Box, Detection, FaceDetector, HaarDetector, YuNetDetector, stored_yunet
from emert_edge.inputs import Inputs
from emert_edge.reference.data.windows import AFFECT, UNKNOWN, SessionData
from emert_edge.replay import replay_estimates
from emert_edge.session import Encode, EyeTokens, Session, Token
from emert_edge.window import ordinary_memory

if TYPE_CHECKING:
    from emert_edge.recognizer import Recognizer

__all__ = ["DetectorName", "WholeFrame", "detector_named", "gather"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
DetectorName: TypeAlias = Literal["haar", "yunet", "whole"]

_UNSCALED = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "color": "rgb"}


class WholeFrame:
    """The detector for frames that are face crops already: the face is the whole frame.

    Parameters
    ----------
    scale : float
        `FaceInput.scale`: the box is so much smaller than the frame that the crop is the frame again. Of a frame that
        is not square the crop is the square over its longer side.
    """

    name = "whole"

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def detect(self, frame: npt.NDArray[np.uint8], *, region: Box | None = None) -> list[Detection]:
        """Give the whole frame as a face."""
        rows, columns = frame.shape[:2]
        side = max(rows, columns) / self._scale
        return [Detection(((columns - side) / 2, (rows - side) / 2, side, side), 1.0)]


def detector_named(name: DetectorName, face: FaceInput, model: Path | None = None) -> FaceDetector:
    """Open a detector by its name.

    Parameters
    ----------
    name : {"haar", "yunet", "whole"}
        Of the last one the frames are face crops already.
    model : Path, optional
        YuNet's model file; the one in the user's store if not given.

    Raises
    ------
    EmertError
        If YuNet is asked for, and neither given nor in the store, or a model cannot be used.
    """
    if name == "whole":
        return WholeFrame(face.scale)
    if name == "haar":
        return HaarDetector()
    path = model or stored_yunet()
    if path is None:
        raise EmertError("detector: no YuNet model in the user's store; fetch it or say where it lies (detector_model)")
    return YuNetDetector(path)


def gather(
    inputs: Inputs,
    face: FaceInput,
    fixation: FixationInput,
    window: WindowSpec,
    detector: FaceDetector,
    *,
    gaze_offset_ns: int = 0,
) -> SessionData:
    """Replay a recording and keep what a model would be given.

    Parameters
    ----------
    inputs : Inputs
        Recorded sources; they are closed at the end. Their first data are laid on one instant.
    gaze_offset_ns : int
        Added to the gaze's times after that.

    Returns
    -------
    SessionData
        Without id and labels.

    Raises
    ------
    EmertError
        If a source cannot be read, or holds nothing.
    ValueError
        If sources do not belong together (gaze in one space and a scene in another).
    """
    kept = _KeptSession(face, fixation, window, detector)
    for _ in replay_estimates(kept, inputs, gaze_offset_ns=gaze_offset_ns, rebase=True):
        raise AssertionError("nothing is estimated here")
    data = kept.data(inputs.scene is not None)
    if data is None:
        raise EmertError("neither a frame nor a gaze sample is in it")
    return data


class _KeptSession(Session):
    """A device's session whose windows are kept instead of being estimated from."""

    def __init__(self, face: FaceInput, fixation: FixationInput, window: WindowSpec, detector: FaceDetector) -> None:
        width = len(FEATURE_NAMES)
        # All of a manifest that a session reads. A bundle takes maps or points; data keep both, and nothing is scaled.
        manifest = SimpleNamespace(
            face=face.model_copy(update=_UNSCALED),
            fixation=fixation.model_copy(update=_UNSCALED),
            points=PointInput(),
            eye=EyeInput(features=FEATURE_NAMES, mean=(0.0,) * width, std=(1.0,) * width, clip=None),
            window=window,
        )
        owner = SimpleNamespace(
            bundle=SimpleNamespace(manifest=manifest), _detector=detector, _frame_memory=ordinary_memory
        )
        super().__init__(cast("Recognizer", owner), stride_s=window.face_cadence_ms / 1000, clock="recording")
        self._encode_face = _unencoded(3, face.size)
        self._encode_fixation = _unencoded(4, fixation.size)
        self._no_face = np.zeros((3, *face.size), np.uint8)
        # Where a scene frame is missing a device gives zeros after scaling: the mean colour.
        unseen = np.broadcast_to(np.reshape(fixation.mean, (3, 1, 1)), (3, *fixation.size))
        self._no_gaze = np.concatenate([_bytes(unseen), np.zeros((1, *fixation.size), np.uint8)])
        self._crops: list[Bytes] = []
        self._fused: list[Bytes] = []
        self._face_mask: list[bool] = []
        self._map_mask: list[bool] = []
        self._eyes: list[tuple[Floats, Floats, Floats]] = []
        self._spans = 0

    def estimates(self) -> list[Estimate]:
        """Keep what is due; there are no estimates."""
        while due := self._due(1):
            grid = self._grid
            assert grid is not None
            spans = (due[0] - grid.anchor_ns) // grid.eye_span_ns
            keep_eye = partial(self._keep_eye, spans)
            window = self._open_window(due[0], self._encode_face, self._encode_fixation, keep_eye)
            # The first window reaches back to before the recording, each later one brings a grid point.
            new = grid.last_point(window.t_ns) + 1 - len(self._crops)
            for face, fixation in zip(window.faces[-new:], window.fixations[-new:], strict=True):
                self._crops.append(self._no_face if face.vector is None else _bytes(face.vector))
                self._face_mask.append(face.vector is not None)
                fused = self._no_gaze if fixation.vector is None else _bytes(fixation.vector)
                self._fused.append(fused if fixation.seen else np.concatenate([self._no_gaze[:3], fused[3:]]))
                self._map_mask.append(fixation.vector is not None)
        return []

    def _keep_eye(self, spans: int, eye: EyeTokens) -> None:
        new = slice(len(eye.mask) - (spans - self._spans), None)
        self._eyes.append((eye.features[new].copy(), eye.mask[new].copy(), eye.points[new].copy()))
        self._spans = spans

    def data(self, scene: bool) -> SessionData | None:
        """All that was kept, or None if that is nothing; `scene`: whether there was a scene camera."""
        if not self._crops:
            return None
        fused = np.stack(self._fused)
        eye, eye_mask, points = (np.concatenate(parts) for parts in zip(*self._eyes, strict=True))
        count = len(self._crops)
        return SessionData(
            id="",
            subject=None,
            stimulus=None,
            fold=None,
            crops=np.stack(self._crops),
            face_mask=np.array(self._face_mask),
            eye=eye,
            eye_mask=eye_mask > 0,
            points=points,
            maps=fused[:, 3],
            map_mask=np.array(self._map_mask),
            scenes=fused[:, :3] if scene else None,
            emotion=np.full(count, UNKNOWN, np.int64),
            expression=np.full(count, UNKNOWN, np.int64),
            affect=np.full((count, len(AFFECT)), np.nan, np.float32),
        )


def _unencoded(planes: int, size: tuple[int, int]) -> Encode:
    """An encoder that gives back its input."""

    def encode(token: Token, source: EncoderInput) -> None:
        token.vector = np.empty((planes, *size), np.float32)
        source.write(token.vector)
        source.release()

    return encode


def _bytes(planes: npt.NDArray[Any]) -> Bytes:
    return np.asarray(np.rint(np.clip(planes, 0, 1) * 255), np.uint8)
