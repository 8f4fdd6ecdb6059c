"""One thread for torch, and no graph exported twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
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
