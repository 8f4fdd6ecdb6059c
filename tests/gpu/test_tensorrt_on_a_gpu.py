"""TensorRT for real: skipped, with the reason, where it is not. Builds engines, which takes minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emert_edge.bundle import open_bundle
from emert_edge.engines import open_engines
from emert_edge.engines.device import tensorrt_way


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Any:
    way, fault = tensorrt_way()
    if way != "bindings":
        pytest.skip(f"TensorRT's own bindings cannot run here: {fault or 'only ONNX Runtime has TensorRT'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMERT_EDGE_HOME", str(tmp_path_factory.mktemp("home")))
        opened = open_engines(open_bundle(), device="tensorrt", precision="fp32")
        yield opened
        opened.close()


def test_engines_give_what_onnx_runtime_gives_on_the_cpu(engines: Any) -> None:
    reference = open_engines(open_bundle(), device="cpu", precision="fp32")
    rng = np.random.default_rng(0)
    for engine, expected in zip(engines.all(), reference.all(), strict=True):
        for batch in (1, 3, 8, 3, 1):  # the second run of a batch replays its graph
            for name, buffer in engine.inputs.items():
                values = np.ones(buffer.shape) if name.endswith("_mask") else rng.standard_normal(buffer.shape)
                buffer[:] = expected.inputs[name][:] = values
            engine.run(batch)
            expected.run(batch)
            for name, values in expected.outputs.items():
                np.testing.assert_allclose(engine.outputs[name][:batch], values[:batch], rtol=1e-3, atol=1e-3)


def test_cuda_graphs_were_captured(engines: Any) -> None:
    for engine in engines.all():
        engine.run(1)
        assert any(note.startswith("CUDA graph for batches of") for note in engine.describe().notes)


def test_engines_are_found_in_the_cache_and_auto_takes_them(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import emert_edge.engines.provision as provision

    def forbidden(*arguments: Any, **options: Any) -> None:
        raise AssertionError("an engine that lies in the cache was built again")

    monkeypatch.setattr(provision, "build_engine", forbidden)
    found = open_engines(open_bundle(), precision="fp32")
    assert found.device.kind == "tensorrt"
    found.close()
    assert Path(provision.EngineCache().folder).is_dir()
