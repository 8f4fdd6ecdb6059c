"""Reaction intensities: masks, configurations, losses, weights to begin from, and a stage of training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from emert_edge.errors import EmertError
from emert_edge.reference.checkpoint import save_checkpoint
from emert_edge.reference.configuration import Configuration, read_configuration
from emert_edge.reference.data.clips import ClipData, even_rows
from emert_edge.reference.data.log_mel import SAMPLE_RATE, log_mel, log_mel_spans
from emert_edge.reference.data.simulated_reactions import LOOKS, SOUNDS, SimulatedClips
from emert_edge.reference.face_encoder import FaceEncoder
from emert_edge.reference.reactions import (
    PRESETS,
    REACTIONS,
    ReactionConfig,
    ReactionModel,
    ReactionStage,
    load_backbone_weights,
    load_reaction_model,
    pearson,
    reaction_loss,
)
from emert_edge.reference.resnet import ResNet18, ResNet50
from emert_edge.reference.stages.reactions import score_reactions, train_reactions
from emert_edge.reference.stages.run import train

#: As small as it gets: what is tested does not depend on it.
SMALL = ReactionConfig(
    size=(32, 32), frames=3, spans=2, span_frames=16, mel_bins=16, width=16, heads=2, layers=1, dropout=0.0
)


def clips_of(config: ReactionConfig, count: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(count, config.frames, 3, *config.size, generator=generator)
    audio = torch.randn(count, config.spans, config.mel_bins, config.span_frames, generator=generator)
    return frames, torch.ones(count, config.frames), audio, torch.ones(count, config.spans)


def model_of(config: ReactionConfig) -> ReactionModel:
    torch.manual_seed(2)
    return ReactionModel(config)


# -- the model


@pytest.mark.parametrize("training", [False, True], ids=["at rest", "in training"])
@pytest.mark.parametrize("pooling", ["mean", "lstm", "transformer"])
def test_what_is_masked_has_no_influence_not_even_a_nan(pooling: Any, training: bool) -> None:
    config = replace(SMALL, pooling=pooling, audio=True)
    frames, frame_mask, audio, audio_mask = clips_of(config)
    frame_mask[0, 1] = frame_mask[1, :] = audio_mask[0, 0] = audio_mask[2, :] = 0
    models = [model_of(config).train(training) for _ in range(2)]
    first = models[0](frames, frame_mask, audio, audio_mask)
    frames[frame_mask == 0], audio[audio_mask == 0] = torch.nan, torch.inf
    second = models[1](frames, frame_mask, audio, audio_mask)
    assert torch.equal(first, second)
    assert torch.isfinite(first).all()
    # What normalises later clips was not moved either.
    buffers = [dict(model.named_buffers()) for model in models]
    assert all(torch.equal(value, buffers[1][name]) for name, value in buffers[0].items())


@pytest.mark.parametrize("pooling", ["mean", "lstm", "transformer"])
def test_what_is_there_has_influence(pooling: Any) -> None:
    config = replace(SMALL, pooling=pooling, audio=True)
    model = model_of(config).eval()
    frames, frame_mask, audio, audio_mask = clips_of(config)
    whole = model(frames, frame_mask, audio, audio_mask)
    for lost in (0, 1, 2):
        mask = frame_mask.clone()
        mask[:, lost] = 0
        assert (model(frames, mask, audio, audio_mask) - whole).abs().max() > 1e-6
    assert (model(frames, frame_mask, audio, audio_mask * torch.tensor([1.0, 0.0])) - whole).abs().max() > 1e-6


@pytest.mark.parametrize("pooling", ["mean", "lstm", "transformer"])
def test_a_whole_modality_may_be_missing(pooling: Any) -> None:
    config = replace(SMALL, pooling=pooling, audio=True)
    model = model_of(config).eval()
    frames, frame_mask, audio, audio_mask = clips_of(config)
    silent = model(frames, frame_mask)
    assert torch.equal(silent, model(frames, frame_mask, audio, torch.zeros_like(audio_mask)))
    tokens, present = model.encode(frames, frame_mask, audio, audio_mask)
    assert model.seen.sum() == config.frames
    torch.testing.assert_close(model.answer(tokens, present & model.seen), silent)
    unseen = model(frames, torch.zeros_like(frame_mask), audio, audio_mask)
    assert (unseen - silent).abs().max() > 1e-6
    nothing = model(frames, torch.zeros_like(frame_mask))
    assert torch.isfinite(nothing).all()
    assert torch.equal(nothing[0], nothing[1])


def test_only_the_mean_forgets_the_order_of_frames() -> None:
    for pooling, order_matters in (("mean", False), ("lstm", True), ("transformer", True)):
        model = model_of(replace(SMALL, pooling=pooling)).eval()
        frames, mask, *_ = clips_of(SMALL)
        difference = (model(frames, mask) - model(frames.flip(1), mask)).abs().max()
        assert bool(difference > 1e-5) is order_matters


@pytest.mark.parametrize("name", PRESETS)
def test_presets_answer_seven_intensities(name: str) -> None:
    config = replace(PRESETS[name], size=(32, 32), frames=2, spans=2)
    frames, frame_mask, audio, audio_mask = clips_of(config, count=2)
    sound = (audio, audio_mask) if config.audio else ()
    with torch.no_grad():
        answer = ReactionModel(config).eval()(frames, frame_mask, *sound)
    assert answer.shape == (2, len(REACTIONS))
    assert ((answer >= 0) & (answer <= 1)).all()


def test_there_are_four_visual_configurations_and_an_audio_visual_one() -> None:
    visual = [config for config in PRESETS.values() if not config.audio]
    assert {config.encoder for config in visual} >= {"resnet18", "resnet50", "nano"}
    assert {config.pooling for config in visual} == {"mean", "lstm", "transformer"}
    assert len(visual) >= 4
    assert any(config.audio for config in PRESETS.values())


def test_a_configuration_survives_a_checkpoint_and_refuses_nonsense() -> None:
    config = PRESETS["resnet18-audio"]
    assert ReactionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    for wrong in (
        {"encoder": "vgg"},
        {"pooling": "max"},
        {"frames": 0},
        {"size": (8, 8)},
        {"width": 10},
        {"colour": 1},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ReactionConfig.from_dict(wrong)


def test_wrong_shapes_are_named() -> None:
    model = model_of(SMALL)
    frames, mask, audio, audio_mask = clips_of(SMALL)
    with pytest.raises(ValueError, match="frames must have shape"):
        model(frames[:, :2], mask)
    with pytest.raises(ValueError, match="frame_mask must have shape"):
        model(frames, mask[:1])
    with pytest.raises(ValueError, match="only sees"):
        model(frames, mask, audio, audio_mask)


# -- weights to begin from


def test_resnets_have_torchvisions_tensors() -> None:
    for network, tensors, parameters in ((ResNet18(), 122, 11_689_512), (ResNet50(), 320, 25_557_032)):
        assert len(network.state_dict()) == tensors
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    held = network.state_dict()
    assert held["layer1.0.conv3.weight"].shape == (256, 64, 1, 1)
    assert held["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert held["layer2.0.downsample.0.weight"].shape == (512, 256, 1, 1)
    assert held["layer3.5.bn3.running_var"].shape == (1024,)
    assert held["layer4.2.conv2.weight"].shape == (512, 512, 3, 3)
    assert "layer1.1.downsample.0.weight" not in held
    assert held["fc.weight"].shape == (1000, 2048)
    assert network.layer3[0].conv2.stride == (2, 2)
    assert network.layer3[0].conv1.stride == (1, 1)


def test_imagenet_weights_are_taken_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = ResNet18().eval()
    # As old files have it: no counters of batches.
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "resnet18.pth")
    model = ReactionModel(SMALL).eval()
    load_backbone_weights(model, tmp_path / "resnet18.pth")
    pictures = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected = model.frame_encoder.project(network.features((pictures - mean) / std))
        assert torch.allclose(model.frame_encoder((pictures - 0.5) / 0.25), expected, atol=1e-5)


def test_weights_of_another_network_name_the_first_tensor(tmp_path: Path) -> None:
    torch.save(ResNet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(EmertError, match=r"resnet18\.pth: tensor layer1\.0\.conv1\.weight has shape \(64, 64, 3, 3\)"):
        load_backbone_weights(ReactionModel(replace(SMALL, encoder="resnet50")), tmp_path / "resnet18.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "code.pth")
    with pytest.raises(EmertError, match="none was run"):
        load_backbone_weights(ReactionModel(SMALL), tmp_path / "code.pth")
    with pytest.raises(EmertError, match="no such"):
        load_backbone_weights(ReactionModel(SMALL), tmp_path / "absent.pth")


def test_a_face_encoder_of_ours_is_taken_over(tmp_path: Path) -> None:
    encoder = FaceEncoder("nano", 16, 7).eval()
    save_checkpoint(tmp_path / "face_encoder.pt", {"face_encoder": encoder.state_dict(), "figures": {}})
    frames = torch.randn(2, 3, 48, 48)
    for source in (encoder, tmp_path / "face_encoder.pt"):
        model = ReactionModel(replace(SMALL, encoder="nano", size=(48, 48))).eval()
        load_backbone_weights(model, source)
        with torch.no_grad():
            assert torch.allclose(model.frame_encoder(frames), encoder(frames)[0], atol=1e-5)
    with pytest.raises(EmertError, match=r"tensor backbone\.0\.1\.weight|tensor backbone"):
        load_backbone_weights(ReactionModel(replace(SMALL, encoder="base")), encoder)
    with pytest.raises(EmertError, match="cannot initialise resnet18"):
        load_backbone_weights(ReactionModel(SMALL), encoder)


# -- loss and score


def test_pearson_is_scipys() -> None:
    rng = np.random.default_rng(3)
    x = rng.random((40, 7)).astype(np.float32)
    y = (0.5 * x + 0.5 * rng.random((40, 7))).astype(np.float32)
    expected = [scipy.stats.pearsonr(x[:, column], y[:, column]).statistic for column in range(7)]
    assert pearson(torch.from_numpy(x), torch.from_numpy(y)).numpy() == pytest.approx(expected, abs=1e-5)
    assert float(reaction_loss(torch.from_numpy(x), torch.from_numpy(y), None, "pearson")) == pytest.approx(
        1 - np.mean(expected), abs=1e-5
    )


@pytest.mark.parametrize("kind", ["pearson", "mse", "both"])
def test_a_constant_column_gives_no_nan(kind: Any) -> None:
    target = torch.rand(6, 7)
    target[:, 2] = 0.3
    predicted = torch.full((6, 7), 0.4, requires_grad=True)
    loss = reaction_loss(predicted, target, None, kind)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(predicted.grad).all()
    assert pearson(predicted, target).abs().max() < 1e-3
    assert predicted.grad[:, 0].abs().max() > 0, "a constant prediction must have a way out"
    assert pearson(torch.rand(6, 7), target)[2].abs() < 1e-3


def test_the_loss_is_a_mixture_and_falls_towards_the_truth() -> None:
    target, wrong = torch.rand(9, 7), torch.rand(9, 7)
    parts = {kind: float(reaction_loss(wrong, target, None, kind)) for kind in ("pearson", "mse")}
    assert float(reaction_loss(wrong, target, None, "both", pearson_share=0.25)) == pytest.approx(
        0.25 * parts["pearson"] + 0.75 * parts["mse"], abs=1e-6
    )
    for kind in ("pearson", "mse", "both"):
        assert float(reaction_loss(target, target, None, kind)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="kind"):
        reaction_loss(wrong, target, None, "huber")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one shape"):
        reaction_loss(wrong[:2], target)


@pytest.mark.parametrize("kind", ["pearson", "mse", "both"])
def test_rows_without_labels_cost_nothing(kind: Any) -> None:
    target, predicted = torch.rand(6, 7), torch.rand(6, 7, requires_grad=True)
    known = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    expected = reaction_loss(predicted[known > 0], target[known > 0], None, kind)
    target[known == 0] = torch.nan
    loss = reaction_loss(predicted, target, known, kind)
    assert torch.equal(loss, expected)
    loss.backward()
    assert predicted.grad[known == 0].abs().max() == 0
    none = reaction_loss(predicted, target, torch.zeros(6), kind)
    assert none.item() == 0
    none.backward()


class Painted:
    """Clips whose pictures' brightness is the answer."""

    def __init__(self, count: int, seed: int, config: ReactionConfig = SMALL, *, labelled: bool = True) -> None:
        rng = np.random.default_rng(seed)
        level = rng.random((count, 1))
        self.intensities = np.where(labelled, np.hstack([level] * 4 + [1 - level] * 3), np.nan).astype(np.float32)
        noise = rng.normal(0, 8, (count, config.frames, 3, *config.size))
        self.frames = np.clip(40 + 170 * level[..., None, None, None] + noise, 0, 255).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, chosen: np.ndarray) -> ClipData:
        frames = self.frames[chosen]
        return ClipData(frames, np.ones(frames.shape[:2], np.bool_), None, None)


