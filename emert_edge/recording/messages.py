"""What stands in a recording: topics, schemas, and how arrays become JSON and come back as they were.

Every message is JSON, so that viewers show and plot it; arrays in it are base64 of little-endian values, so that they
come back to the last bit. `docs/recording.md` describes the format.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from emert_edge.estimate import FaceBox
from emert_edge.eye.samples import ARRAY_NAMES, GazeSamples

__all__ = ["FORMAT", "METADATA", "SCHEMAS", "Damaged", "decoded", "encoded", "gaze_message", "gaze_of", "image_of",
           "token_fields", "token_message"]  # fmt: skip

FORMAT = "1"
METADATA = "emert_edge"

_LABELS = ("pupil_unit", "space", "size_px", "clock")


class Damaged(ValueError):
    """A message that is not what its topic says."""


def _object(title: str, description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "description": description, "type": "object", "properties": properties}


_TIME = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
_NUMBER, _INTEGER, _TEXT = {"type": ["number", "null"]}, {"type": "integer"}, {"type": ["string", "null"]}
_BYTES = {"type": "string", "contentEncoding": "base64"}

#: The schema of each topic's messages, by its name. `foxglove.CompressedImage` is a schema that viewers know.
SCHEMAS: dict[str, tuple[str, dict[str, Any]]] = {
    "/face": ("emert_edge.Frame", _object("emert_edge.Frame", "A frame came; its picture was not kept.",
              t_ns=_INTEGER, width=_INTEGER, height=_INTEGER, color=_TEXT, space=_TEXT)),
    "/face/image": ("foxglove.CompressedImage", _object("foxglove.CompressedImage", "A frame, kept without loss.",
                    timestamp=_TIME, frame_id=_TEXT, data=_BYTES, format=_TEXT, t_ns=_INTEGER, color=_TEXT,
                    space=_TEXT)),
    "/gaze": ("emert_edge.Gaze", _object("emert_edge.Gaze", "Gaze samples; x, y and pupil are the last one's.",
              count=_INTEGER, x=_NUMBER, y=_NUMBER, pupil=_NUMBER, t_ns=_BYTES,
              arrays={"type": "object", "additionalProperties": _BYTES})),
    "/window": ("emert_edge.Window", _object("emert_edge.Window", "A window was taken, with its new tokens.",
                t_ns=_INTEGER, points={"type": "array", "items": {"type": "object"}})),
    "/estimate": ("emert_edge.Estimate", _object("emert_edge.Estimate", "What the window says.",
                  time_s=_NUMBER, gap=_NUMBER)),
    "/session": ("emert_edge.Session", _object("emert_edge.Session", "What else happened to the session.",
                 event=_TEXT)),
}  # fmt: skip
SCHEMAS["/scene"] = SCHEMAS["/face"]
SCHEMAS["/scene/image"] = SCHEMAS["/face/image"]


def encoded(message: dict[str, Any]) -> bytes:
    """A message as it stands in the file."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()


def decoded(data: bytes) -> dict[str, Any]:
    """A message that was read."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"no JSON: {error}") from None
    if not isinstance(message, dict):
        raise Damaged("no JSON object")
    return message


def _packed(array: npt.NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()


def _unpacked(text: Any, kind: str) -> npt.NDArray[Any]:
    try:
        held = np.frombuffer(base64.b64decode(text, validate=True), kind)
    except (binascii.Error, ValueError, TypeError) as error:
        raise Damaged(f"an array that cannot be read: {error}") from None
    return held.astype(np.dtype(kind).newbyteorder("="))


def gaze_message(samples: GazeSamples) -> dict[str, Any]:
    """Samples as a message: arrays that hold nothing are left out."""

    def last(*names: str) -> float | None:
        values = [float(getattr(samples, name)[-1]) for name in names]
        finite = [value for value in values if np.isfinite(value)]
        return sum(finite) / len(finite) if finite else None

    return {
        "count": len(samples),
        "x": last("x"),
        "y": last("y"),
        "pupil": last("pupil_left", "pupil_right"),
        "t_ns": _packed(samples.t_ns, "<i8"),
        "arrays": {name: _packed(getattr(samples, name), "<f4") for name in ARRAY_NAMES if _holds(samples, name)},
        **{label: getattr(samples, label) for label in _LABELS},
    }


def _holds(samples: GazeSamples, name: str) -> bool:
    """Whether there is anything but NaN."""
    return not bool(np.isnan(getattr(samples, name)).all())


def gaze_of(message: dict[str, Any]) -> GazeSamples:
    """The samples of such a message, to the last bit."""
    arrays = message.get("arrays")
    if not isinstance(arrays, dict) or not set(arrays) <= set(ARRAY_NAMES):
        raise Damaged("gaze without its arrays, or with unknown ones")
    points: dict[str, Any] = {name: _unpacked(text, "<f4") for name, text in arrays.items()}
    labels: dict[str, Any] = {label: message.get(label) for label in _LABELS}
    try:
        return GazeSamples(t_ns=_unpacked(message.get("t_ns"), "<i8"), **points, **labels)
    except (TypeError, ValueError) as error:
        raise Damaged(f"gaze that cannot be: {error}") from None


def token_message(token: Any) -> dict[str, Any]:
    """A token as part of a window's message."""
    face = token.face
    return {
        "vector": None if token.vector is None else _packed(token.vector, "<f4"),
        "skew_ns": int(token.skew_ns),
        "seen": bool(token.seen),
        "face": None
        if face is None
        else {"box": [float(side) for side in face.box], "score": float(face.score), "track_id": int(face.track_id)},
    }


def token_fields(message: Any) -> dict[str, Any]:
    """The fields of a token that stands in a window's message."""
    try:
        face, vector = message["face"], message["vector"]
        return {
            "vector": None if vector is None else _unpacked(vector, "<f4"),
            "skew_ns": int(message["skew_ns"]),
            "face": None if face is None else FaceBox(tuple(face["box"]), face["score"], face["track_id"]),
            "seen": bool(message["seen"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"a token that cannot be: {error!r}") from None


def image_of(message: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """The frame of an image message, (H, W, 3) uint8 in the message's own order of colours."""
    png = _unpacked(message.get("data"), "u1")
    image = cv2.imdecode(png, cv2.IMREAD_COLOR) if png.size else None
    if image is None:
        raise Damaged("a frame that cannot be decoded")
    return np.ascontiguousarray(image if message.get("color") == "bgr" else image[:, :, ::-1], np.uint8)
