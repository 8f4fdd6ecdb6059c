"""Recognizer: a bundle on a device, shared by any number of sessions."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from emert_edge import __version__
from emert_edge.asynchronous import off_thread
from emert_edge.bundle import Bundle, open_bundle
from emert_edge.bundle.manifest import FaceInput, Manifest
from emert_edge.encoder_inputs import plane_order
from emert_edge.engines import EngineSet, open_engines
from emert_edge.errors import BundleIncompatible, EngineError, SessionClosed
from emert_edge.estimate import Estimate, Quality, Scores, TaskEstimate, jensen_shannon, softmax
from emert_edge.eye.features import FEATURE_NAMES
from emert_edge.face import open_detector, whole_affine
from emert_edge.forward import Forward, open_forward
from emert_edge.inputs import Align, FrameInput, GazeInput, Space, gaze_offset_ns, is_recording, open_inputs
from emert_edge.kernels import crop_normalize_into, instruction_set
from emert_edge.live import LiveEstimates, Policy, check_policy
from emert_edge.recording import Recorder, Recording
from emert_edge.replay import ReplayedEstimates, replay_estimates, replay_recording
from emert_edge.session import Session, Window

__all__ = ["Recognizer", "write_whole_faces"]

FloatArray = npt.NDArray[np.float32]


class Recognizer:
    """What faces show and people feel, from a face video and eye behaviour.

    Parameters
    ----------
    bundle
        A bundle's name, folder or `.emert` file, an open `Bundle`, or None for the packaged one.
    device
        "auto", "cpu", "cuda", "cuda:N", "tensorrt" or "tensorrt:N". `auto` may choose, a name may not.
    precision
        "auto", "fp32", "fp16" or "int8".
    threads
        Threads of the inference runtime on a CPU; chosen for small machines when None.
    detector
        Path of a YuNet model for finding faces; without it the user's store is asked for one, and the Haar cascade
        that ships with OpenCV is used otherwise.
    build_engines
        Whether a TensorRT engine that is missing, or does not fit, may be built here, which takes minutes;
        `emert-edge build` does it beforehand.

    Raises
    ------
    BundleNotFound, BundleCorrupt, BundleIncompatible
        The bundle is not there, damaged, or lacks what was asked for.
    DeviceUnavailable
        The named device cannot be had here, with the reason.
    EngineMismatch
        A TensorRT engine that fits is missing, and building it was not allowed.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        detector: str | Path | None = None,
        build_engines: bool = True,
    ) -> None:
        # The engines' buffers are shared, so one thread computes at a time.
        self._compute = Lock()
        self._bundle = open_bundle(bundle)
        _require_features(self._bundle)
        self._detector = open_detector(detector)
        self._engines: EngineSet | None = open_engines(
            self._bundle, device=device, precision=precision, threads=threads, build_engines=build_engines
        )
        engines = self._engines
        self._device, self._precision = str(engines.device), engines.precision
        try:
            self._forward: Forward | None = open_forward(engines)
        except BaseException:
            self.close()
            raise

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def bundle(self) -> Bundle:
        """The open bundle."""
        return self._bundle

    @property
    def device(self) -> str:
        """The device that runs the graphs: "cpu", "cuda:N" or "tensorrt:N"."""
        return self._device

    @property
    def precision(self) -> str:
        """The precision that was chosen: "fp32", "fp16" or "int8"."""
        return self._precision

    def describe(self) -> dict[str, Any]:
        """Say what really runs: files, providers, versions, kernels, detector, the bundle's licence."""
        import cv2

        manifest = self._bundle.manifest
        engines = self._open_engines()
        return {
            "emert_edge": __version__,
            "bundle": {
                "name": manifest.name,
                "version": manifest.version,
                "path": str(self._bundle.path),
                "licence": manifest.licence,
                "architecture": f"{manifest.architecture}-{manifest.size}",
                "profile": manifest.profile,
                "gaze": manifest.gaze,
                "description": manifest.description,
            },
            "device": self._device,
            "precision": self._precision,
            "frames_and_tokens": "GPU" if engines.on_gpu else "host",
            "threads": engines.threads,
            "engines": [asdict(engine.describe()) for engine in engines.all()],
            "window": {
                "window_s": manifest.window.window_ms / 1000,
                "stride_s": manifest.window.stride_ms / 1000,
                "face_cadence_s": manifest.window.face_cadence_ms / 1000,
                "eye_span_s": manifest.window.eye_span_ms / 1000,
                "max_wait_s": manifest.window.max_wait_ms / 1000,
            },
            "kernels": instruction_set(),
            "detector": self._detector.name,
            "opencv": cv2.__version__,
            "numpy": np.__version__,
        }

    def warmup(self) -> None:
        """Run every graph once, so that the first estimate is not the slowest."""
        with self._compute:
            self._open_forward().warmup()

    # -- streaming ----------------------------------------------------------------------------------------------------

    def session(
        self,
        *,
        stride_s: float | None = None,
        clock: str = "monotonic",
        record: str | Path | None = None,
        record_frames: bool = False,
    ) -> Session:
        """Make a session: one person's stream.

        Parameters
        ----------
        stride_s
            Seconds between estimates, a multiple of the bundle's eye token; the bundle's own when None.
        clock
            Name of the clock domain that the session's times are in.
        record
            An MCAP file to write the session down in, which must not exist yet: gaze, clocks, the model's tokens and
            the estimates. `run(session=…)` replays it, bit for bit.
        record_frames
            Whether the recording keeps the pictures, too. Without them nobody's face is in the file.

        Raises
        ------
        FileExistsError
            There is a file by the recording's name.
        """
        self._open_engines()
        if record is None:
            return Session(self, stride_s=stride_s, clock=clock)
        facts = {
            "bundle": self._bundle.manifest.identity,
            "bundle_sha256": _digest(self._bundle.manifest),
            "device": self._device,
            "precision": self._precision,
            "detector": self._detector.name,
        }
        recorder = Recorder(record, frames=record_frames, facts=facts)
        try:
            return Session(self, stride_s=stride_s, clock=clock, journal=recorder)
        except BaseException:
            recorder.discard()
            raise

    def step(self, sessions: Sequence[Session]) -> list[list[Estimate]]:
        """Take what is due from many sessions in common batches.

        Returns
        -------
        list of list of Estimate
            One list a session, in the order given; equal to each session's own `estimates()` to 1e-5.

        Raises
        ------
        ValueError
            A session belongs to another recognizer, or stands twice in the list.
        SessionClosed
            A session is closed.
        EngineError
            An engine failed. The windows of its batch are lost, and no others: estimates that were finished come with
            the next call.
        """
        sessions = list(sessions)
        for session in sessions:
            if not isinstance(session, Session):
                raise TypeError(f"sessions must hold Sessions, not {type(session).__name__}")
            if session._recognizer is not self:
                raise ValueError("sessions: a session of another Recognizer cannot be stepped here")
        if len({id(session) for session in sessions}) != len(sessions):
            raise ValueError("sessions: a session stands twice in the list")
        with self._compute:
            self._open_engines()
            for session in sessions:  # before anything is taken from any of them
                session._require_usable()
            try:
                while self._step_once(sessions):
                    pass
            except BaseException:
                self._open_forward().abandon()
                for session in sessions:
                    session._settle([])
                raise
            return [session._delivered() for session in sessions]

    def _step_once(self, sessions: Sequence[Session]) -> bool:
        """Estimate one batch of due windows; say whether there was one."""
        room = self._open_engines().head.max_batch
        batch: list[tuple[Session, Window]] = []
        for session in sessions:
            with suppress(SessionClosed):  # by another thread, since the step began
                for t_ns in session._due(room - len(batch)):
                    batch.append((session, self._open_window(session, t_ns, len(batch))))
            if len(batch) == room:
                break
        if not batch:
            return False
        taken: dict[Session, list[Estimate]] = {session: [] for session, _ in batch}
        outputs = self._open_forward().head([window for _, window in batch])
        for row, (session, window) in enumerate(batch):
            taken[session].append(_estimate(self._bundle.manifest, outputs, row, window))
        for session, estimates in taken.items():
            session._settle(estimates)
        return True

    def _open_window(self, session: Session, t_ns: int, row: int) -> Window:
        forward = self._open_forward()
        return session._open_window(t_ns, forward.face, forward.fixation, lambda eye: forward.eye(row, eye))

    def _frame_memory(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Allocate what a session keeps a frame in."""
        return self._open_forward().frame_memory(shape)

    # -- whole recordings and live streams ----------------------------------------------------------------------------

    def run(
        self,
        face: FrameInput | None = None,
        gaze: GazeInput | None = None,
        scene: FrameInput | None = None,
        *,
        session: str | Path | None = None,
        gaze_offset_ms: float = 0.0,
        align: Align = "start",
        scene_space: Space = "scene",
        stride_s: float | None = None,
        record: str | Path | None = None,
        record_frames: bool = False,
    ) -> Iterator[Estimate]:
        """Estimate a recording: every frame is offered, and the same input gives the same bytes.

        Parameters
        ----------
        face, scene
            A video, an animated GIF, a folder of images, or a `FrameSource`; or, as `face` alone, a recorded session.
        gaze
            A gaze recording's file or folder, a `GazeRecording`, or `GazeSamples`.
        session
            A recorded session in one file: an MCAP file that `record` wrote, which holds all its streams and is
            replayed as it ran; or an XDF file, whose gaze is taken and beside which `face` and `scene` may be given.
        gaze_offset_ms
            Added to the gaze's times after alignment.
        align
            "start" lays the first data of every recording on one instant, time 0; "clock" keeps their times, which
            must then be of one clock domain.
        scene_space
            "scene" for a head-worn scene camera, "screen" for a recording of the screen.
        stride_s
            Seconds between estimates; the bundle's own when None.
        record, record_frames
            Write the session down, as `session` does.

        Yields
        ------
        Estimate

        Raises
        ------
        FrameSourceError, GazeFormatError
            A recording cannot be read, or breaks off.
        ValueError
            Nothing to estimate was given, or clock domains differ.
        """
        offset_ns = gaze_offset_ns(gaze_offset_ms)
        if session is None and isinstance(face, (str, Path)) and Path(face).is_file() and is_recording(face):
            session, face = face, None
        if session is not None and is_recording(session):
            if (face, gaze, scene, offset_ns, record) != (None, None, None, 0, None):
                raise ValueError(f"{session} holds all streams of a session: nothing else can be given beside it")
            return self._replayed(Recording(session), stride_s)
        inputs = open_inputs(face, gaze, scene, session, scene_space, align, live=False)
        try:
            stream = self.session(stride_s=stride_s, clock="recording", record=record, record_frames=record_frames)
        except BaseException:
            inputs.close()
            raise
        estimates = replay_estimates(stream, inputs, gaze_offset_ns=offset_ns, rebase=align == "start")
        return ReplayedEstimates(estimates, partial(inputs.release, stream))

    def _replayed(self, recording: Recording, stride_s: float | None) -> ReplayedEstimates:
        facts = recording.facts
        own = facts.get("bundle_sha256") == _digest(self._bundle.manifest)
        recorded_ns = int(facts.get("stride_ns") or self._bundle.manifest.window.stride_ms * 1_000_000)
        recorded_s = recorded_ns / 1e9
        exact = own and stride_s in (None, recorded_s)
        if not (exact or recording.frames_kept):
            told = f"of the bundle {facts.get('bundle')}" if not own else "with another stride"
            raise BundleIncompatible(
                f"{recording.path}: a session {told}, whose frames were not kept: only what the model made of them is "
                "there. Replay it as it ran, or record with frames (--frames)"
            )
        stream = self.session(stride_s=recorded_s if exact else stride_s, clock=facts.get("clock") or "recording")
        return ReplayedEstimates(replay_recording(stream, recording, exact=exact), stream.close)

    def live(
        self,
        face: FrameInput | None = None,
        gaze: GazeInput | None = None,
        scene: FrameInput | None = None,
        *,
        session: str | Path | None = None,
        gaze_offset_ms: float = 0.0,
        align: Align = "start",
        scene_space: Space = "scene",
        stride_s: float | None = None,
        policy: Policy = "latest",
        max_queue: int = 8,
        record: str | Path | None = None,
        record_frames: bool = False,
    ) -> LiveEstimates:
        """Estimate live streams: each source is read by a thread of its own.

        Recordings may take the place of devices, and a recorded session (`session`) the place of all; they are played
        at their own pace, and the stream ends when all sources have ended.

        Parameters
        ----------
        policy
            What a full queue does: "latest" drops its oldest frame and counts it, "block" makes the source wait,
            "error" raises `QueueOverflow` here.
        max_queue
            Frames that may wait.
        record, record_frames
            Write the session down, as `session` does.

        Raises
        ------
        FrameSourceError
            A camera was lost.
        QueueOverflow
            Under `policy="error"`.
        """
        offset_ns = gaze_offset_ns(gaze_offset_ms)
        check_policy(policy, max_queue)
        if session is not None and is_recording(session):
            if (face, gaze, scene, offset_ns, record) != (None, None, None, 0, None):
                raise ValueError(f"{session} holds all streams of a session: nothing else can be given beside it")
            replayed = self._replayed(Recording(session), stride_s)
            return LiveEstimates.played(replayed, replayed.close)
        inputs = open_inputs(face, gaze, scene, session, scene_space, align, live=True)
        try:
            stream = self.session(stride_s=stride_s, clock="monotonic", record=record, record_frames=record_frames)
        except BaseException:
            inputs.close()
            raise
        return LiveEstimates(
            stream,
            inputs,
            gaze_offset_ns=offset_ns,
            rebase=align == "start",
            policy=policy,
            max_queue=max_queue,
        )

    def run_async(self, *args: Any, **kwargs: Any) -> AsyncIterator[Estimate]:
        """Do as `run` does, without blocking the event loop."""
        return off_thread(lambda: self.run(*args, **kwargs))

    def live_async(self, *args: Any, **kwargs: Any) -> AsyncIterator[Estimate]:
        """Do as `live` does, without blocking the event loop."""
        return off_thread(lambda: self.live(*args, **kwargs))

    # -- single faces -------------------------------------------------------------------------------------------------

    def expressions(
        self, images: npt.NDArray[np.uint8] | Sequence[npt.NDArray[np.uint8]], *, color: str = "bgr"
    ) -> FloatArray:
        """Read the shown expression from faces that are already cropped; nothing is detected.

        Parameters
        ----------
        images
            `(N, H, W, 3)` uint8, or a sequence of `(H, W, 3)` uint8 of any sizes.
        color
            "bgr" or "rgb".

        Returns
        -------
        ndarray
            `(N, classes)` float32 probabilities, in the order of `bundle.manifest.labels.expression`.

        Raises
        ------
        BundleIncompatible
            The bundle has no expression head on single faces.
        TypeError, ValueError
            An image is not uint8 or has another shape; the message names it.
        """
        spec, labels = self._bundle.manifest.face, self._bundle.manifest.labels
        if color not in ("bgr", "rgb"):
            raise ValueError(f"color must be 'bgr' or 'rgb', not {color!r}")
        faces = _face_images(images)
        with self._compute:
            engine = self._open_engines().face_encoder
            if labels.expression is None or "expression_logits" not in engine.outputs:
                raise BundleIncompatible(f"{self._bundle.path}: no expression head on single faces in this bundle")
            temperature = self._bundle.manifest.temperature.get("face_expression", 1.0)
            result = np.empty((len(faces), len(labels.expression)), np.float32)
            for first in range(0, len(faces), engine.max_batch):
                part = faces[first : first + engine.max_batch]
                write_whole_faces(engine.inputs["frame"], part, spec, color=color)
                engine.run(len(part))
                logits = engine.outputs["expression_logits"][: len(part)]
                result[first : first + len(part)] = softmax(logits, temperature)
        return result

    # -- end ----------------------------------------------------------------------------------------------------------

    def _open_engines(self) -> EngineSet:
        if self._engines is None:
            raise EngineError("this Recognizer is closed; make a new one")
        return self._engines

    def _open_forward(self) -> Forward:
        self._open_engines()
        assert self._forward is not None
        return self._forward

    def close(self) -> None:
        """Release the engines; may be called twice."""
        with self._compute:
            if self._engines is not None:
                self._forward = None
                self._engines.close()
                self._engines = None

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_whole_faces(
    rows: FloatArray, images: Sequence[npt.NDArray[np.uint8]], spec: FaceInput, *, color: str = "bgr"
) -> None:
    """Write pictures that are all face into the first rows of a face encoder's input.

    Parameters
    ----------
    rows
        `(batch, 3, height, width)` float32.
    images
        `(H, W, 3)` uint8 each, at most as many as there are rows.
    spec
        The bundle's.
    color
        "bgr" or "rgb": what the pictures are.
    """
    order = plane_order(color, spec.color)
    for row, image in zip(rows, images, strict=False):
        crop_normalize_into(row, image, whole_affine(image.shape[:2], spec.size), spec.mean, spec.std, color=order)


def _digest(manifest: Manifest) -> str:
    """What tells one bundle's manifest, and with it the bundle's files, from every other."""
    return hashlib.sha256(manifest.model_dump_json().encode()).hexdigest()


def _require_features(bundle: Bundle) -> None:
    eye = bundle.manifest.eye
    unknown = [name for name in eye.features if name and name not in FEATURE_NAMES] if eye is not None else []
    if unknown:
        raise BundleIncompatible(
            f"{bundle.path}: takes eye features that this emert_edge does not compute "
            f"({', '.join(unknown[:5])}): update emert_edge or train anew"
        )


def _estimate(manifest: Manifest, outputs: Mapping[str, FloatArray], row: int, window: Window) -> Estimate:
    labels = manifest.labels
    emotion = _task("emotion", labels.emotion, manifest, outputs, row)
    expression = _task("expression", labels.expression, manifest, outputs, row)
    gap = None
    felt, shown = (task.probabilities if task is not None else None for task in (emotion, expression))
    if felt is not None and shown is not None and labels.emotion == labels.expression:
        gap = jensen_shannon(list(felt.values()), list(shown.values()))
    reactions = None
    if labels.reactions is not None and "reactions" in outputs:
        reactions = Scores(labels.reactions, outputs["reactions"][row])
    return Estimate(
        time_s=window.t_ns / 1e9,
        t_ns=window.t_ns,
        window_s=(window.start_ns / 1e9, window.t_ns / 1e9),
        sequence=window.sequence,
        face=window.faces[-1].face,
        emotion=emotion,
        expression=expression,
        gap=gap,
        reactions=reactions,
        quality=_quality(manifest, window),
        latency_ms=None,
        model=manifest.identity,
    )


def _task(
    name: str, classes: tuple[str, ...] | None, manifest: Manifest, outputs: Any, row: int
) -> TaskEstimate | None:
    if not any(output.startswith(f"{name}_") for output in outputs):
        return None
    label = probability = scores = polarity = polarities = None
    if classes is not None and f"{name}_logits" in outputs:
        probabilities = softmax(outputs[f"{name}_logits"][row], manifest.temperature.get(name, 1.0))
        best = int(probabilities.argmax())
        label, probability, scores = classes[best], float(probabilities[best]), Scores(classes, probabilities)
    if manifest.labels.polarity is not None and f"{name}_polarity_logits" in outputs:
        polarities = Scores(manifest.labels.polarity, softmax(outputs[f"{name}_polarity_logits"][row]))
        polarity = max(polarities, key=polarities.__getitem__)

    def number(output: str, column: int = 0, low: float = -1.0, high: float = 1.0) -> float | None:
        # A published head ends in a linear layer: what it gives beyond the scale is the scale's end.
        return min(max(float(outputs[output][row, column]), low), high) if output in outputs else None

    pair = f"{name}_valence_arousal"
    return TaskEstimate(
        label=label,
        probability=probability,
        probabilities=scores,
        polarity=polarity,
        polarities=polarities,
        valence=number(pair, 0) if pair in outputs else number(f"{name}_valence"),
        arousal=number(pair, 1) if pair in outputs else number(f"{name}_arousal"),
        intensity=number("expression_intensity", low=0.0, high=3.0) if name == "expression" else None,
    )


def _quality(manifest: Manifest, window: Window) -> Quality:
    real = sum(token.face is not None for token in window.faces)
    newest = window.faces[-1]
    degraded = []
    if not real or (newest.seen and newest.face is None):
        degraded.append("no_face")  # nobody now, or nobody in the whole window
    if not window.gaze:
        degraded.append("no_gaze")
    if not window.pupil:
        degraded.append("no_pupil")
    if manifest.fixation is not None and not any(token.seen for token in window.fixations):
        degraded.append("no_scene")
    if real and not newest.seen:
        degraded.append("stale_face")  # the camera fell silent: the estimate rests on older frames
    if not window.synchronised:
        degraded.append("clock_unsynchronised")
    return Quality(
        face=real / manifest.window.face_tokens,
        gaze=window.gaze,
        skew_ms=window.skew_ns / 1e6,
        dropped_frames=window.dropped_frames,
        late_samples=window.late_samples,
        degraded=tuple(degraded),
    )


def _face_images(images: Any) -> list[npt.NDArray[np.uint8]]:
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise ValueError(f"images must have the shape (N, H, W, 3), not {images.shape}; wrap a single image in a list")
    if not isinstance(images, np.ndarray | list | tuple):
        raise TypeError(f"images must be an array (N, H, W, 3) or a list of images, not {type(images).__name__}")
    faces = list(images)
    for index, image in enumerate(faces):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise TypeError(f"images[{index}] must be a uint8 array, not {kind}")
        if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ValueError(f"images[{index}] must have the shape (H, W, 3), not {image.shape}")
    return faces
