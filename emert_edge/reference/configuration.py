"""What `emert-edge train` reads: a run in YAML, checked before anything slow begins.

A configuration names the model, the stages in their order, and how to train. Paths in it are relative to its own file;
`${NAME}` stands for an environment variable, so that a data set's place need not be written down.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from emert_edge.bundle.manifest import FaceInput, FixationInput, WindowSpec
from emert_edge.errors import EmertError
from emert_edge.eye import FEATURE_NAMES
from emert_edge.reference.data.emer import EmerSessions
from emert_edge.reference.data.faces import FaceSource
from emert_edge.reference.data.sessions import TableSessions
from emert_edge.reference.data.simulated import SimulatedSessions
from emert_edge.reference.emert import EmertConfig
from emert_edge.reference.face_encoder import FACE_SIZES
from emert_edge.reference.reactions import ReactionStage
from emert_edge.reference.settings import Settings
from emert_edge.simulation import EXPRESSIONS

__all__ = [
    "Configuration",
    "ExpressionStage",
    "ReactionStage",
    "SessionStage",
    "face_input",
    "read_configuration",
    "read_settings",
]

#: A square crop's side over the side of the canonical box: FER2013's pictures are cut about so.
FACE_SCALE = 1.12


def face_input(size: str) -> FaceInput:
    """How faces become an encoder's input, for a size of model."""
    return FaceInput(size=FACE_SIZES[size], scale=FACE_SCALE)


class ModelSettings(Settings):
    """What is trained."""

    size: Literal["nano", "base", "large"] = "nano"
    gaze: Literal["maps", "points"] = Field("maps", description="fixation maps over the scene, or gaze points")
    token_width: int = Field(128, ge=8)
    fused_width: int = Field(64, ge=8)
    blocks: int = Field(2, ge=1)
    heads: int = Field(8, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    reactions: bool = Field(False, description="whether the head of the seven reaction intensities exists")


class TrainerSettings(Settings):
    """How Lightning runs: passed on to `lightning.Trainer`."""

    accelerator: str = Field("auto", description="auto, cpu or gpu")
    devices: int | Literal["auto"] = Field("auto", description="GPUs, or processes on a CPU")
    strategy: str = Field("auto", description="auto, or ddp for several processes")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="auto: mixed where the hardware multiplies bfloat16 or half precision"
    )
    threads: int | None = Field(None, ge=1, description="threads of torch in a process; its own choice if not given")


class ExpressionStage(Settings):
    """Train the face encoder on pictures of single faces."""

    kind: Literal["expressions"]
    data: tuple[FaceSource, ...] = Field(min_length=1)
    validation: float = Field(0.05, gt=0, lt=1, description="share of each class held out to choose the epoch by")
    split: int | None = Field(
        None,
        ge=0,
        description="decides which pictures are held out, as the run's seed does if not given: "
        "what teachers of other seeds hold out is then what their pupil holds out",
    )
    epochs: int = Field(40, ge=1)
    batch: int = Field(128, ge=2)
    rate: float = Field(0.1, gt=0, description="highest learning rate of SGD")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0.2, ge=0, description="alpha of mixup's Beta distribution; 0 mixes nothing")
    covered: float = Field(
        0.35, ge=0, le=1, description="share of the pictures that a block of one colour covers in part"
    )
    balance: float = Field(
        0.25,
        ge=0,
        le=1,
        description="how far rare classes are favoured: 0 as they come, 1 as if all were equally frequent",
    )
    distilled: float = Field(
        0,
        ge=0,
        le=1,
        description="share of each target that is what the teacher says of the picture",
    )
    teacher: Path | Annotated[tuple[Path, ...], Field(min_length=1)] | None = Field(
        None,
        description="face_encoder.pt of another run, or of several, whose mean then teaches; "
        "the encoder of the expressions stage before if not given",
    )
    averaging: float = Field(0.998, ge=0, lt=1, description="decay of the weights' moving average; 0 averages nothing")
    patience: int = Field(15, ge=1, description="epochs without a better validation loss after which to stop")


SessionSource = Annotated[SimulatedSessions | TableSessions | EmerSessions, Field(discriminator="kind")]


class SessionStage(Settings):
    """Train everything after the face encoder, and the encoder too if asked, on windows of sessions."""

    kind: Literal["sessions"]
    data: SessionSource
    validation: float = Field(0.15, gt=0, lt=1, description="share of the sessions held out to choose the epoch by")
    validation_by: Literal["subject", "stimulus", "session", "fold"] = Field(
        "subject", description="what training and validation sessions may not share"
    )
    train_face_encoder: bool = False
    face_rate_share: float = Field(0.1, gt=0, description="the face encoder's learning rate over the rest's")
    epochs: int = Field(12, ge=1)
    steps: int | None = Field(None, ge=1, description="batches in an epoch; all windows if not given")
    batch: int = Field(64, ge=2, description="windows in a batch of one process")
    rate: float = Field(1.5e-3, gt=0, description="highest learning rate of AdamW")
    weight_decay: float = Field(0.05, ge=0)
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    decoupling_invariant: float = Field(0.01, ge=0, description="weight of the adversarial loss, as published")
    decoupling_specific: float = Field(0.01, ge=0)
    patience: int = Field(8, ge=1, description="epochs without a better validation loss after which to stop")