def test_the_score_is_over_all_clips_at_once() -> None:
    clips, model = Painted(11, 4), model_of(SMALL).eval()
    with torch.no_grad():
        frames = (torch.from_numpy(clips.frames).float() / 255 - 0.5) / 0.25
        answers = model(frames, torch.ones(11, SMALL.frames)).numpy().astype(np.float64)
    expected = [scipy.stats.pearsonr(answers[:, row], clips.intensities[:, row]).statistic for row in range(7)]
    figures = score_reactions(model, clips, batch=4)
    assert figures["pearson"] == pytest.approx(np.mean(expected), abs=1e-3)
    for name, value in zip(REACTIONS, expected, strict=True):
        assert figures[f"pearson_{name}"] == pytest.approx(value, abs=1e-3)
    clips.intensities[:, 3] = 0.5
    assert score_reactions(model, clips)["pearson_Disgust"] == 0


# -- simulated clips


def test_frames_lie_evenly() -> None:
    assert even_rows(300, 8).tolist() == [18, 56, 93, 131, 168, 206, 243, 281]
    assert even_rows(3, 8).tolist() == [0, 1, 2]


def test_a_tone_lies_in_its_band() -> None:
    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    low, high = (log_mel(np.sin(2 * np.pi * hertz * seconds).astype(np.float32), 64) for hertz in (440, 2400))
    assert low.shape == (64, 101)
    assert low[:, 50].argmax() < high[:, 50].argmax()
    assert low.max() > 0
    assert low.min() == pytest.approx(-80, abs=1e-3)


