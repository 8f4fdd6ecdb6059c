"""What a model answered beside what is true: one row a window, or a session where the labels are of whole sessions."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emert_edge.errors import EmertError
from emert_edge.estimate import jensen_shannon, softmax
from emert_edge.reference.augment import normalise_crops
from emert_edge.reference.data.windows import AFFECT, UNKNOWN, WindowBatch, Windows
from emert_edge.reference.emert import Emert
from emert_edge.simulation import EXPRESSIONS

__all__ = ["KEPT", "PUBLISHED_BATCH", "Ablation", "Predictions", "collect", "keep", "predict"]

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Strings = npt.NDArray[np.str_]
Ablation = Literal["fused", "face", "eye", "no_face", "no_eye", "no_fixation"]

#: Rows in a batch of the published code, whose metrics are averaged per batch.
PUBLISHED_BATCH = 16

#: What each ablation leaves: face tokens, eye tokens, fixation tokens. Gaze points go with the eye tokens.
KEPT: dict[Ablation, tuple[int, int, int]] = {
    "fused": (1, 1, 1),
    "face": (1, 0, 0),
    "eye": (0, 1, 1),
    "no_face": (0, 1, 1),
    "no_eye": (1, 0, 1),
    "no_fixation": (1, 1, 0),
}
_SMALLEST = 1e-300  # of a probability whose logarithm is taken


@dataclass(frozen=True)
class Predictions:
    """Answers and truth, row by row.

    Attributes
    ----------
    classes : tuple of str
        In the order of the logits.
    session, subject, stimulus : ndarray
        (n,) str; "" where unknown.
    fold : ndarray
        (n,) int64: the fold in which a row was tested, -1 without folds.
    batch : ndarray
        (n,) int64: in which batch of its fold a row was computed, for averages per batch.
    emotion, expression : ndarray
        (n,) int64, the true classes; -1 where unknown.
    affect : ndarray
        (n, 5) float, the truth in the columns of `AFFECT`; NaN where unknown.
    outputs : mapping of str to ndarray
        The model's outputs by the names of `HEAD_OUTPUTS`, (n, …) float; none that the model does not have.
    temperature : mapping of str to ndarray
        (n,) float, the softmax temperature that belongs to a row, by the logits' name without `_logits`; a name that is
        absent has 1.
    """

    classes: tuple[str, ...]
    session: Strings
    subject: Strings
    stimulus: Strings
    fold: Ints
    batch: Ints
    emotion: Ints
    expression: Ints
    affect: Floats
    outputs: Mapping[str, Floats]
    temperature: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, column in self._columns().items():
            if len(column) != len(self):
                raise ValueError(f"{name} has {len(column)} rows, session has {len(self)}")
        for name, logits in self.outputs.items():
            if name in ("emotion_logits", "expression_logits") and logits.shape[1] != len(self.classes):
                raise ValueError(f"{name} has {logits.shape[1]} columns for {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.session)

    def _columns(self) -> dict[str, npt.NDArray[np.generic]]:
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        del plain["classes"]
        held: dict[str, npt.NDArray[np.generic]] = {}
        for name, value in plain.items():
            held |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, Mapping) else {}
            held |= {} if isinstance(value, Mapping) else {name: value}
        return held

    @classmethod
    def _of(cls, classes: tuple[str, ...], columns: Mapping[str, npt.NDArray[np.generic]]) -> Predictions:
        held: dict[str, dict[str, npt.NDArray[np.generic]]] = {"outputs": {}, "temperature": {}}
        for name, column in columns.items():
            if "." in name:
                kind, key = name.split(".", 1)
                held[kind][key] = column
        plain = {name: column for name, column in columns.items() if "." not in name}
        return cls(classes, **plain, **held)  # type: ignore[arg-type]

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Predictions:
        """Return some rows, by number or by a mask."""
        return self._of(self.classes, {name: column[rows] for name, column in self._columns().items()})

    def in_fold(self, number: int) -> Predictions:
        """Return the same rows as those of a fold's test."""
        return replace(self, fold=np.full(len(self), number, np.int64))

    def with_temperature(self, temperature: Mapping[str, float]) -> Predictions:
        """Return the same rows with these softmax temperatures, by the logits' name without `_logits`."""
        return replace(self, temperature={name: np.full(len(self), value) for name, value in temperature.items()})

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Pool several: the folds of a cross-validation.

        Raises
        ------
        ValueError
            Without any, or if they differ in classes or in outputs.
        """
        if not parts:
            raise ValueError("parts: at least one is needed")
        first = parts[0]
        for part in parts[1:]:
            if part.classes != first.classes:
                raise ValueError(f"parts differ in classes: {', '.join(first.classes)} and {', '.join(part.classes)}")
            if part._columns().keys() != first._columns().keys():
                differing = sorted(part._columns().keys() ^ first._columns().keys())
                raise ValueError(f"parts differ in what they hold: {', '.join(differing)}")
        columns = {name: np.concatenate([part._columns()[name] for part in parts]) for name in first._columns()}
        begins = np.cumsum([0, *(int(part.batch.max(initial=-1)) + 1 for part in parts[:-1])])
        columns["batch"] = np.concatenate([part.batch + begin for part, begin in zip(parts, begins, strict=True)])
        return cls._of(first.classes, columns)

    def save(self, path: Path) -> None:
        """Write as one .npz, aside and then renamed."""
        aside = path.with_suffix(path.suffix + ".part")
        with aside.open("wb") as file:
            np.savez(file, classes=np.array(self.classes), **self._columns())  # type: ignore[arg-type]
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote.

        Raises
        ------
        EmertError
            If the file is missing or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                columns = {name: stored[name] for name in stored.files}
            classes = tuple(str(name) for name in columns.pop("classes"))
            return cls._of(classes, columns)
        except FileNotFoundError:
            raise EmertError(f"{path}: there are no such predictions") from None
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise EmertError(
                f"{path}: not predictions of emert_edge ({error}); remove it and evaluate again"
            ) from error

    def probabilities(self, head: str, *, scaled: bool = True) -> npt.NDArray[np.float64]:
        """Return a head's probabilities.

        Parameters
        ----------
        head : str
            The logits' name without `_logits`.
        scaled : bool
            Whether logits are divided by the rows' temperature, as a device does.

        Returns
        -------
        ndarray
            (n, classes) float64.

        Raises
        ------
        KeyError
            If there is no such head.
        """
        logits = np.asarray(self.outputs[f"{head}_logits"], np.float64)
        if scaled and head in self.temperature:
            logits = logits / self.temperature[head][:, None]
        return softmax(logits)

    def gap(self) -> npt.NDArray[np.float64]:
        """Return how far felt and shown lie apart in each row, (n,) float64 in [0, 1], as an `Estimate` has it.

        Raises
        ------
        KeyError
            If the model lacks one of the two heads.
        """
        felt, shown = self.probabilities("emotion"), self.probabilities("expression")
        return np.array([jensen_shannon(p, q) for p, q in zip(felt, shown, strict=True)], np.float64)

    def _sessions(self) -> list[Ints]:
        """Return the rows of each session in each fold, in order of appearance."""
        keys = np.char.add(np.char.add(self.fold.astype(np.str_), "/"), self.session)
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        return [np.flatnonzero(inverse == number).astype(np.int64) for number in np.argsort(first)]

    def _changing(self) -> str | None:
        """Return the first session whose labels are not the same in all of its rows."""
        for rows in self._sessions():
            for truth in (self.emotion, self.expression, self.affect):
                some = truth[rows]
                if not np.array_equal(some, np.broadcast_to(some[0], some.shape), equal_nan=some.dtype.kind == "f"):
                    return str(self.session[rows[0]])
        return None

    @property
    def of_whole_sessions(self) -> bool:
        """Whether every session has one label throughout."""
        return self._changing() is None

    def by_session(self, batch: int = PUBLISHED_BATCH) -> Predictions:
        """Average each session's windows into one row, where labels are of whole sessions.

        Probabilities are averaged (with their temperature, which is 1 afterwards) and stand as their logarithms in the
        place of logits; values are averaged as they are.

        Parameters
        ----------
        batch : int
            Rows in a batch of the result.

        Raises
        ------
        ValueError
            If a session's labels change within it; names the session.
        """
        if (changing := self._changing()) is not None:
            raise ValueError(f"the labels of session {changing!r} change within it; score it window by window")
        sessions = self._sessions()
        whole = self.take(np.array([rows[0] for rows in sessions], np.int64))
        outputs: dict[str, Floats] = {}
        for name, values in self.outputs.items():
            logits = name.endswith("_logits")
            averaged = self.probabilities(name.removesuffix("_logits")) if logits else np.asarray(values, np.float64)
            rows_of = np.stack([averaged[rows].mean(0) for rows in sessions])
            outputs[name] = np.log(np.maximum(rows_of, _SMALLEST)) if logits else rows_of
        numbers = np.zeros(len(whole), np.int64)
        for fold in np.unique(whole.fold):
            among = np.flatnonzero(whole.fold == fold)
            numbers[among] = np.arange(len(among)) // batch
        return replace(whole, outputs=outputs, temperature={}, batch=numbers)


def _beside_truth(
    windows: Windows, classes: Sequence[str], outputs: Mapping[str, Floats], batch_size: int
) -> Predictions:
    """Put a model's outputs for all windows, in their order, beside these windows' truth."""
    number, point = windows.index[:, 0], windows.index[:, 1]
    sessions = windows.sessions
    pairs = list(zip(number.tolist(), point.tolist(), strict=True))
    return Predictions(
        classes=tuple(classes),
        session=np.array([sessions[n].id for n in number], np.str_),
        subject=np.array([sessions[n].subject or "" for n in number], np.str_),
        stimulus=np.array([sessions[n].stimulus or "" for n in number], np.str_),
        fold=np.array([UNKNOWN if (fold := sessions[n].fold) is None else fold for n in number], np.int64),
        batch=np.arange(len(windows), dtype=np.int64) // batch_size,
        emotion=np.array([sessions[n].emotion[p] for n, p in pairs], np.int64),
        expression=np.array([sessions[n].expression[p] for n, p in pairs], np.int64),
        affect=np.array([sessions[n].affect[p] for n, p in pairs], np.float64).reshape(-1, len(AFFECT)),
        outputs=dict(outputs),
    )


def keep(batch: WindowBatch, ablation: Ablation, eye_kept: Tensor | None = None) -> WindowBatch:
    """Mask what an ablation removes.

    Parameters
    ----------
    eye_kept : Tensor, optional
        (batch, 32) bool: which eye tokens stay, of those that an ablation leaves.
    """
    face, eye, fixation = KEPT[ablation]
    eye_mask = batch.eye_mask * eye
    return batch._replace(
        face_mask=batch.face_mask * face,
        eye_mask=eye_mask if eye_kept is None else eye_mask * eye_kept,
        fixation_mask=batch.fixation_mask * fixation,
    )


def _kept_tokens(count: int, tokens: int, share: float) -> npt.NDArray[np.bool_]:
    """Draw which tokens of each window stay: the same ones whatever the size of a batch."""
    order = np.argsort(np.random.default_rng(0).random((count, tokens)), axis=1)
    return order < round(share * tokens)


def _answer(model: Emert, batch: WindowBatch) -> dict[str, Tensor]:
    faces = batch.faces
    if faces.ndim == 5:  # crops
        faces = model.face_encoder(normalise_crops(faces.flatten(0, 1)))[0].reshape(*faces.shape[:2], -1)
    inputs = {
        "face_tokens": faces,
        "face_mask": batch.face_mask,
        "eye_tokens": batch.eye_tokens,
        "eye_mask": batch.eye_mask,
    }
    if model.fixation_encoder is None:
        inputs["gaze_points"] = batch.points
    else:
        fixation = model.fixation_encoder(batch.fused.flatten(0, 1))
        inputs["fixation_tokens"] = fixation.reshape(*batch.fused.shape[:2], -1)
        inputs["fixation_mask"] = batch.fixation_mask
    answers: dict[str, Tensor] = model.head(**inputs)
    return answers


def predict(
    model: Emert,
    windows: Windows,
    batch_size: int = PUBLISHED_BATCH,
    *,
    ablation: Ablation = "fused",
    eye_share: float = 1.0,
    classes: Sequence[str] = EXPRESSIONS,
) -> Predictions:
    """Let a model answer for all windows, in their order, with something taken away from it if so asked.

    Parameters
    ----------
    batch_size : int
        Windows in a batch; 16 is what the published averages per batch are over.
    ablation : str
        What is masked: `face` leaves face tokens alone, `eye` all that comes from the eyes, `no_…` everything but that.
    eye_share : float
        Share of each window's eye tokens that stay, in [0, 1]; which ones is drawn once, with a fixed seed.
    classes : sequence of str
        Names in the order of the logits.

    Raises
    ------
    ValueError
        For an ablation that is unknown, or that this model cannot have; for a share outside [0, 1]; without windows.
    """
    if model.fixation_encoder is None and ablation == "no_fixation":
        raise ValueError("ablation 'no_fixation': a model of gaze points has none; its points go with the eye tokens")
    device = next(model.parameters()).device

    def answer(batch: WindowBatch) -> dict[str, npt.NDArray[np.float32]]:
        with torch.no_grad():
            answers = _answer(model, WindowBatch(*(tensor.to(device) for tensor in batch)))
        return {name: values.float().cpu().numpy() for name, values in answers.items()}

    training = model.training
    model.eval()
    try:
        return collect(answer, windows, batch_size, ablation=ablation, eye_share=eye_share, classes=classes)
    finally:
        model.train(training)


def collect(
    answer: Callable[[WindowBatch], Mapping[str, npt.NDArray[np.float32]]],
    windows: Windows,
    batch_size: int,
    *,
    ablation: Ablation,
    eye_share: float,
    classes: Sequence[str],
) -> Predictions:
    """As `predict`, for whatever answers a batch of windows with arrays by the names of `HEAD_OUTPUTS`."""
    if ablation not in KEPT:
        raise ValueError(f"ablation {ablation!r} is unknown; use {', '.join(KEPT)}")
    if not 0.0 <= eye_share <= 1.0:
        raise ValueError(f"eye_share must be within 0 and 1, not {eye_share}")
    if not len(windows):
        raise ValueError("windows: there is none to answer for")
    kept = torch.from_numpy(_kept_tokens(len(windows), windows.window.eye_tokens, eye_share))
    collected: dict[str, list[npt.NDArray[np.float32]]] = {}
    for begin in range(0, len(windows), batch_size):
        rows = np.arange(begin, min(begin + batch_size, len(windows)), dtype=np.int64)
        for name, values in answer(keep(windows[rows], ablation, kept[begin : begin + batch_size])).items():
            collected.setdefault(name, []).append(values)
    outputs = {name: np.concatenate(values) for name, values in collected.items()}
    return _beside_truth(windows, classes, outputs, batch_size)
