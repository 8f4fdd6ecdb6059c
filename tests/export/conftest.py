"""One thread for torch, no graph exported twice, and Triton's schema."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks: several threads would only wait for each other, for minutes on a busy machine."""
    torch = pytest.importorskip("torch", reason="exporting needs the extra `export`")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def graphs_kept() -> Iterator[None]:
    """Hand out a graph again where the same module with the same weights is exported anew; its checks are run anew."""
    pytest.importorskip("onnxslim", reason="exporting needs the extra `export`")
    from emert_edge.export import graphs

    real, kept = graphs._exported, {}

    def exported(role: Any, spec: Any) -> bytes:
        said = hashlib.sha256(repr((role, spec.module, dict(spec.inputs), list(spec.outputs))).encode())
        for name, value in spec.module.state_dict().items():
            said.update(name.encode() + value.numpy().tobytes())
        key = said.hexdigest()
        if key not in kept:
            kept[key] = real(role, spec)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "_exported", exported)
        yield


@pytest.fixture(scope="session")
def schema() -> Any:
    """Triton's published schema of config.pbtxt, out of its client; the client's own imports are not needed."""
    pytest.importorskip("google.protobuf", reason="Triton's schema needs protobuf")
    client = importlib.util.find_spec("tritonclient")
    if client is None or not client.submodule_search_locations:
        pytest.skip("Triton's schema comes with tritonclient, which is not installed (extra `test`)")
    file = Path(client.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("triton_model_config", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