def test_a_short_sound_fills_few_spans_and_a_long_one_all() -> None:
    noise = np.random.default_rng(0).standard_normal(5 * SAMPLE_RATE).astype(np.float32)
    for seconds, there in ((0.0, 0), (0.5, 1), (1.5, 2), (5.0, 3)):
        spans, mask = log_mel_spans(noise[: round(seconds * SAMPLE_RATE)], 3, 100, 16)
        assert spans.shape == (3, 16, 100)
        assert mask.tolist() == [True] * there + [False] * (3 - there)
        assert np.isfinite(spans).all()
        assert (spans[~mask] == -80).all()


def test_simulated_clips_carry_their_intensities_and_share_no_person() -> None:
    config = replace(SMALL, audio=True, spans=4, span_frames=96, mel_bins=32)
    clips, again = (SimulatedClips(8, config, 1, "train", 2) for _ in range(2))
    assert ((clips.intensities >= 0) & (clips.intensities <= 1)).all()
    held, other = clips[np.arange(8)], SimulatedClips(8, config, 1, "test", 2)[np.arange(8)]
    assert np.array_equal(held.frames, again[np.arange(8)].frames)
    assert held.frame_mask.all()
    assert held.audio is not None
    assert not np.array_equal(held.frames, other.frames)
    # Fear rises: where it is strong, its tone is louder at the end than at the beginning.
    fear = clips.intensities[:, REACTIONS.index("Fear")]
    assert fear.max() > 0.3, "the seed draws no fear"
    one = held.audio[fear.argmax()].astype(np.float32)
    band = log_mel(np.sin(2 * np.pi * SOUNDS["Fear"] * np.arange(8000) / SAMPLE_RATE).astype(np.float32), 32)[
        :, 20
    ].argmax()
    assert one[-1, band].mean() > one[0, band].mean() + 3
    assert LOOKS["Fear"].course == "rising"


