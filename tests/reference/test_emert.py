"""The model: what a masked token may do (nothing), what each task may see, what a size may cost."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the reference model needs the extra `train`")

from emert_edge.reference.emert import HEAD_OUTPUTS, Emert, EmertConfig, reverse_gradient  # noqa: E402
from emert_edge.reference.face_encoder import FACE_SIZES, FaceEncoder, multiply_accumulates  # noqa: E402

Inputs = dict[str, "torch.Tensor"]


@pytest.fixture(scope="module", params=["maps", "points"])
def model(request: pytest.FixtureRequest) -> Emert:
    torch.manual_seed(0)
    return Emert(EmertConfig(token_width=32, fused_width=32, heads=4, gaze=request.param)).eval()


def windows(gaze: str = "maps", batch: int = 4, width: int = 32, seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"face": (8, width), "eye": (32, 39)} | ({"fixation": (8, width)} if gaze == "maps" else {})
    inputs: Inputs = {}
    for name, shape in shapes.items():
        inputs[f"{name}_tokens"] = torch.randn(batch, *shape, generator=generator)
        inputs[f"{name}_mask"] = (torch.rand(batch, shape[0], generator=generator) < 0.6).float()
    if gaze == "points":
        inputs["gaze_points"] = torch.rand(batch, 32, 2, generator=generator)
    return inputs


def mask_of(name: str) -> str:
    """The mask that a tensor lies under; gaze points have their eye tokens'."""
    return "eye_mask" if name == "gaze_points" else name.replace("tokens", "mask")


@pytest.mark.parametrize("garbage", [1e30, -3.0, float("nan")])
def test_what_lies_under_a_mask_changes_nothing(model: Emert, garbage: float) -> None:
    clean = windows(model.config.gaze)
    dirty = {
        name: value
        if name.endswith("mask")
        else torch.where(clean[mask_of(name)].unsqueeze(-1) > 0.5, value, torch.tensor(garbage))
        for name, value in clean.items()
    }
    with torch.no_grad():
        first, second = model.head(**clean), model.head(**dirty)
    assert tuple(first) == HEAD_OUTPUTS
    for name in HEAD_OUTPUTS:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize(
    "missing", [("face",), ("eye",), ("fixation",), ("eye", "fixation"), ("face", "eye", "fixation")]
)
def test_a_missing_modality_leaves_finite_answers_in_range(model: Emert, missing: tuple[str, ...]) -> None:
    inputs = windows(model.config.gaze)
    for name in missing:
        mask = mask_of("gaze_points" if name == "fixation" and model.config.gaze == "points" else f"{name}_tokens")
        inputs[mask] = torch.zeros_like(inputs[mask])
    with torch.no_grad():
        outputs = model.head(**inputs)
    assert all(torch.isfinite(value).all() for value in outputs.values())
    for task in ("emotion", "expression"):
        assert outputs[f"{task}_logits"].shape == (4, 7)
        assert outputs[f"{task}_polarity_logits"].shape == (4, 3)
        assert outputs[f"{task}_valence_arousal"].abs().max() <= 1
    assert outputs["expression_intensity"].min() >= 0
    assert outputs["expression_intensity"].max() <= 3


def test_the_expression_is_read_from_face_tokens_alone_and_the_emotion_from_all(model: Emert) -> None:
    inputs = windows(model.config.gaze)
    for name in inputs:
        if name.endswith("mask"):
            inputs[name][:, -1] = 1
    with torch.no_grad():
        before = model.head(**inputs)
        for name in ("eye_tokens", "gaze_points" if model.config.gaze == "points" else "fixation_tokens"):
            after = model.head(**{**inputs, name: inputs[name] + torch.linspace(-0.5, 0.5, inputs[name].shape[-1])})
            for output in HEAD_OUTPUTS:
                same = torch.equal(before[output], after[output])
                assert same == output.startswith("expression"), (name, output)
        after = model.head(**{**inputs, "face_tokens": torch.randn_like(inputs["face_tokens"])})
        assert not torch.equal(before["expression_logits"], after["expression_logits"])
        assert not torch.equal(before["emotion_logits"], after["emotion_logits"])


def test_windows_of_a_batch_do_not_see_each_other(model: Emert) -> None:
    inputs = windows(model.config.gaze, batch=3)
    with torch.no_grad():
        together = model.head(**inputs)
        alone = [model.head(**{name: value[row : row + 1] for name, value in inputs.items()}) for row in range(3)]
    for name in HEAD_OUTPUTS:
        assert torch.allclose(together[name], torch.cat([one[name] for one in alone]), atol=1e-5)


