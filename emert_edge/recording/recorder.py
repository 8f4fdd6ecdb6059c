"""Writing a session down as it runs: a bounded queue, a thread that writes, and a file that a kill leaves readable."""

from __future__ import annotations

import base64
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from emert_edge.errors import EmertError, SourceError
from emert_edge.estimate import Estimate
from emert_edge.eye.samples import GazeSamples
from emert_edge.recording.messages import FORMAT, METADATA, SCHEMAS, encoded, gaze_message, token_message

__all__ = ["Recorder"]

_CHUNK_BYTES = 16 * 1024
"""Messages are written in chunks of about so much (before compression): what a kill can cost."""

_WAITING = 64
"""Entries that may wait to be written; then whoever pushes waits, too."""

_Entry = tuple[str, int, Callable[[], dict[str, Any]]]  # topic, data time, what makes the message


class Recorder:
    """A session's journal in an MCAP file.

    Whoever pushes hands over what is to be written and goes on; packing and writing are a thread's. When that thread
    cannot keep up, pushing waits: nothing is left out.

    Parameters
    ----------
    path : path
        The file; it must not exist yet.
    frames : bool
        Whether pictures are kept, without loss (PNG). Otherwise only their times are, and the tokens that the model
        made of them.
    facts : mapping
        What the file says of the session: bundle, device, precision.

    Raises
    ------
    FileExistsError
        There is a file by that name.
    OSError
        It cannot be made.
    SourceError
        The library mcap is not installed.
    """

    def __init__(self, path: str | Path, *, frames: bool = False, facts: dict[str, str] | None = None) -> None:
        try:
            from mcap.writer import Writer
        except ImportError:
            raise SourceError(f"{path}: MCAP is written with mcap; pip install 'emert-edge[recordings]'") from None
        self._path = Path(path)
        self._frames = frames
        self._facts = dict(facts or {})
        try:
            self._file = self._path.open("xb")
        except FileExistsError:
            raise FileExistsError(17, "there is a file already; a recording never replaces one", str(path)) from None
        self._writer = Writer(self._file, chunk_size=_CHUNK_BYTES)
        self._queue: queue.Queue[_Entry | None] = queue.Queue(_WAITING)
        self._lock = threading.RLock()
        self._held: list[_Entry] = []  # what came since a window was opened whose tokens are not filled in yet
        self._unsettled = 0
        self._error: BaseException | None = None
        self._closed = False
        self._channels: dict[str, int] = {}
        self._newest_ns = 0  # the time of what has none of its own
        self._base_ns: int | None = None
        self._sequence = 0
        self._thread: threading.Thread | None = None

    # -- what a session tells -----------------------------------------------------------------------------------------

    def started(self, clock: str, stride_ns: int | None) -> None:
        """Begin: the session's clock, and its stride where it is not the bundle's."""
        from emert_edge import __version__

        told = {
            "format": FORMAT,
            "emert_edge": __version__,
            "clock": clock,
            "stride_ns": "" if stride_ns is None else str(stride_ns),
            "frames": "kept" if self._frames else "left out",
            "wall_ns": str(time.time_ns()),
            "monotonic_ns": str(time.monotonic_ns()),
            **self._facts,
        }
        self._writer.start(profile="", library=f"emert_edge {__version__}")
        self._writer.add_metadata(METADATA, told)
        self._file.flush()
        self._thread = threading.Thread(target=self._write, name="emert-recorder", daemon=True)
        self._thread.start()

    def frame(self, stream: str, image: npt.NDArray[np.uint8] | None, t_ns: int, color: str, space: str | None) -> None:
        if self._frames and image is not None:
            kept = image.copy()
            self._put(f"/{stream}/image", t_ns, lambda: _image_message(kept, t_ns, color, space, stream))
            return
        height, width = (0, 0) if image is None else image.shape[:2]
        told = {"t_ns": t_ns, "width": width, "height": height, "color": color, "space": space}
        self._put(f"/{stream}", t_ns, lambda: told)

    def gaze(self, samples: GazeSamples) -> None:
        own = GazeSamples.concatenate([samples])  # a copy: the caller's arrays may change
        self._put("/gaze", int(own.t_ns[-1]), lambda: gaze_message(own))

    def offset(self, domain: str, offset_ns: int) -> None:
        self._say("offset", domain=domain, offset_ns=offset_ns)

    def lost(self, frames: int, samples: int) -> None:
        self._say("lost", frames=frames, samples=samples)

    def finished(self) -> None:
        self._say("finish")

    def reset(self) -> None:
        self._say("reset")

    def _say(self, event: str, **told: Any) -> None:
        self._put("/session", None, lambda: {"event": event, **told})

    def window(self, t_ns: int, points: Sequence[tuple[int, Any, Any]]) -> None:
        with self._lock:
            self._unsettled += 1
            self._put(
                "/window",
                t_ns,
                lambda: {
                    "t_ns": t_ns,
                    "points": [
                        {"t_ns": time_ns, "face": token_message(face), "fixation": token_message(fixation)}
                        for time_ns, face, fixation in points
                    ],
                },
            )

    def settled(self, estimates: Sequence[Estimate]) -> None:
        with self._lock:
            self._unsettled = 0
            held, self._held = self._held, []
            for entry in held:
                self._put(*entry)
            for estimate in estimates:
                self._put("/estimate", estimate.t_ns, estimate.to_dict)

    def close(self) -> None:
        """Write what waits, and finish the file; may be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            held, self._held = self._held, []
        for entry in held[: next((place for place, (topic, *_) in enumerate(held) if topic == "/window"), len(held))]:
            self._queue.put(entry)
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        try:
            if self._error is None:
                self._writer.finish()  # type: ignore[no-untyped-call]
        except OSError as error:
            self._error = error
        finally:
            self._file.close()
        self._complain()

    def discard(self) -> None:
        """Take the file away again: the session never began."""
        with self._lock:
            self._closed = True
        self._file.close()
        self._path.unlink(missing_ok=True)

    # -- writing ------------------------------------------------------------------------------------------------------

    def _put(self, topic: str, t_ns: int | None, make: Callable[[], dict[str, Any]]) -> None:
        self._complain()
        with self._lock:
            entry = (topic, self._newest_ns if t_ns is None else t_ns, make)
            self._newest_ns = entry[1]
            if self._unsettled:
                self._held.append(entry)
                return
        while True:
            try:
                self._queue.put(entry, timeout=0.1)
                return
            except queue.Full:  # noqa: PERF203 (waiting is rare)
                self._complain()

    def _complain(self) -> None:
        if self._error is not None:
            raise EmertError(
                f"{self._path}: the recording broke off: {getattr(self._error, 'strerror', None) or self._error}; "
                "what was written before can be replayed"
            ) from self._error

    def _write(self) -> None:
        try:
            while (entry := self._queue.get()) is not None:
                self._add(*entry)
                if self._queue.empty():
                    self._file.flush()
        except BaseException as error:  # whoever pushes next hears of it
            self._error = error
            while self._queue.get() is not None:  # nobody may wait for room that never comes
                pass

    def _add(self, topic: str, t_ns: int, make: Callable[[], dict[str, Any]]) -> None:
        if self._base_ns is None:
            self._base_ns = time.time_ns() - t_ns
        if topic not in self._channels:
            name, schema = SCHEMAS[topic]
            schema_id = self._writer.register_schema(name, "jsonschema", encoded(schema))
            self._channels[topic] = self._writer.register_channel(topic, "json", schema_id)
        at_ns = max(0, self._base_ns + t_ns)
        self._writer.add_message(self._channels[topic], at_ns, encoded(make()), at_ns, self._sequence)
        self._sequence += 1


def _image_message(
    image: npt.NDArray[np.uint8], t_ns: int, color: str, space: str | None, stream: str
) -> dict[str, Any]:
    bgr = image if color == "bgr" else np.ascontiguousarray(image[:, :, ::-1])
    done, png = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise EmertError(f"a frame of {image.shape[1]} × {image.shape[0]} pixels could not be encoded")
    seconds, rest = divmod(max(t_ns, 0), 1_000_000_000)
    return {
        "timestamp": {"sec": seconds, "nsec": rest},
        "frame_id": stream,
        "data": base64.b64encode(png.tobytes()).decode(),
        "format": "png",
        "t_ns": t_ns,
        "color": color,
        "space": space,
    }