# -- a stage


def configuration_of(stage: dict[str, Any]) -> Configuration:
    return Configuration.model_validate(
        {"name": "tiny", "seed": 1, "trainer": {"accelerator": "cpu", "precision": "32-true", "threads": 1}}
        | {"stages": [{"kind": "reactions", "data": {"kind": "simulated"}, **stage}]}
    )


#: Few weights: most of the time goes into writing checkpoints.
NANO = replace(SMALL, encoder="nano", size=(24, 24), frames=2, pooling="mean")


def run_painted(
    folder: Path, report: Any = lambda line: None, *, epochs: int = 4, labelled: bool = True
) -> dict[str, float]:
    settings = {"model": NANO.to_dict(), "epochs": epochs, "batch": 16, "rate": 2e-3, "drop_tokens": 0.2}
    configuration = configuration_of({"preset": "nano-transformer", **settings, "augment": False})
    clips = {
        "train": Painted(96, 1, NANO), "val": Painted(24, 2, NANO), "test": Painted(24, 3, NANO, labelled=labelled)
    }  # fmt: skip
    stage = configuration.stages[0]
    assert isinstance(stage, ReactionStage)
    return train_reactions(configuration, stage, clips, folder, report)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("painted")
    return folder, run_painted(folder)


def test_a_stage_learns_and_leaves_its_model(painted: tuple[Path, dict[str, float]]) -> None:
    folder, figures = painted
    assert figures["test_pearson"] > 0.6
    assert abs(figures["untrained_pearson"]) < 0.5
    assert figures["validation_pearson"] > 0.6
    model, content = load_reaction_model(folder / "reactions.pt")
    assert content["reactions"] == list(REACTIONS)
    assert score_reactions(model, Painted(24, 3, NANO))["pearson"] == pytest.approx(figures["test_pearson"], abs=1e-6)
    assert list((folder / "csv").rglob("metrics.csv"))


