"""A bundle's graphs answer as the model they were made of; preprocessing is the manifest's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emert_edge.bundle import Bundle
from emert_edge.bundle.manifest import EyeInput, FileEntry, FixationInput, Labels, Manifest, PointInput, Training
from emert_edge.engines import Device, EngineDescription, EngineSet
from emert_edge.errors import BundleIncompatible
from emert_edge.eye import FEATURE_NAMES
from emert_edge.reference.assessment.bundles import BundleModel
from emert_edge.reference.assessment.predictions import predict
from emert_edge.reference.configuration import face_input
from emert_edge.reference.data.windows import SessionData, Windows, window_index
from emert_edge.reference.emert import Emert, EmertConfig
from emert_edge.simulation import EXPRESSIONS

Array = npt.NDArray[np.float32]


class TorchEngine:
    """A graph's place taken by what the graph is made of."""

    max_batch = 3

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], compute: Callable[..., dict[str, torch.Tensor]]) -> None:
        self.inputs = {name: np.full((3, *shape), np.nan, np.float32) for name, shape in shapes.items()}
        self.outputs: dict[str, Array] = {}
        self.compute = compute
        self.outputs = self._values(3)

    def _values(self, batch: int) -> dict[str, Array]:
        with torch.no_grad():
            made = self.compute(**{name: torch.from_numpy(buffer[:batch]) for name, buffer in self.inputs.items()})
        return {name: value.numpy() for name, value in made.items()}

    def run(self, batch: int) -> None:
        """Compute the first rows."""
        for name, value in self._values(batch).items():
            self.outputs[name][:batch] = value

    def describe(self) -> EngineDescription:
        """Say what it is."""
        return EngineDescription("head", "none", "fp32", "torch", (), 1, 3)

    def close(self) -> None:
        """There is nothing to close."""


