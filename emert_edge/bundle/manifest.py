"""What a bundle says of itself: `manifest.json`, typed.

A manifest names every file with its sha256, every graph with its role, precision and target, and everything that
turns a camera frame and a gaze sample into the graphs' inputs: training and running both read it here.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from emert_edge.errors import BundleCorrupt, BundleIncompatible

__all__ = [
    "FORMAT_VERSION",
    "ROLES",
    "Evidence",
    "EyeInput",
    "FaceInput",
    "FileEntry",
    "FixationInput",
    "Graph",
    "Labels",
    "Manifest",
    "PointInput",
    "Precision",
    "Role",
    "Target",
    "Training",
    "WindowSpec",
    "member_path_fault",
    "parse_manifest",
    "seal_manifest",
]

FORMAT_VERSION: Literal[1] = 1

Role = Literal["face_encoder", "fixation_encoder", "head"]
Precision = Literal["fp32", "fp16", "int8"]
Target = Literal["any", "cpu", "tensorrt"]
ROLES: tuple[Role, ...] = ("face_encoder", "fixation_encoder", "head")

Triple = Annotated[tuple[float, float, float], Field()]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def member_path_fault(path: str) -> str | None:
    """Say what is wrong with a path inside a bundle, or None if it stays inside."""
    if not path or "\\" in path or "\0" in path:
        return "is not a plain relative path"
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        return "leaves the bundle"
    return None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileEntry(_Part):
    """One file of the bundle."""

    sha256: Sha256
    size: int = Field(ge=0, description="bytes")


class Graph(_Part):
    """One ONNX graph: its precision is written in the file, its target says which engine it was placed for."""

    role: Role
    precision: Precision
    target: Target = "any"
    file: str


class Labels(_Part):
    """Classes in the order of the graphs' outputs; None where the bundle has no such head."""

    emotion: tuple[str, ...] | None
    expression: tuple[str, ...] | None
    polarity: tuple[str, ...] | None = ("positive", "negative", "neutral")
    reactions: tuple[str, ...] | None = None


class FaceInput(_Part):
    """How a face crop becomes the face encoder's input."""

    size: tuple[int, int] = Field((112, 112), description="height, width in pixels")
    color: Literal["rgb", "bgr"] = "rgb"
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.25, 0.25, 0.25)
    scale: float = Field(1.3, gt=0, description="side of the square crop over the side of the face box")


class FixationInput(_Part):
    """How gaze, and a scene frame where there is one, become the fixation encoder's input."""

    size: tuple[int, int] = Field((112, 112), description="height, width in pixels")
    color: Literal["rgb", "bgr"] = "rgb"
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.25, 0.25, 0.25)
    sigma_px: float = Field(3.0, gt=0, description="sigma of a fixation in pixels of `size`")


class PointInput(_Part):
    """How gaze becomes the head's points, where a bundle takes points instead of fixation maps."""

    scale: tuple[float, float] = Field(
        (1.0, 1.0), description="what a point, in fractions of width and height, is multiplied by"
    )


class EyeInput(_Part):
    """Which eye features the head was trained on, and how they are scaled: (value - mean) / std, cut at ±clip."""

    features: tuple[str, ...] = Field(description='names of `emert_edge.eye.FEATURE_NAMES`; "" is a column of zeros')
    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: float | None = Field(8.0, gt=0, description="None where values are not cut")
    normalization: Literal["training", "none"] = Field("training", description="where mean and std come from")
    baseline_tokens: int = Field(
        0,
        ge=0,
        description="first tokens of a session that make the subject's baseline, which is taken out; 0: none",
    )
    assumed: bool = Field(False, description="nobody knows whether these are the columns that the head was trained on")

    @model_validator(mode="after")
    def _lengths(self) -> EyeInput:
        if not len(self.features) == len(self.mean) == len(self.std):
            raise ValueError("features, mean and std must have one length")
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be positive")
        return self


class WindowSpec(_Part):
    """The window, its grid and its stride, in whole milliseconds."""

    face_tokens: int = Field(8, ge=1)
    face_cadence_ms: int = Field(500, ge=1)
    eye_tokens: int = Field(32, ge=1)
    eye_span_ms: int = Field(125, ge=1)
    stride_ms: int = Field(500, ge=1)
    max_wait_ms: int = Field(250, ge=0, description="how long one stream waits for the others")

    @model_validator(mode="after")
    def _grid(self) -> WindowSpec:
        if self.stride_ms % self.eye_span_ms:
            raise ValueError("stride_ms must be a multiple of eye_span_ms")
        if self.face_tokens * self.face_cadence_ms != self.eye_tokens * self.eye_span_ms:
            raise ValueError("face tokens and eye tokens must span the same window")
        if self.face_cadence_ms % self.eye_span_ms:
            raise ValueError("face_cadence_ms must be a multiple of eye_span_ms")
        if self.eye_tokens % 2:
            raise ValueError("eye_tokens must be even: the first estimate comes after half a window")
        return self

    @property
    def window_ms(self) -> int:
        """Length of the window in milliseconds."""
        return self.eye_tokens * self.eye_span_ms