Stage = Annotated[ExpressionStage | SessionStage | ReactionStage, Field(discriminator="kind")]


class Configuration(Settings):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0)
    classes: tuple[str, ...] = EXPRESSIONS
    model: ModelSettings = ModelSettings()
    window: WindowSpec = WindowSpec()
    fixation: FixationInput = FixationInput()
    baseline_s: float = Field(
        0.0, ge=0, description="how much of a session makes the subject's baseline of pupils and lids; 0: none"
    )
    trainer: TrainerSettings = TrainerSettings()
    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Configuration:
        unknown = [name for name in self.classes if name not in EXPRESSIONS]
        if unknown:
            raise ValueError(f"classes: {', '.join(unknown)} unknown; known are {', '.join(EXPRESSIONS)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: each may stand only once")
        first = next((stage for stage in self.stages if isinstance(stage, ExpressionStage)), None)
        if first is not None and first.distilled and first.teacher is None:
            raise ValueError("distilled: the first stage of kind expressions has no earlier encoder to learn from")
        for stage in self.stages:
            if isinstance(stage, ExpressionStage) and stage.teacher is not None and not stage.distilled:
                raise ValueError("teacher: say how much is learnt from it, `distilled: 0.5` for a half")
        for number, stage in enumerate(self.stages):
            earlier = any(isinstance(one, ExpressionStage) for one in self.stages[:number])
            if isinstance(stage, ReactionStage) and stage.after_expressions and not earlier:
                raise ValueError("after_expressions: no earlier stage trains a face encoder; put one first")
        self.model_config_of()  # what a model cannot be is told before any data are read
        return self

    @property
    def face(self) -> FaceInput:
        """How faces become the encoder's input."""
        return face_input(self.model.size)

    @property
    def baseline_tokens(self) -> int:
        """How many eye tokens make a subject's baseline; 0 for none."""
        return round(self.baseline_s * 1000 / self.window.eye_span_ms)

    def model_config_of(self) -> EmertConfig:
        """The model's own settings."""
        model = self.model
        return EmertConfig(
            size=model.size, gaze=model.gaze, token_width=model.token_width, fused_width=model.fused_width,
            face_tokens=self.window.face_tokens, eye_tokens=self.window.eye_tokens, eye_features=len(FEATURE_NAMES),
            classes=len(self.classes), blocks=model.blocks, heads=model.heads, dropout=model.dropout,
            reactions=7 if model.reactions else 0,
        )  # fmt: skip


S = TypeVar("S", bound=Settings)

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def _resolved(value: Any, file: Path, where: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _resolved(inner, file, f"{where}.{key}" if where else str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, file, f"{where}[{index}]") for index, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise EmertError(f"{file}: {where}: the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    return _VARIABLE.sub(variable, value)


def _with_paths(value: Any, base: Path) -> Any:
    """Every path of a checked part, relative to the configuration's folder."""
    if isinstance(value, Path):
        return value if value.is_absolute() else base / value
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={name: _with_paths(getattr(value, name), base) for name in type(value).model_fields}
        )
    if isinstance(value, tuple):
        return tuple(_with_paths(inner, base) for inner in value)
    return value


def read_settings(file: Path, kind: type[S], name: str) -> S:
    """Read and check settings from YAML; `${NAME}` and paths are resolved as in a configuration.

    Parameters
    ----------
    kind : type of Settings
        What the file must hold.
    name : str
        What that is called in messages.

    Raises
    ------
    EmertError
        If the file is missing, is not YAML, or says something that the settings cannot be; names the setting.
    """
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EmertError(f"{file}: there is no such {name}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise EmertError(f"{file}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise EmertError(f"{file}: not a {name} (its top level must be settings, `name: value`)")
    try:
        checked = kind.model_validate(_resolved(content, file))
    except ValidationError as error:
        raise EmertError(f"{file}: {'; '.join(_faults(error, name))}") from error
    located: S = _with_paths(checked, file.parent.resolve())
    return located


def _faults(error: ValidationError, name: str) -> list[str]:
    """What is wrong, in words; not that a list lacks the entry which is itself the fault."""
    told = error.errors(include_url=False)
    places = [fault["loc"] for fault in told]
    words = []
    for fault in told:
        place = fault["loc"]
        if any(other != place and other[: len(place)] == place for other in places):
            continue
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            known = {field for kind in _settings_kinds() for field in kind.model_fields}
            near = difflib.get_close_matches(str(place[-1]), known, 1)
            message = "there is no such setting" + (f"; is {near[0]!r} meant?" if near else "")
        words.append(f"{'.'.join(str(part) for part in place) or name}: {message}")
    return words


def _settings_kinds(kind: type[BaseModel] = Settings) -> Iterator[type[BaseModel]]:
    for below in kind.__subclasses__():
        yield below
        yield from _settings_kinds(below)


def read_configuration(file: Path) -> Configuration:
    """Read and check a run's YAML.

    Raises
    ------
    EmertError
        If the file is missing, is not YAML, or says something that a run cannot be; names the setting.
    """
    return read_settings(file, Configuration, "configuration")
