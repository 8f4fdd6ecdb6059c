"""Q/DQ for ONNX Runtime on a CPU: integer kernels from end to end, and the same answers on every processor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

onnx = pytest.importorskip("onnx", reason="calibrating needs the extra `export`")
import onnxruntime  # noqa: E402
from emert_edge.calibration import rewrites_cpu  # noqa: E402
from emert_edge.calibration.placement_cpu import place_for_cpu, quantised_tensors  # noqa: E402
from emert_edge.calibration.ranges import collect_histograms, find_ranges, open_with_outputs  # noqa: E402
from emert_edge.calibration.rewrites_cpu import as_products, in_blocks, in_strips  # noqa: E402

from .graphs import GraphMaker  # noqa: E402


def placed_of(model: Any, frames: np.ndarray, keep_float: tuple[str, ...] = ()) -> Any:
    seen = collect_histograms(model, quantised_tensors(model, keep_float), {"frame": frames})
    return place_for_cpu(model, find_ranges(seen, "minmax", signed=False), keep_float)


def as_on_a_device(model: Any, optimised: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_onnx_runtime_fuses_it_into_integer_kernels(network: Any, frames: np.ndarray, tmp_path: Path) -> None:
    as_on_a_device(placed_of(network, frames), tmp_path / "optimised.onnx")
    optimised = onnx.load(tmp_path / "optimised.onnx").graph
    kinds = Counter(node.op_type for node in optimised.node)
    assert (kinds["QLinearConv"], kinds["QLinearAdd"], kinds["Conv"], kinds["Add"]) == (6, 2, 0, 0)
    assert kinds["QuantizeLinear"] == 1  # the frame: nothing turns float before the token is made, which is float
    assert kinds["Gemm"] == 2
    (pool,) = (node for node in optimised.node if node.op_type.endswith("MaxPool"))
    makers = {name: node.op_type for node in optimised.node for name in node.output}
    assert makers[pool.input[0]] != "DequantizeLinear"


def test_form_types_and_seven_bits(network: Any, frames: np.ndarray) -> None:
    placed = placed_of(network, frames)
    onnx.checker.check_model(placed, full_check=True)
    assert placed.ir_version == network.ir_version
    assert placed.opset_import == network.opset_import
    assert (placed.graph.input, placed.graph.output) == (network.graph.input, network.graph.output)
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in placed.graph.initializer}
    for name in ("stem_w", "one_a_w", "two_project_w"):
        assert name not in held
        (values,) = (array for key, array in held.items() if key.startswith(name) and array.ndim > 1)
        assert values.dtype == np.int8
        assert np.abs(values.astype(int)).max() <= 64
    zero_points = [
        held[node.input[2]].dtype for node in placed.graph.node if node.op_type == "QuantizeLinear"
    ]  # fmt: skip
    assert set(zero_points) == {np.dtype(np.uint8)}
    for name in ("project", "classify"):
        assert next(node for node in placed.graph.node if node.name == name).input[1] == f"{name}_w"


def test_integer_kernels_answer_as_the_graph_is_written(network: Any, frames: np.ndarray) -> None:
    placed = placed_of(network, frames)
    written = open_with_outputs(placed, [], 1).run(["face_token"], {"frame": frames})[0]
    computed = as_on_a_device(placed).run(["face_token"], {"frame": frames})[0]
    wanted = open_with_outputs(network, [], 1).run(["face_token"], {"frame": frames})[0]
    error = np.square(written - wanted).mean()
    assert 0 < error < 2e-3 * np.square(wanted).mean()
    assert np.square(computed - written).mean() < error  # they differ by roundings at a step's middle alone


@pytest.mark.parametrize("side", [1, 3])
def test_the_largest_weights_and_activations_do_not_saturate(side: int) -> None:
    """On a processor with AVX2 and no VNNI, 8-bit weights give half of this (`docs/quantization.md`)."""
    make = GraphMaker()
    width, taps = 32, 32 * side * side
    names = []
    for name in ("first", "second"):
        weight = make.constant(f"{name}_w", np.ones((width, 32, side, side), np.float32))
        bias = make.constant(f"{name}_b", np.zeros(width, np.float32))
        source = names[-1] if names else "frame"
        names.append(make.node("Conv", [source, weight, bias], name, pads=[side // 2] * 4))
    model = make.model({"frame": ["batch", 32, 6, 6]}, {"out": names[-1]})
    ranges = {"frame": (0.0, 1.0), "first_out": (0.0, float(taps)), "out": (0.0, float(taps**2))}
    placed = place_for_cpu(model, {name: ranges[name] for name in quantised_tensors(model)})
    (found,) = as_on_a_device(placed).run(["out"], {"frame": np.ones((1, 32, 6, 6), np.float32)})
    assert found.max() == pytest.approx(taps**2, rel=0.01)


def test_a_layer_that_stays_float_stays_whole(network: Any, frames: np.ndarray) -> None:
    placed = placed_of(network, frames, ("two_b",))
    nodes = {node.name: list(node.input) for node in placed.graph.node}
    assert nodes["two_b"][1:] == ["two_b_w", "two_b_b"]
    assert {"two_b_w", "two_b_b"} <= {tensor.name for tensor in placed.graph.initializer}
    (token,) = as_on_a_device(placed).run(["face_token"], {"frame": frames})
    (wanted,) = open_with_outputs(network, [], 1).run(["face_token"], {"frame": frames})
    assert np.square(token - wanted).sum() < 3e-3 * np.square(wanted).sum()


@given(st.data())
def test_blocks_of_pixels_as_channels_give_what_the_picture_gives(data: st.DataObject) -> None:
    draw = data.draw
    channels, stride = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    taps = [draw(st.integers(1, 7)) for _ in range(2)]
    pads = [draw(st.integers(0, tap - 1)) for _ in range(2) for tap in taps]
    sides = [stride * draw(st.integers(-(-tap // stride), 5)) for tap in taps]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    make = GraphMaker()
    weight = make.constant("weight", rng.normal(0, 1, (5, channels, *taps)).astype(np.float32))
    make.node("Conv", ["frame", weight], "conv", pads=pads, strides=[stride] * 2)
    model = make.model({"frame": ["batch", channels, *sides]}, {"out": "conv_out"})
    frame = rng.normal(0, 1, (2, channels, *sides)).astype(np.float32)
    (wanted,) = as_on_a_device(model).run(None, {"frame": frame})
    made = in_blocks(model, ["conv"])
    onnx.checker.check_model(model, full_check=True)
    (found,) = as_on_a_device(model).run(None, {"frame": frame})
    assert np.allclose(found, wanted, atol=1e-5)
    if all(tap >= stride for tap in taps) and not any(pads[2:]):
        assert made == {"frame": "frame/blocks"}


@pytest.mark.parametrize(("channels", "taps", "stride", "blocks"), [(3, 7, 2, 4), (4, 5, 4, 2)])
def test_the_first_layers_of_our_encoders_take_blocks(channels: int, taps: int, stride: int, blocks: int) -> None:
    make = GraphMaker()
    make.conv("frame", "stem", channels, 16, taps, stride)
    model = make.model({"frame": ["batch", channels, 112, 112]}, {"out": "stem_out"})
    assert in_blocks(model, ["stem"]) == {"frame": "frame/blocks"}
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "stem_w")
    assert list(weight.dims) == [16, channels * stride**2, blocks, blocks]


def drawn_convolution(
    draw: Any, channels: int, taps: Sequence[int], sides: Sequence[int], **said: Any
) -> tuple[str, Any, np.ndarray]:
    """A convolution inside of a graph, perhaps with a bias and a ReLU: what ends it, the graph, and a frame for it."""
    relu, bias = draw(st.booleans()), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    make = GraphMaker()
    constants = [make.constant("weight", rng.normal(0, 1, (5, channels, *taps)).astype(np.float32))]
    if bias:
        constants.append(make.constant("bias", rng.normal(0, 1, 5).astype(np.float32)))
    name = make.node("Conv", ["frame", *constants], "conv", **said)
    if relu:
        name = make.node("Relu", [name], "relu")
    make.node("Sigmoid", [name], "squash")
    model = make.model({"frame": ["batch", channels, *sides]}, {"out": "squash_out"})
    return name, model, rng.normal(0, 1, (3, channels, *sides)).astype(np.float32)


@given(st.data())
def test_strips_of_a_row_as_channels_give_what_the_picture_gives(data: st.DataObject) -> None:
    draw = data.draw
    channels, rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 11))
    left = draw(st.integers(0, columns - 1))
    pads = [draw(st.integers(0, rows - 1)), left, draw(st.integers(0, rows - 1)), columns - 1 - left]
    height, width = draw(st.integers(rows, 6)), draw(st.sampled_from([4, 6, 8, 12]))
    name, model, frame = drawn_convolution(draw, channels, (rows, columns), (height, width), pads=pads)
    (wanted,) = as_on_a_device(model).run(None, {"frame": frame})
    made = in_strips(model, ["conv"])
    onnx.checker.check_model(model, full_check=True)
    (found,) = as_on_a_device(model).run(None, {"frame": frame})
    assert np.allclose(found, wanted, atol=1e-5)
    assert bool(made) == (channels <= 4 and width % 4 == 0 and columns > 1)
    assert {made.get(f"{name}/strips", name)} == {name}


def test_strips_stay_integers_on_both_sides(tmp_path: Path) -> None:
    make = GraphMaker()
    make.conv("frame", "stem", 1, 8, 3)
    make.node("Relu", ["stem_out"], "active")
    make.conv("active_out", "next", 8, 8, 3)
    model = make.model({"frame": ["batch", 1, 16, 16]}, {"out": "next_out"})
    frames = np.random.default_rng(0).normal(0, 1, (4, 1, 16, 16)).astype(np.float32)
    placed = placed_of(model, frames)
    (found,) = as_on_a_device(placed, tmp_path / "optimised.onnx").run(None, {"frame": frames})
    (wanted,) = as_on_a_device(model).run(None, {"frame": frames})
    assert np.square(found - wanted).sum() < 3e-3 * np.square(wanted).sum()
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    assert Counter(node.op_type for node in nodes)["QuantizeLinear"] == 1
    stem, after = (node for node in nodes if node.op_type == "QLinearConv")
    makers = {name: node for node in nodes for name in node.output}
    assert makers[after.input[0]].op_type == "Reshape"
    assert makers[makers[after.input[0]].input[0]] is stem, "no byte moves between the two"


@given(st.data())
def test_a_matrix_product_gives_what_the_convolution_gives(data: st.DataObject) -> None:
    draw = data.draw
    channels, taps = draw(st.integers(1, 4)), [draw(st.integers(1, 4)) for _ in range(2)]
    pads = [draw(st.integers(0, tap - 1)) for _ in range(2) for tap in taps]
    strides = [draw(st.integers(1, 3)) for _ in range(2)]
    sides = [draw(st.integers(tap, 6)) for tap in taps]
    _, model, frame = drawn_convolution(draw, channels, taps, sides, pads=pads, strides=strides)
    (wanted,) = as_on_a_device(model).run(None, {"frame": frame})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewrites_cpu, "_LARGE_WEIGHT", 1)
        patch.setattr(rewrites_cpu, "_FEW_PIXELS", 100)
        made = as_products(model, ["conv"])
    onnx.checker.check_model(model, full_check=True)
    (found,) = as_on_a_device(model).run(None, {"frame": frame})
    assert np.allclose(found, wanted, atol=1e-5)
    assert bool(made) == (taps != [1, 1])


def test_a_product_stays_in_integers_with_its_padding(tmp_path: Path) -> None:
    make = GraphMaker()
    make.conv("frame", "first", 8, 8, 3)
    make.node("Relu", ["first_out"], "active")
    make.conv("active_out", "second", 8, 8, 3)
    model = make.model({"frame": ["batch", 8, 4, 4]}, {"out": "second_out"})
    frames = np.random.default_rng(0).normal(0.5, 1, (4, 8, 4, 4)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewrites_cpu, "_LARGE_WEIGHT", 1)
        placed = placed_of(model, frames)
    (found,) = as_on_a_device(placed, tmp_path / "optimised.onnx").run(None, {"frame": frames})
    (wanted,) = as_on_a_device(model).run(None, {"frame": frames})
    assert np.square(found - wanted).sum() < 3e-3 * np.square(wanted).sum()
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert (kinds["QGemm"], kinds["QLinearConv"], kinds["Pad"]) == (1, 1, 1)
    assert (kinds["QuantizeLinear"], kinds["DequantizeLinear"]) == (1, 1)