class Training(_Part):
    """Where the weights come from."""

    data: tuple[str, ...] = Field(description="data sets, one line each")
    summary: str = ""
    command: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)


class Evidence(_Part):
    """What was measured of one precision beside the FP32 graphs, on the same data, by the engine that runs it."""

    precision: Precision
    target: Target = "any"
    data: str = Field(description="what it was measured on, in words")
    samples: int = Field(ge=1)
    labelled: bool = Field(description="whether the data had labels; without them only agreement is known")
    figures: dict[str, float] = Field(
        description="agreement with FP32, and of labelled data uar, accuracy and ece, each with fp32_… beside it"
    )
    bounds: dict[str, float] = Field(default_factory=dict, description="what was asked for")
    method: str = Field("", description="how the graphs were made: calibrator, samples, layers left float")
    accepted: bool = Field(description="whether every bound was kept; `auto` takes no precision without it")


class Manifest(_Part):
    """The whole of `manifest.json`."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    version: str
    description: str = ""
    architecture: str = "emert"
    size: str = "nano"
    token_width: int = Field(gt=0)
    labels: Labels
    face: FaceInput = FaceInput()
    profile: Literal["emert", "published"] = Field(
        "emert", description="published: the authors' preprocessing, and a head without masks"
    )
    fixation: FixationInput | None = None
    points: PointInput | None = Field(None, description="gaze points in the place of fixation maps")
    eye: EyeInput | None = None
    window: WindowSpec = WindowSpec()
    temperature: dict[str, float] = Field(default_factory=dict, description="softmax temperature of a head by its name")
    training: Training
    licence: str = Field(description="licence of the weights")
    card: str = Field("card.md", description="the card's file in the bundle")
    graphs: tuple[Graph, ...]
    evidence: tuple[Evidence, ...] = Field((), description="at most one of each precision and target")
    files: dict[str, FileEntry]
    manifest_sha256: Sha256 | None = Field(None, description="seal over this manifest without this field")

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        seen = set()
        for graph in self.graphs:
            key = (graph.role, graph.precision, graph.target)
            if key in seen:
                raise ValueError(f"graph {key} stands twice")
            seen.add(key)
            if graph.file not in self.files:
                raise ValueError(f"graph {key} names {graph.file!r}, which files does not list")
        pairs = [(one.precision, one.target) for one in self.evidence]
        if len(set(pairs)) != len(pairs):
            raise ValueError("evidence: a precision and target stand twice")
        if self.card not in self.files:
            raise ValueError(f"card {self.card!r} is not listed in files")
        if self.fixation is not None and self.points is not None:
            raise ValueError("fixation and points are two ways to give gaze; a bundle takes one of them")
        if self.points is not None and self.eye is None:
            raise ValueError("points belong to eye tokens, and the bundle has none")
        for name, temperature in self.temperature.items():
            if not (math.isfinite(temperature) and temperature > 0):
                raise ValueError(f"temperature of {name} must be positive")
        return self

    @property
    def gaze(self) -> Literal["maps", "points"] | None:
        """How gaze reaches the head beside the eye features, if it does."""
        if self.points is not None:
            return "points"
        return "maps" if self.fixation is not None else None

    def accepts(self, precision: Precision, target: Target) -> bool:
        """Whether a precision other than FP32 was measured for a target, or for any, and kept its bounds."""
        return any(
            one.accepted for one in self.evidence if one.precision == precision and one.target in ("any", target)
        )

    @property
    def identity(self) -> str:
        """Name and version in one word, as estimates carry it."""
        return f"{self.name}@{self.version}"


def _seal_of(content: dict[str, Any]) -> str:
    plain = {key: value for key, value in content.items() if key != "manifest_sha256"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def seal_manifest(manifest: Manifest) -> bytes:
    """Serialise a manifest with its seal, as it is written to `manifest.json`."""
    content = json.loads(manifest.model_dump_json(exclude={"manifest_sha256"}))
    content["manifest_sha256"] = _seal_of(content)
    return (json.dumps(content, indent=2, ensure_ascii=True) + "\n").encode()


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Read and check `manifest.json`.

    Raises
    ------
    BundleCorrupt
        The text is no JSON, its seal is broken, a path leaves the bundle, or a field is missing or wrong.
    BundleIncompatible
        The format version is not one that this version of the package reads.
    """
    try:
        content = json.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleCorrupt(f"{where}: manifest.json is not valid JSON ({error}); get the bundle anew") from error
    if not isinstance(content, dict):
        raise BundleCorrupt(f"{where}: manifest.json does not hold an object; get the bundle anew")
    version = content.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise BundleIncompatible(
            f"{where}: bundle format version {version!r}; this emert_edge reads version {FORMAT_VERSION}: "
            "update emert_edge or export the bundle anew"
        )
    files = content.get("files")
    for path in files if isinstance(files, dict) else ():
        if fault := member_path_fault(path):
            raise BundleCorrupt(f"{where}: manifest.json lists {path!r}, which {fault}; do not use this bundle")
    if content.get("manifest_sha256") != _seal_of(content):
        raise BundleCorrupt(f"{where}: manifest.json was changed after it was written (its seal does not fit)")
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleCorrupt(f"{where}: manifest.json, {place}: {first['msg']}") from error
