"""Which samples serve what, and how they become the encoders' inputs.

What ranges were found on is never judged on. Of pictures, `samples` are drawn by class: on one half the ranges are
found, on the other the calibrators are compared; the gate gets what is left, and that other half too where little is
left. Of sessions a half serves the ranges, a quarter the comparison and a quarter the gate.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emert_edge.bundle.manifest import Manifest, Role
from emert_edge.errors import EmertError
from emert_edge.recognizer import write_whole_faces
from emert_edge.reference.assessment.bundles import normalised_crops
from emert_edge.reference.data.windows import UNKNOWN, Windows, window_index

from .data import Data, Ints, Pictures, Recordings
from .ranges import Inputs

__all__ = ["GATE_SAMPLES", "LEAST", "class_counts", "divide", "encoder_inputs", "sample_pictures", "stratified"]

GATE_SAMPLES = 4000
"""Pictures that the gate takes at most, unless it is given its own."""
LEAST = 16
"""Pictures without which nothing is calibrated."""
_WINDOWS = 16  # that are cut at a time: eight fused frames each


def stratified(labels: Ints, count: int, seed: int) -> Ints:
    """Draw rows so that each class has the share that it has of all, and at least one.

    Returns
    -------
    ndarray
        About `count` row numbers, shuffled; all of them if there are no more.
    """
    rng = np.random.default_rng([seed, 19])
    share = min(1.0, count / len(labels))
    chosen = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(rows[: max(1, round(share * len(rows)))])
    return rng.permutation(np.concatenate(chosen)).astype(np.int64)


def _halves(labels: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Every other row of each class."""
    order = rows[np.argsort(labels[rows], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


def divide(data: Data, samples: int, seed: int, *, own_gate: bool = False) -> tuple[Data, Data, Data]:
    """Divide data into what ranges are found on, what calibrators are compared on, and what the gate judges on.

    Parameters
    ----------
    samples : int
        Pictures for the first two together.
    own_gate : bool
        Whether the gate has data of its own, and needs none of these.

    Raises
    ------
    EmertError
        There are too few.
    """
    if isinstance(data, Recordings):
        if len(data) < 2:
            raise EmertError(f"{data.words}: one session alone; ranges and judgement need sessions of their own")
        order = np.random.default_rng([seed, 23]).permutation(len(data))
        half = len(data) - len(data) // 2
        rest = order[half:]
        middle = (len(rest) + 1) // 2
        gate = rest[middle:] if len(rest) > 1 and not own_gate else rest
        return data.take(order[:half]), data.take(rest if own_gate else rest[:middle]), data.take(gate)
    if len(data) < LEAST:
        raise EmertError(f"{data.words}: {len(data)} pictures are too few to calibrate on; {LEAST} is the least")
    chosen = stratified(data.labels, samples, seed)
    calibration, comparison = _halves(data.labels, chosen)
    left = np.setdiff1d(np.arange(len(data)), chosen)
    gate = left if len(left) >= len(comparison) else np.union1d(left, comparison)
    if len(gate) > GATE_SAMPLES:
        gate = np.sort(gate[stratified(data.labels[gate], GATE_SAMPLES, seed)])
    return data.take(calibration), data.take(comparison), data.take(comparison if own_gate else gate)


def encoder_inputs(data: Data, manifest: Manifest, most: int, seed: int, *, least: int = 1) -> dict[Role, Inputs]:
    """What the encoders would be given of samples on a device, made by the functions that run there.

    Parameters
    ----------
    most : int
        Pictures, or frames of sessions, to take: stratified by class.
    least : int
        Faces that there must be, and fused frames without which the fixation encoder gets none.

    Returns
    -------
    dict
        By role the graph's inputs, `(samples, …)` float32. Without sessions there are none for the fixation encoder.

    Raises
    ------
    EmertError
        Sessions show too few faces.
    """
    if isinstance(data, Pictures):
        chosen = data.take(np.sort(stratified(data.labels, most, seed)))
        frames = np.empty((len(chosen), 3, *manifest.face.size), np.float32)
        write_whole_faces(frames, chosen.images, manifest.face)
        return {"face_encoder": {"frame": frames}}
    windows = _windows(data, manifest)
    labels = _labels(data, windows.index)
    rows = np.sort(stratified(labels, most, seed))
    faces, fused = [], []
    for begin in range(0, len(rows), _WINDOWS):
        batch = windows[rows[begin : begin + _WINDOWS]]
        faces.append(batch.faces[:, -1].numpy()[batch.face_mask[:, -1].numpy() > 0])
        if manifest.fixation is not None:
            fused.append(batch.fused[:, -1].numpy()[batch.fixation_mask[:, -1].numpy() > 0])
    crops = np.concatenate(faces)
    if len(crops) < least:
        raise EmertError(f"{data.words}: a face in {len(crops)} of the frames that were drawn; {least} is the least")
    found: dict[Role, Inputs] = {"face_encoder": {"frame": normalised_crops(crops, manifest.face)}}
    if fused and len(maps := np.concatenate(fused)) >= least:
        if manifest.fixation is not None and manifest.fixation.color == "bgr":
            maps = np.ascontiguousarray(maps[:, [2, 1, 0, 3]])
        found["fixation_encoder"] = {"fused": maps}
    return found


def _windows(data: Recordings, manifest: Manifest) -> Windows:
    index = window_index(data.sessions, manifest.window, first=0)
    return Windows(data.sessions, index, lambda eye: eye, manifest.window, manifest.fixation)


def _labels(data: Recordings, index: Ints) -> Ints:
    """The class of each grid point: what is shown, or where that is unknown what is felt."""
    held = []
    for number, point in index.tolist():
        session = data.sessions[number]
        shown = int(session.expression[point])
        held.append(shown if shown != UNKNOWN else int(session.emotion[point]))
    return np.array(held, np.int64)


def class_counts(data: Data, classes: tuple[str, ...]) -> dict[str, int]:
    """How many pictures, or points of sessions, there are of each class; "unlabelled" of none."""
    if isinstance(data, Pictures):
        labels = data.labels
    else:
        points = [(number, point) for number, one in enumerate(data.sessions) for point in range(len(one.face_mask))]
        labels = _labels(data, np.array(points, np.int64).reshape(-1, 2))
    counts = {name: int((labels == index).sum()) for index, name in enumerate(classes)}
    if unknown := int((labels == UNKNOWN).sum()):
        counts["unlabelled"] = unknown
    return counts


def sample_pictures(data: Data, most: int, seed: int) -> list[npt.NDArray[np.uint8]]:
    """Pictures as they were given, (H, W, 3) BGR, for looking at the samples themselves."""
    if isinstance(data, Pictures):
        return [data.images[row] for row in stratified(data.labels, most, seed)]
    crops = np.concatenate([session.crops[session.face_mask] for session in data.sessions])
    rows = np.random.default_rng([seed, 29]).permutation(len(crops))[:most]
    return [np.ascontiguousarray(crop[::-1].transpose(1, 2, 0)) for crop in crops[rows]]
