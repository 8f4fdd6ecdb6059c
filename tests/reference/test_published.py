"""The published variants give the published outputs, and a checkpoint that is none of them is refused by name."""

from __future__ import annotations

import copy
import functools
import json
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference model needs the extra `train`")

from torch.nn import functional as F  # noqa: E402

from emert_edge.errors import EmertError  # noqa: E402
from emert_edge.reference.emert import reverse_gradient  # noqa: E402
from emert_edge.reference.published import (  # noqa: E402
    PublishedEmert,
    PublishedShape,
    load_published,
    published_loss,
    read_checkpoint,
)
from emert_edge.reference.resnet import ResNet18  # noqa: E402

from ..parity import STEMS, drawn_inputs, drawn_weight  # noqa: E402

PARITY = {stem: PublishedShape(**settings) for stem, settings in STEMS.items()}
VARIANTS = ("model_D", "model", "in_model", "model_D_2023")
DISCRIMINATED = ("inv_face", "inv_eye", "inv_gaze", "spec_face", "spec_eye", "spec_gaze")


def random_inputs(batch: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = {"face": (8, 3, 112, 112), "eye": (32, 39), "gaze": (32, 2)}
    return {name: torch.rand(batch, *shape, generator=draw) for name, shape in shapes.items()}


@functools.cache
def untrained(shape: PublishedShape) -> PublishedEmert:
    """One model a shape, in evaluation mode; a test that changes it makes its own."""
    torch.manual_seed(0)
    return PublishedEmert(shape).eval()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On busy cores torch's threads spend more time in waiting for each other than in work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def parity(shared_data: Path) -> Path:
    folder = shared_data.parent / "parity"
    if not folder.is_dir():
        pytest.skip(f"no parity vectors here: {folder} is absent")
    return folder


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, torch.Tensor]]:
    """A checkpoint of each variant."""
    return {variant: dict(untrained(PublishedShape(variant)).state_dict()) for variant in VARIANTS}


# Parity


@pytest.mark.parametrize("stem", PARITY)
def test_a_variant_gives_the_published_outputs(stem: str, parity: Path) -> None:
    names = json.loads((parity / f"{stem}.state_dict.json").read_text())
    model = load_published({name: torch.from_numpy(drawn_weight(name, tuple(names[name]))) for name in names})
    assert model.shape == PARITY[stem]
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == names
    with torch.no_grad():
        outputs = model(**{name: torch.from_numpy(values) for name, values in drawn_inputs().items()})
    with np.load(parity / f"{stem}.npz") as published:
        assert set(published) == set(outputs)
        for name in published:
            np.testing.assert_allclose(outputs[name].numpy(), published[name], rtol=0, atol=1e-5, err_msg=name)


# Finding the variant


@pytest.mark.parametrize(
    "shape",
    [
        PublishedShape("model_D", outputs=3),
        PublishedShape("model", outputs=2),
        PublishedShape("in_model", outputs=3, intensities=2),
        PublishedShape("model_D_2023", outputs=8, spare_rows=8),
    ],
    ids=VARIANTS,
)
def test_the_sizes_are_found_in_the_shapes(shape: PublishedShape) -> None:
    original = untrained(shape)
    model = load_published(original.state_dict())
    assert model.shape == shape
    assert not model.training
    inputs = random_inputs(1)
    with torch.no_grad():
        outputs, expected = model(**inputs), original(**inputs)
    assert outputs["out"].shape == (1, shape.outputs)
    for name in (*DISCRIMINATED, "out"):
        assert torch.equal(outputs[name], expected[name])
    if shape.variant == "in_model":
        assert outputs["extra"].shape == (1, shape.intensities)


def test_weights_are_copied_and_random_numbers_left_alone(states: dict[str, dict[str, torch.Tensor]]) -> None:
    before = torch.get_rng_state()
    model = load_published(states["model_D"])
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        model.cls_head[0].bias += 1.0
    assert not torch.equal(model.cls_head[0].bias, states["model_D"]["cls_head.0.bias"])


def test_names_of_dataparallel_and_numpy_arrays_are_taken(states: dict[str, dict[str, torch.Tensor]]) -> None:
    model = load_published({f"module.{name}": tensor.numpy() for name, tensor in states["in_model"].items()})
    assert model.shape.variant == "in_model"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, states["in_model"][name])


