"""Small graphs made by hand, a bundle that may be changed, and pictures of drawn faces."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emert_edge.bundle import Bundle, packaged_dir, write_bundle

Pictures = list[tuple[np.ndarray, str]]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks: several threads would only wait for each other, for minutes on a busy machine."""
    torch = pytest.importorskip("torch", reason="calibrating needs the extra `train`")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def network() -> Any:
    """A small residual network in FP32."""
    from .graphs import residual_network

    return residual_network()


@pytest.fixture
def frames() -> np.ndarray:
    """Inputs of `network`."""
    return np.random.default_rng(1).normal(0, 1, (48, 3, 16, 16)).astype(np.float32)


@functools.cache
def drawn(count: int, seed: int) -> Pictures:
    """Faces drawn by the simulation, 48 × 48, BGR."""
    from emert_edge.bundle.manifest import FaceInput
    from emert_edge.reference.data.simulated import make_faces
    from emert_edge.simulation import EXPRESSIONS

    faces = make_faces(count, seed, "train", FaceInput(size=(48, 48), scale=1.12), EXPRESSIONS)
    return [
        (np.ascontiguousarray(crop[::-1].transpose(1, 2, 0)), EXPRESSIONS[label])
        for crop, label in zip(faces.crops, faces.labels, strict=True)
    ]


@pytest.fixture
def faces() -> Pictures:
    """Drawn faces and what they show: 48 × 48, BGR."""
    return drawn(126, 3)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The packaged bundle's FP32 graphs alone, in a folder."""
    packaged = Bundle.open(packaged_dir() / "emert-demo")
    graphs = tuple(graph for graph in packaged.manifest.graphs if graph.precision == "fp32")
    names = [graph.file for graph in graphs] + [packaged.manifest.card]
    manifest = packaged.manifest.model_copy(update={"graphs": graphs, "evidence": ()})
    return write_bundle(tmp_path / "copied", manifest, {name: packaged.read(name) for name in names})


@pytest.fixture(scope="session")
def patterns() -> list[np.ndarray]:
    """Grey pictures of 16 × 16 that differ: waves of drawn brightness, contrast and direction."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[0:16, 0:16]
    pictures = []
    for _ in range(200):
        wave = np.sin(rng.uniform(-1, 1) * rows + rng.uniform(-1, 1) * columns + rng.uniform(0, 6))
        grey = rng.uniform(60, 196) + rng.uniform(15, 60) * wave + rng.normal(0, 4, wave.shape)
        pictures.append(np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return pictures


@pytest.fixture(scope="session")
def small_files(patterns: list[np.ndarray]) -> tuple[Any, dict[str, bytes], list[str]]:
    """Manifest and files of a bundle around `residual_network`, quick to run, and what it says of `patterns`."""
    from .graphs import small_bundle

    return small_bundle(patterns)


@pytest.fixture
def small(small_files: tuple[Any, dict[str, bytes], list[str]], tmp_path: Path) -> Bundle:
    """A bundle around `residual_network`, in a folder."""
    manifest, files, _ = small_files
    return write_bundle(tmp_path / "small", manifest, files)


@pytest.fixture(scope="session")
def waves(patterns: list[np.ndarray], small_files: tuple[Any, dict[str, bytes], list[str]]) -> Pictures:
    """`patterns`, labelled by what the small bundle says in FP32, but for each fourth."""
    said = small_files[2]
    classes = sorted(set(said))
    return [
        (picture, label if number % 4 else classes[number % len(classes)])
        for number, (picture, label) in enumerate(zip(patterns, said, strict=True))
    ]
