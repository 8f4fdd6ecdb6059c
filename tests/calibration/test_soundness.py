"""Samples that cannot be right are told by their likely cause; sound ones, and real ones, pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="calibrating needs the extra `export`")
pytest.importorskip("torch", reason="calibrating needs the extra `train`")

from emert_edge.calibration.ranges import BINS, Histogram
from emert_edge.calibration.soundness import picture_faults, unlike_samples

from .conftest import Pictures


def test_drawn_faces_are_sound_in_colour_and_in_grey(faces: Pictures) -> None:
    images = [image for image, _ in faces]
    assert picture_faults(images) == []
    assert picture_faults([np.repeat(image[..., 1:2], 3, axis=2) for image in images]) == []


def test_real_faces_are_sound(shared_data: Path) -> None:
    import cv2

    clip = cv2.VideoCapture(str(shared_data / "face_clips_pyfeat" / "single_face.mp4"))
    frames = [frame for _ in range(20) if (frame := clip.read()[1]) is not None]
    clip.release()
    assert len(frames) == 20
    assert picture_faults(frames) == []


def test_black_frames_copies_and_exchanged_colours_are_named(faces: Pictures) -> None:
    images = [image for image, _ in faces]
    rng = np.random.default_rng(0)
    black = [rng.integers(0, 4, image.shape).astype(np.uint8) for image in images]
    assert ["no content" in fault for fault in picture_faults(black)] == [True]
    assert ["no content" in fault for fault in picture_faults(images[:90] + black[:10])] == [True]
    assert ["copies" in fault for fault in picture_faults([images[0]] * 64)] == [True]
    assert ["exchanged" in fault for fault in picture_faults([image[..., ::-1] for image in images])] == [True]


def test_noise_hides_neither_darkness_nor_copies(faces: Pictures) -> None:
    rng = np.random.default_rng(0)
    image = faces[0][0].astype(int)
    dark = [np.clip(rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8) for _ in range(64)]
    assert ["no content" in fault for fault in picture_faults(dark)] == [True]
    copies = [np.clip(image + rng.integers(-2, 3, image.shape), 0, 255).astype(np.uint8) for _ in range(64)]
    assert ["copies" in fault for fault in picture_faults(copies)] == [True]


def test_activations_beyond_their_ranges_are_named() -> None:
    values = np.random.default_rng(0).normal(0, 1, 100_000)
    limit = float(np.abs(values).max())
    counts, _ = np.histogram(values, 2 * BINS, range=(-limit, limit))
    seen = {"relu": Histogram(float(values.min()), float(values.max()), counts)}
    assert unlike_samples({"relu": (-3.0, 3.0)}, seen) is None
    said = unlike_samples({"relu": (-1.0, 1.0)}, seen)
    assert said is not None
    assert "32% of the values of relu" in said