def test_the_whole_model_is_its_three_parts(model: Emert) -> None:
    inputs = windows(model.config.gaze, batch=2)
    frames, fused = torch.randn(2, 8, 3, *FACE_SIZES["nano"]), torch.randn(2, 8, 4, 112, 112)
    rest = {name: value for name, value in inputs.items() if name not in ("face_tokens", "fixation_tokens")}
    with torch.no_grad():
        inputs["face_tokens"] = torch.stack([model.face_encoder(one)[0] for one in frames])
        if model.fixation_encoder is not None:
            rest["fused_frames"] = fused
            inputs["fixation_tokens"] = torch.stack([model.fixation_encoder(one) for one in fused])
        whole = model(frames, **rest)
        parts = model.head(**inputs)
    assert set(inputs) == set(model.head.input_names)
    for name in HEAD_OUTPUTS:
        assert torch.allclose(whole[name], parts[name], atol=1e-5), name


def test_gaze_that_the_model_does_not_take_is_refused(model: Emert) -> None:
    other = windows("points" if model.config.gaze == "maps" else "maps")
    with pytest.raises(TypeError, match="gaze_points" if model.config.gaze == "points" else "fixation_tokens"):
        model.head(**other)


def test_gaze_points_are_read_as_fractions_and_far_outside_is_no_further_than_outside() -> None:
    torch.manual_seed(0)
    head = Emert(EmertConfig(token_width=16, fused_width=16, heads=2, gaze="points")).eval().head
    inputs = windows("points", width=16)
    with torch.no_grad():
        inside = head(**inputs)["emotion_logits"]
        outside = head(**{**inputs, "gaze_points": inputs["gaze_points"] + 2})["emotion_logits"]
        far = head(**{**inputs, "gaze_points": inputs["gaze_points"] + 1e6})["emotion_logits"]
    assert torch.equal(outside, far)
    assert not torch.allclose(inside, outside, atol=1e-3)


def test_nano_costs_at_most_150_million_multiply_accumulates_a_frame() -> None:
    nano, base, large = (
        multiply_accumulates(FaceEncoder(size, 128, 7), torch.zeros(1, 3, *FACE_SIZES[size])) for size in FACE_SIZES
    )
    assert nano <= 150e6 < base < large
    # ResNet-18 at 112 × 112 without its classifier; the linear layers add under one part in a thousand.
    assert base == pytest.approx(484.4e6, rel=2e-3)


def test_reversed_gradients_are_reversed() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    (reverse_gradient(x, 0.5) * torch.tensor([3.0, 4.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-1.5, -2.0]


@pytest.mark.parametrize(
    ("gaze", "missing", "present"),
    [("maps", "fixation_mask", [True, True, False]), ("points", "eye_mask", [True, False, False])],
)
def test_decoupling_pulls_at_the_two_feature_sets_in_opposite_directions(
    gaze: str, missing: str, present: list[bool]
) -> None:
    torch.manual_seed(0)
    head = Emert(EmertConfig(token_width=16, fused_width=16, heads=2, gaze=gaze)).head.train()
    inputs = windows(gaze, width=16)
    inputs[missing] = torch.zeros_like(inputs[missing])
    _, decoupled = head.train_forward(**inputs)
    assert [bool(there.all()) for there in decoupled.present] == present
    for judged in (decoupled.specific, decoupled.invariant):
        assert [tuple(logits.shape) for logits in judged] == [(4, 3)] * 3
    decoupled.invariant[0].sum().backward(retain_graph=True)
    through = head.invariant.bias.grad
    assert through is not None
    assert torch.allclose(through, -4 * head.discriminator.weight.sum(0), atol=1e-5)


def test_reactions_are_there_only_when_asked_for() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        outputs = (
            Emert(EmertConfig(token_width=16, fused_width=16, heads=2, reactions=7)).eval().head(**windows(width=16))
        )
    assert tuple(outputs) == (*HEAD_OUTPUTS, "reactions")
    assert outputs["reactions"].shape == (4, 7)
    assert 0 <= outputs["reactions"].min() <= outputs["reactions"].max() <= 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": "huge"}, "size"),
        ({"fused_width": 30}, "multiple of heads"),
        ({"classes": 0}, "classes"),
        ({"gaze": "heat"}, "'maps' or 'points'"),
    ],
)
def test_a_model_that_cannot_be_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EmertConfig(**settings)  # type: ignore[arg-type]


def test_settings_survive_a_round_trip_and_unknown_ones_do_not_pass() -> None:
    config = EmertConfig(size="base", reactions=7, gaze="points")
    assert EmertConfig.from_dict(config.to_dict()) == config
    old = {name: value for name, value in EmertConfig().to_dict().items() if name != "gaze"}
    assert EmertConfig.from_dict(old).gaze == "maps"  # a checkpoint from before there were points
    with pytest.raises(ValueError, match="colour"):
        EmertConfig.from_dict({"colour": "blue"})
