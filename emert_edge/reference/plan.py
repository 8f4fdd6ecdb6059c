"""What a training run does, in numbers: small enough to be written beside its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from emert_edge.bundle.manifest import FaceInput, FixationInput, WindowSpec

__all__ = ["FACE", "FIXATION", "WINDOW", "TrainingPlan", "claim_folder"]

#: Preprocessing and window of our bundles: training reads them here and the manifest carries them to the device.
FACE = FaceInput()
FIXATION = FixationInput()
WINDOW = WindowSpec()


class TrainingPlan(BaseModel):
    """Settings of a training run on simulated sessions; the defaults make the packaged bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Literal["nano", "base"] = "nano"
    seed: int = 0
    faces: int = Field(14000, ge=1, description="drawn faces for the face encoder")
    face_epochs: int = Field(5, ge=1)
    face_batch: int = Field(32, ge=2)
    face_rate: float = Field(6e-4, gt=0, description="highest learning rate")
    sessions: int = Field(600, ge=1, description="simulated sessions for the head")
    session_s: float = Field(24.0, ge=4.0)
    session_epochs: int = Field(12, ge=1)
    session_steps: int = Field(100, ge=1, description="batches in an epoch of the head")
    session_batch: int = Field(64, ge=2)
    session_rate: float = Field(1.5e-3, gt=0)
    test_faces: int = Field(1400, ge=7)
    test_sessions: int = Field(120, ge=2)
    decoupling_invariant: float = Field(0.01, ge=0, description="weight of the adversarial loss, as published")
    decoupling_specific: float = Field(0.01, ge=0)


def claim_folder(folder: Path, plan: TrainingPlan) -> None:
    """Make a run's folder, or take up the run that lies there.

    Raises
    ------
    ValueError
        If another plan's run lies there: its results would not be this plan's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "plan.json"
    if file.exists():
        try:
            held: Any = TrainingPlan.model_validate_json(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file} is not a training plan ({error}); give another folder") from error
        if held != plan:
            differing = [name for name in TrainingPlan.model_fields if getattr(held, name) != getattr(plan, name)]
            raise ValueError(
                f"{folder} holds a run with other settings ({', '.join(differing)}); give another folder, or remove it"
            )
        return
    aside = file.with_suffix(".json.part")
    aside.write_text(plan.model_dump_json(indent=2) + "\n")
    aside.replace(file)
