"""Small bundles, and a cache that is no user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from emert_edge.bundle import Bundle


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of this test's own that stands for the user's."""
    monkeypatch.setenv("EMERT_EDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle of two small graphs in FP32, FP16 and INT8."""
    pytest.importorskip("onnx", reason="making small graphs needs onnx")
    from .small_bundle import write_small_bundle

    return write_small_bundle(tmp_path_factory.mktemp("small") / "small", ("fp32", "fp16", "int8"))