def test_a_prefix_on_some_names_only_is_refused(states: dict[str, dict[str, torch.Tensor]]) -> None:
    state = dict(states["model"])
    state["module.proj_v1.bias"] = state.pop("proj_v1.bias")
    with pytest.raises(ValueError, match=r"'proj_v1\.bias' is missing"):
        load_published(state)


# Refusing what is none of them

HEADS = {
    "model_D": ["cls_head.0.weight", "cls_head.0.bias"],
    "model": ["cls_head.0.weight", "cls_head.4.bias", "cls_head.6.weight", "cls_head.6.bias"],
    "in_model": ["cls_head_e.0.weight", "cls_head_in.0.weight", "cls_head_in.0.bias"],
    "model_D_2023": ["cls_head.0.bias", "cls_head.1.weight", "cls_head.1.bias"],
}
EVERYWHERE = [
    "subnet.f_extractor.conv1.weight",
    "subnet.f_extractor.layer3.0.downsample.1.num_batches_tracked",
    "subnet.v_lstm.bias_hh_l2",
    "subnet.classifier.weight",
    "specific_projection_l.0.weight",
    "distriminator.0.bias",
    "transformer.pos_embedding_s",
    "transformer.CrossTransformerEncoder.layers.1.1.fn.net.3.bias",
]
CASES = [(variant, name) for variant in VARIANTS for name in (*EVERYWHERE, *HEADS[variant])]


@pytest.mark.parametrize(("variant", "name"), CASES)
def test_a_tensor_that_is_missing_is_named(variant: str, name: str, states: dict[str, dict[str, torch.Tensor]]) -> None:
    state = {key: tensor for key, tensor in states[variant].items() if key != name}
    with pytest.raises(ValueError, match=f"nearest variant, '{variant}'.*'{name}' is missing"):
        load_published(state)


@pytest.mark.parametrize(("variant", "name"), CASES)
def test_a_tensor_of_a_wrong_shape_is_named(
    variant: str, name: str, states: dict[str, dict[str, torch.Tensor]]
) -> None:
    tensor = states[variant][name]
    wrong = torch.zeros((*tensor.shape[:-1], tensor.shape[-1] + 1) if tensor.ndim else (1,), dtype=tensor.dtype)
    with pytest.raises(ValueError, match=f"'{variant}'.*'{name}' has shape .*{wrong.shape[-1]}.*, expected is"):
        load_published({**states[variant], name: wrong})


