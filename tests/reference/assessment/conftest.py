"""Sessions out of noise, and models that have learnt nothing: what is tested is what is done with their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="evaluation needs the extra `train`")
pytest.importorskip("torchmetrics", reason="evaluation needs the extra `train`")

from emert_edge.bundle.manifest import FixationInput, WindowSpec  # noqa: E402
from emert_edge.reference.assessment.predictions import Predictions  # noqa: E402
from emert_edge.reference.data.windows import EyeScale, SessionData, Windows, window_index  # noqa: E402
from emert_edge.reference.emert import Emert, EmertConfig  # noqa: E402
from emert_edge.simulation import EXPRESSIONS  # noqa: E402

POINTS = 6

Make = Callable[..., SessionData]


@pytest.fixture(scope="session")
def session() -> Make:
    """Make a session of `POINTS` grid points, whose labels may be given."""

    def make(number: int = 0, **given: Any) -> SessionData:
        rng = np.random.default_rng([number, 3])
        spans = 4 * (POINTS - 1)
        content: dict[str, Any] = {
            "id": f"session-{number}",
            "subject": f"subject-{number // 2}",
            "stimulus": f"stimulus-{number % 4}",
            "fold": number % 3,
            "crops": rng.integers(0, 256, (POINTS, 3, 48, 48), np.uint8),
            "face_mask": np.ones(POINTS, bool),
            "eye": rng.normal(size=(spans, 39)).astype(np.float32),
            "eye_mask": rng.random(spans) < 0.9,
            "points": rng.random((spans, 2)).astype(np.float32),
            "maps": rng.integers(0, 256, (POINTS, 112, 112), np.uint8),
            "map_mask": np.ones(POINTS, bool),
            "scenes": None,
            "emotion": rng.integers(0, 7, POINTS),
            "expression": rng.integers(0, 7, POINTS),
            "affect": rng.uniform(-1, 1, (POINTS, 5)).astype(np.float32),
        }
        return SessionData(**content | given)

    return make


@pytest.fixture(scope="session")
def sessions(session: Make) -> list[SessionData]:
    """Eight sessions of four subjects, four stimuli and three folds."""
    return [session(number) for number in range(8)]


@pytest.fixture(scope="session")
def few(sessions: list[SessionData]) -> list[SessionData]:
    """Two of them: a face encoder's work is long."""
    return sessions[:2]


def tiny_model(gaze: str = "maps") -> Emert:
    """A model that has learnt nothing."""
    torch.manual_seed(0)
    return Emert(EmertConfig(token_width=16, fused_width=16, heads=2, blocks=1, gaze=gaze)).eval()


@pytest.fixture(scope="session")
def model() -> Emert:
    """A model of fixation maps that has learnt nothing."""
    return tiny_model()


@pytest.fixture(scope="session")
def plain_scale() -> EyeScale:
    """Eye features as they are."""
    return EyeScale(np.zeros(39, np.float32), np.ones(39, np.float32))


@pytest.fixture(scope="session")
def windows_of(plain_scale: EyeScale) -> Callable[..., Windows]:
    """Cut all windows of sessions, with crops in them."""

    def cut(sessions: Sequence[SessionData], *, maps: bool = True) -> Windows:
        window = WindowSpec()
        fixation = FixationInput() if maps else None
        return Windows(sessions, window_index(sessions, window), plain_scale, window, fixation)

    return cut


@pytest.fixture(scope="session")
def invent() -> Callable[..., Predictions]:
    """Invent answers about sessions of ten rows: right where luck has it, more often with more `skill`."""

    def make(sessions: int = 12, skill: float = 2.0, seed: int = 0, **given: Any) -> Predictions:
        rng = np.random.default_rng(seed)
        rows = 10 * sessions
        number = np.repeat(np.arange(sessions), 10)
        labels = {task: rng.integers(0, 7, rows) for task in ("emotion", "expression")}
        affect = rng.uniform(-1, 1, (rows, 5))
        polarity = np.array([0, 1, 1, 0, 1, 1, 2])
        outputs: dict[str, Any] = {}
        for column, (task, truth) in enumerate(labels.items()):
            outputs[f"{task}_logits"] = rng.normal(size=(rows, 7)) + skill * np.eye(7)[truth]
            outputs[f"{task}_polarity_logits"] = rng.normal(size=(rows, 3)) + skill * np.eye(3)[polarity[truth]]
            pair = affect[:, 2 * column : 2 * column + 2]
            outputs[f"{task}_valence_arousal"] = pair + rng.normal(size=(rows, 2)) / (1 + skill)
        outputs["expression_intensity"] = affect[:, 4:] + rng.normal(size=(rows, 1)) / (1 + skill)
        content: dict[str, Any] = {
            "classes": EXPRESSIONS,
            "session": np.array([f"session-{n}" for n in number]),
            "subject": np.array([f"subject-{n // 3}" for n in number]),
            "stimulus": np.array([f"stimulus-{n % 4}" for n in number]),
            "fold": number % 2,
            "batch": np.arange(rows) // 16,
            **labels,
            "affect": affect,
            "outputs": outputs,
        }
        return Predictions(**content | given)

    return make