def test_a_stage_that_was_stopped_ends_as_one_that_was_not(
    painted: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    def stop(line: str) -> None:
        if "epoch 3/4" in line:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run_painted(tmp_path, stop)
    assert (tmp_path / "last.ckpt").exists()
    assert not (tmp_path / "reactions.pt").exists()
    assert run_painted(tmp_path) == pytest.approx(painted[1], abs=1e-6)


def test_a_test_split_without_labels_is_not_scored(tmp_path: Path) -> None:
    figures = run_painted(tmp_path, epochs=1, labelled=False)
    assert "validation_pearson" in figures
    assert not [name for name in figures if name.startswith("test_")]


def test_a_broken_model_names_its_tensor(painted: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    content = torch.load(painted[0] / "reactions.pt", weights_only=True)
    del content["reaction_model"]["head.1.weight"]
    torch.save(content, tmp_path / "cut.pt")
    with pytest.raises(EmertError, match=r"cut\.pt: tensor head\.1\.weight is missing"):
        load_reaction_model(tmp_path / "cut.pt")
    torch.save({"config": {}}, tmp_path / "other.pt")
    with pytest.raises(EmertError, match="not a finished reaction model"):
        load_reaction_model(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"preset": "resnet99"}, "preset must be one of resnet18-mean"),
        ({"model": {"frames": 0}}, "frames must be at least 1"),
        ({"model": {"colour": 1}}, "unknown model settings: colour"),
        ({"model": {"frames": "many"}}, "model"),
        ({"after_expressions": True, "backbone": "x.pth"}, "exclude each other"),
        ({"loss": "huber"}, "loss"),
    ],
)
def test_a_wrong_stage_is_refused_before_anything_slow(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        configuration_of(wrong)


def test_a_run_of_reactions_alone_leaves_reactions_pt(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(
        """
        name: tiny
        trainer: {accelerator: cpu, precision: 32-true, threads: 1}
        stages:
          - kind: reactions
            preset: resnet18-audio
            model: {size: [32, 32], frames: 2, spans: 2, span_frames: 32, mel_bins: 16, width: 16, layers: 1, heads: 2}
            data: {kind: simulated, clips: 8, validation_clips: 4, test_clips: 4, people: 2}
            epochs: 1
            batch: 4
        """
    )
    finished = train(read_configuration(tmp_path / "tiny.yaml"), tmp_path / "run")
    assert finished == tmp_path / "run" / "reactions.pt"
    model, _ = load_reaction_model(finished)
    assert model.config.audio
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())["1-reactions"]
    assert {f"test_pearson_{name}" for name in REACTIONS} < set(figures)