def test_a_weight_and_a_bias_that_disagree_are_both_named(states: dict[str, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(ValueError, match=r"'cls_head\.6\.bias' has shape \(7,\), .*'cls_head\.6\.weight' of shape"):
        load_published({**states["model"], "cls_head.6.weight": torch.zeros(5, 8)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32])
def test_a_tensor_of_a_wrong_dtype_is_named(dtype: torch.dtype, states: dict[str, dict[str, torch.Tensor]]) -> None:
    state = {**states["model_D"], "proj_v1.weight": states["model_D"]["proj_v1.weight"].to(dtype)}
    with pytest.raises(ValueError, match=rf"'proj_v1\.weight' has dtype {dtype}, expected is torch\.float32"):
        load_published(state)


def test_a_value_that_is_no_tensor_is_named(states: dict[str, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(ValueError, match=r"'epoch' is not a tensor but of type int"):
        load_published({**states["model"], "epoch": 3})
    with pytest.raises(ValueError, match=r"'proj_v1\.bias' cannot be read from an array of dtype object"):
        load_published({**states["model"], "proj_v1.bias": np.array([None])})


def test_a_tensor_too_much_is_named_behind_its_prefix(states: dict[str, dict[str, torch.Tensor]]) -> None:
    state = {f"module.{name}": tensor for name, tensor in states["model"].items()}
    with pytest.raises(ValueError, match=r"'model'\): tensor 'module\.cls_head\.8\.bias' belongs to no part"):
        load_published({**state, "module.cls_head.8.bias": torch.zeros(7)})


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_the_first_tensor_behind_a_cut_is_named(
    variant: str, share: float, states: dict[str, dict[str, torch.Tensor]]
) -> None:
    names = list(states[variant])
    kept = int(share * len(names))
    with pytest.raises(ValueError) as refusal:
        load_published({name: states[variant][name] for name in names[:kept]})
    assert f"tensor '{names[kept]}' is missing" in str(refusal.value)


def test_the_first_of_several_faults_is_named(states: dict[str, dict[str, torch.Tensor]]) -> None:
    state = {**states["model"], "cls_head.0.bias": torch.zeros(5), "zebra": torch.zeros(1)}
    del state["subnet.e_lstm.bias_ih_l1"], state["proj_v1.bias"]
    with pytest.raises(ValueError) as refusal:
        load_published(state)
    assert "'subnet.e_lstm.bias_ih_l1' is missing" in str(refusal.value)


def test_what_is_no_checkpoint_of_theirs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'subnet\.f_extractor\.conv1\.weight' is missing"):
        load_published({})
    with pytest.raises(ValueError, match=r"'subnet\.f_extractor\.conv1\.weight' is missing"):
        load_published(ResNet18().state_dict())
    with pytest.raises(TypeError, match="state_dict must be a mapping"):
        load_published([torch.zeros(1)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="strings as names, got 3"):
        load_published({3: torch.zeros(1)})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "model_E"}, "variant must be one of model_D, model, in_model, model_D_2023"),
        ({"outputs": 0}, "outputs must be at least 1"),
        ({"intensities": -1}, "intensities must be at least 1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PublishedShape(**{"variant": "model", **change})  # type: ignore[arg-type]


# Inputs


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("face", torch.rand(2, 8, 3, 96, 112)),
        ("face", torch.rand(8, 3, 112, 112)),
        ("face", torch.zeros(2, 8, 3, 112, 112, dtype=torch.uint8)),
        ("eye", torch.rand(2, 39, 32)),
        ("eye", torch.rand(3, 32, 39)),
        ("gaze", torch.rand(2, 32, 3)),
        ("gaze", torch.rand(1, 32, 2)),
    ],
)
def test_a_wrong_input_is_named(argument: str, value: torch.Tensor) -> None:
    model = untrained(PublishedShape("model"))
    with pytest.raises(ValueError, match=f"^{argument} "):
        model(**{**random_inputs(2), argument: value})


def test_an_input_that_is_no_tensor_is_named() -> None:
    with pytest.raises(TypeError, match=r"^eye must be a tensor, got ndarray"):
        untrained(PublishedShape("model"))(**{**random_inputs(1), "eye": np.zeros((1, 32, 39), np.float32)})


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    model, inputs = untrained(PublishedShape("model_D")), random_inputs(3)
    with torch.no_grad():
        together, alone = model(**inputs), model(**{name: x[1:2] for name, x in inputs.items()})
    for name in together:
        torch.testing.assert_close(together[name][1:2], alone[name], rtol=0, atol=1e-5)


def test_face_tokens_can_be_computed_apart() -> None:
    model, inputs = untrained(PublishedShape("in_model")), random_inputs(2)
    with torch.no_grad():
        whole = model(**inputs)
        tokens = torch.stack([model.encode_face(inputs["face"][:, i]) for i in range(8)], dim=1)
        parts = model.fuse(tokens, inputs["eye"], inputs["gaze"])
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-5)


# Training


def test_a_reversed_gradient_has_the_other_sign_and_its_strength() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x)
    assert torch.equal(y, x)
    (3 * y).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-3.0, -3.0]