def engines_of(model: Emert, features: int = 39) -> EngineSet:
    def head(**inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        answers: dict[str, torch.Tensor] = model.head(**inputs)
        return answers

    def face(frame: torch.Tensor) -> dict[str, torch.Tensor]:
        token, logits = model.face_encoder(frame)
        return {"face_token": token, "expression_logits": logits}

    shapes: dict[str, tuple[int, ...]] = {
        "face_tokens": (8, 16), "face_mask": (8,), "eye_tokens": (32, features), "eye_mask": (32,)
    }  # fmt: skip
    fixation: Any = None
    if model.fixation_encoder is None:
        shapes["gaze_points"] = (32, 2)
    else:
        shapes |= {"fixation_tokens": (8, 16), "fixation_mask": (8,)}
        encoder = model.fixation_encoder
        fixation = TorchEngine({"fused": (4, 112, 112)}, lambda fused: {"fixation_token": encoder(fused)})
    place = TorchEngine({"frame": (3, 48, 48)}, face)
    return EngineSet(Device("cpu"), "fp32", 1, place, fixation, TorchEngine(shapes, head))


def bundle_of(**given: Any) -> Bundle:
    content: dict[str, Any] = {
        "name": "tiny", "version": "1", "token_width": 16, "licence": "none", "graphs": (),
        "labels": Labels(emotion=EXPRESSIONS, expression=EXPRESSIONS), "face": face_input("nano"),
        "fixation": FixationInput(), "training": Training(data=()),
        "eye": EyeInput(features=FEATURE_NAMES, mean=(0.25,) * 39, std=(2.0,) * 39, clip=0.5),
        "files": {"card.md": FileEntry(sha256="0" * 64, size=0)},
    }  # fmt: skip
    return Bundle(Path("tiny.emert"), Manifest(**content | given))


class Clipped:
    """The manifest's scale, written out."""

    def __call__(self, features: Array) -> Array:
        return np.clip((features - 0.25) / 2.0, -0.5, 0.5).astype(np.float32)


@pytest.mark.parametrize("gaze", ["maps", "points"])
def test_graphs_answer_as_the_model(gaze: str, sessions: list[SessionData]) -> None:
    torch.manual_seed(1)
    model = Emert(EmertConfig(token_width=16, fused_width=16, heads=2, blocks=1, gaze=gaze)).eval()
    scene = np.random.default_rng(5).integers(0, 256, (6, 3, 112, 112), np.uint8)
    few = [replace(sessions[0], scenes=scene), sessions[1]]
    with_maps = gaze == "maps"
    bundle = bundle_of() if with_maps else bundle_of(fixation=None, points=PointInput())
    runner = BundleModel(bundle, engines_of(model), few)
    assert runner.has_fixation is with_maps
    window, fixation = bundle.manifest.window, bundle.manifest.fixation
    windows = Windows(few, window_index(few, window), Clipped(), window, fixation)
    for ablation, share in (("fused", 1.0), ("face", 1.0), ("eye", 1.0), ("fused", 0.5)):
        of_bundle = runner.predict(ablation, share)  # type: ignore[arg-type]
        of_model = predict(model, windows, ablation=ablation, eye_share=share)  # type: ignore[arg-type]
        assert set(of_bundle.outputs) == set(of_model.outputs)
        for name, values in of_model.outputs.items():
            np.testing.assert_allclose(of_bundle.outputs[name], values, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(of_bundle.emotion, of_model.emotion)


def test_columns_come_in_the_manifests_order_and_a_nameless_one_is_zero(sessions: list[SessionData]) -> None:
    torch.manual_seed(1)
    model = Emert(EmertConfig(token_width=16, fused_width=16, heads=2, blocks=1, eye_features=3)).eval()
    names = (FEATURE_NAMES[5], "", FEATURE_NAMES[2])
    eye = EyeInput(features=names, mean=(0.0,) * 3, std=(1.0,) * 3, clip=None)
    engines = engines_of(model, features=3)
    runner = BundleModel(bundle_of(eye=eye), engines, sessions[:1])
    batch = runner.windows[np.array([0])]
    held = sessions[0].eye[:, [5, 0, 2]] * np.array([1, 0, 1], np.float32)
    assert batch.eye_tokens.shape == (1, 32, 3)
    np.testing.assert_array_equal(batch.eye_tokens[0, -16:].numpy(), held[:16])
    assert len(runner.predict()) == 2


def test_temperatures_are_the_manifests(sessions: list[SessionData], model: Emert) -> None:
    runner = BundleModel(bundle_of(temperature={"emotion": 1.7}), engines_of(model), sessions[:1])
    assert set(runner.predict().temperature["emotion"]) == {1.7}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"face": face_input("base")}, r"takes face crops of 112 × 112, the sessions hold 48 × 48"),
        ({"fixation": FixationInput(size=(64, 64))}, r"takes fixation maps of 64 × 64"),
        ({"labels": Labels(emotion=EXPRESSIONS, expression=("a", "b"))}, "different classes"),
        ({"eye": EyeInput(features=("shoe_size",), mean=(0.0,), std=(1.0,))}, "shoe_size"),
    ],
)
def test_a_bundle_that_does_not_fit_the_sessions_is_refused(
    given: dict[str, Any], why: str, sessions: list[SessionData], model: Emert
) -> None:
    with pytest.raises(BundleIncompatible, match=why):
        BundleModel(bundle_of(**given), engines_of(model), sessions[:1])


def test_faces_are_given_in_the_manifests_order_of_colours(sessions: list[SessionData], model: Emert) -> None:
    swapped = replace(sessions[0], crops=sessions[0].crops[:, ::-1].copy())
    grey = face_input("nano").model_copy(update={"mean": (0.5,) * 3, "std": (0.25,) * 3})
    plain = BundleModel(bundle_of(face=grey), engines_of(model), [swapped]).predict()
    other = BundleModel(bundle_of(face=grey.model_copy(update={"color": "bgr"})), engines_of(model), sessions[:1])
    np.testing.assert_allclose(
        other.predict().outputs["expression_logits"], plain.outputs["expression_logits"], atol=1e-5
    )