@pytest.mark.parametrize("kind", ["inv", "spec"])
@pytest.mark.parametrize("variant", ["model_D", "in_model"])
def test_the_discriminator_pulls_specific_features_and_pushes_invariant_ones(variant: str, kind: str) -> None:
    model, inputs = untrained(PublishedShape(variant)), random_inputs(2)
    tokens = torch.rand(2, 8, 128)
    projection = model.invariant_projection if kind == "inv" else model.specific_projection_a
    modality = torch.tensor([1, 1])
    wanted = [projection[0].weight, model.distriminator[0].weight]

    outputs = model.fuse(tokens, inputs["eye"], inputs["gaze"])
    through_model = torch.autograd.grad(F.cross_entropy(outputs[f"{kind}_eye"], modality), wanted)
    plain = model.distriminator(projection(model.subnet.e_lstm(inputs["eye"])[0]).mean(1))
    directly = torch.autograd.grad(F.cross_entropy(plain, modality), wanted)

    assert directly[0].abs().max() > 1e-3
    sign = -1.0 if kind == "inv" else 1.0
    torch.testing.assert_close(through_model[0], sign * directly[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(through_model[1], directly[1], rtol=1e-4, atol=1e-6)


def test_the_task_sees_its_own_gradient() -> None:
    model = copy.deepcopy(untrained(PublishedShape("model", outputs=1))).double()
    inputs = {name: x.double() for name, x in random_inputs(2).items()}
    tokens, weight = torch.rand(2, 8, 128, dtype=torch.float64), model.invariant_projection[0].weight

    def task() -> torch.Tensor:
        return model.fuse(tokens, inputs["eye"], inputs["gaze"])["out"].sum()

    (gradient,) = torch.autograd.grad(task(), [weight])
    with torch.no_grad():
        step = 1e-6 / gradient.norm() * gradient
        weight += step
        above = task()
        weight -= 2 * step
        below = task()
    assert float(above - below) / 2e-6 == pytest.approx(float(gradient.norm()), rel=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_step_reaches_every_tensor_that_an_output_depends_on(variant: str) -> None:
    model = copy.deepcopy(untrained(PublishedShape(variant))).train()
    inputs = random_inputs(2)
    outputs = model(**inputs)
    intensity = torch.tensor([0.5, 2.0]) if variant == "in_model" else None
    published_loss(outputs, torch.tensor([1, 4]), intensity=intensity).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    spare = ("subnet.f_extractor.fc", "subnet.classifier")
    assert without == {f"{layer}.{kind}" for layer in spare for kind in ("weight", "bias")}
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_dropout_works_in_training_and_rests_in_evaluation() -> None:
    model, inputs = copy.deepcopy(untrained(PublishedShape("model_D"))), random_inputs(1)
    tokens = torch.rand(1, 8, 128)

    def pooled() -> torch.Tensor:
        with torch.no_grad():
            return model.fuse(tokens, inputs["eye"], inputs["gaze"])["extra"]

    assert torch.equal(pooled(), pooled())
    model.train()
    assert not torch.equal(pooled(), pooled())


def given_outputs(width: int, extra: int | None = None) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(7)
    outputs = {name: torch.randn(4, 3, generator=draw, dtype=torch.float64) for name in DISCRIMINATED}
    outputs["out"] = torch.randn(4, width, generator=draw, dtype=torch.float64)
    if extra is not None:
        outputs["extra"] = torch.randn(4, extra, generator=draw, dtype=torch.float64)
    return outputs


def cross_entropy(logits: torch.Tensor, labels: list[int]) -> float:
    x = logits.numpy()
    return float(np.mean([math.log(np.exp(row).sum()) - row[label] for row, label in zip(x, labels, strict=True)]))


def smooth_l1(values: torch.Tensor, targets: list[float]) -> float:
    apart = np.abs(values.numpy()[:, 0] - np.array(targets))
    return float(np.mean(np.where(apart < 1, 0.5 * apart**2, apart - 0.5)))


def domain_terms(outputs: dict[str, torch.Tensor], kind: str) -> float:
    return sum(cross_entropy(outputs[f"{kind}_{name}"], [i] * 4) for i, name in enumerate(("face", "eye", "gaze")))


def test_the_loss_of_classes() -> None:
    outputs, labels = given_outputs(7), [0, 6, 3, 3]
    expected = (
        0.01 * domain_terms(outputs, "inv")
        + 0.01 * domain_terms(outputs, "spec")
        + cross_entropy(outputs["out"], labels)
    )
    assert float(published_loss(outputs, torch.tensor(labels))) == pytest.approx(expected, rel=1e-9)


def test_the_loss_of_a_regression_with_weights_of_ones_own() -> None:
    outputs, values = given_outputs(1), [0.0, 0.5, -3.0, 1.0]
    expected = (
        2 * domain_terms(outputs, "inv") + 3 * domain_terms(outputs, "spec") + 5 * smooth_l1(outputs["out"], values)
    )
    targets = torch.tensor(values, dtype=torch.float64)
    for shaped in (targets, targets[:, None]):
        loss = published_loss(outputs, shaped, alpha=2, beta=3, delta=5)
        assert float(loss) == pytest.approx(expected, rel=1e-9)


def test_the_loss_of_classes_and_intensity() -> None:
    outputs, labels, values = given_outputs(7, extra=1), [1, 2, 0, 5], [0.0, 1.0, 2.0, 3.0]
    expected = (
        0.3 * domain_terms(outputs, "inv")
        + 0.1 * domain_terms(outputs, "spec")
        + cross_entropy(outputs["out"], labels)
        + smooth_l1(outputs["extra"], values)
    )
    loss = published_loss(outputs, torch.tensor(labels), intensity=torch.tensor(values, dtype=torch.float64))
    assert float(loss) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("targets", "intensity", "message"),
    [
        (torch.tensor([0, 1, 2]), None, r"^targets must be int64 classes of shape \(4,\)"),
        (torch.tensor([0, 1, 2, 7]), None, "^targets must be classes from 0 to 6"),
        (torch.tensor([0, 1, 2, -100]), None, "^targets must be classes from 0 to 6"),
        (torch.zeros(4, dtype=torch.int32), None, "^targets must be int64 classes"),
        (torch.zeros(4), None, r"^targets must be float of shape \(4, 7\)"),
        (torch.zeros(4, 7), torch.zeros(4), "^targets must be int64 classes where intensity is given"),
        (torch.zeros(4, dtype=torch.int64), torch.zeros(3), r"^intensity must be float of shape \(4, 1\)"),
        (torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), "^intensity must be float"),
    ],
)
def test_targets_that_do_not_fit_are_named(targets: torch.Tensor, intensity: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        published_loss(given_outputs(7, extra=1), targets, intensity=intensity)


def test_intensity_needs_a_variant_that_estimates_it() -> None:
    with pytest.raises(ValueError, match=r"^intensity was given"):
        published_loss(given_outputs(7), torch.zeros(4, dtype=torch.int64), intensity=torch.zeros(4))
    # model_D's `extra` are features of another width, and no intensity either
    with pytest.raises(ValueError, match=r"^intensity must be float"):
        published_loss(given_outputs(7, extra=32), torch.zeros(4, dtype=torch.int64), intensity=torch.zeros(4))


# Files

TENSORS = {"a.weight": torch.ones(300), "b.counter": torch.zeros((), dtype=torch.int64)}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, "epoch": 12, "args": {"lr": 1e-4}},
        lambda tensors: {"epoch": 12, "model": tensors},
        lambda tensors: {"model": {"state_dict": tensors}},
        lambda tensors: {"model_state_dict": tensors, "optimizer_state_dict": {"state": {}, "param_groups": []}},
    ],
)
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "legacy"])
def test_the_usual_files_are_read(wrap: Callable[[object], object], archive: bool, tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    torch.save(wrap(TENSORS), file, _use_new_zipfile_serialization=archive)
    read = read_checkpoint(file)
    assert list(read) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(read[name], tensor)


def test_a_file_goes_from_disk_to_answers(tmp_path: Path) -> None:
    original = untrained(PublishedShape("model_D_2023"))
    torch.save({"epoch": 3, "state_dict": original.state_dict()}, tmp_path / "best.pth")
    model, inputs = load_published(read_checkpoint(str(tmp_path / "best.pth"))), random_inputs(1)
    with torch.no_grad():
        assert torch.equal(model(**inputs)["out"], original(**inputs)["out"])


class LeavesAMark:
    """What unpickles by creating a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_no_code_in_a_file_is_run(writer: str, tmp_path: Path) -> None:
    file, mark = tmp_path / "model.pth", tmp_path / "ran"
    content = {"state_dict": {"a": LeavesAMark(mark)}}
    if writer == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content))
    with pytest.raises(EmertError, match=r"model\.pth: ") as refusal:
        read_checkpoint(file)
    assert not mark.exists()
    assert "weights_only" not in str(refusal.value)  # PyTorch's own message advises reading it unsafely


def test_a_whole_model_in_a_file_is_refused_by_its_class(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "model.pth")
    with pytest.raises(EmertError, match=r"holds a pickled torch\.nn\.modules\.linear\.Linear"):
        read_checkpoint(tmp_path / "model.pth")


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_refused(share: float, archive: bool, tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    torch.save(TENSORS, file, _use_new_zipfile_serialization=archive)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(EmertError, match=r"model\.pth: not a PyTorch checkpoint of tensors, or one that was cut short"):
        read_checkpoint(file)


@pytest.mark.parametrize("name", ["absent.pth", "."])
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(EmertError, match="there is no such checkpoint file"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds a list, not named tensors"),
        ({"epoch": 3, "weights": TENSORS}, r"entry \['epoch'\] is of type int, not a tensor"),
        ({"state_dict": {"a": "b"}}, r"entry \['state_dict'\]\['a'\] is of type str, not a tensor"),
    ],
)
def test_a_file_of_other_things_says_what_it_holds(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(EmertError, match=message):
        read_checkpoint(tmp_path / "model.pth")
