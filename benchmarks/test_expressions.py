"""Expressions from single pictures: the packaged bundle through `Recognizer().expressions`, mini-XCEPTION beside it.

Both see the same pictures in the same run: FER2013's public test, from which neither learnt. Outside the timing:
reading and decoding the archive. Inside: each one's own preprocessing (ours resamples by area and normalises, the
peer's resizes to 64 × 64) and the model. One thread each.
"""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from emert_edge import Recognizer

NAMES = {"angry": "anger", "happy": "happiness", "sad": "sadness"}
PEER = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

Images = list[npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def pictures(shared_data: Path) -> tuple[Images, list[str]]:
    archive = shared_data / "fer2013_faces" / "fer2013_publictest.tar.gz"
    if not archive.exists():
        pytest.skip(f"{archive} is absent")
    images, labels = [], []
    with tarfile.open(archive) as held:
        for member in held:
            if member.isfile():
                handle = held.extractfile(member)
                assert handle is not None
                image = cv2.imdecode(np.frombuffer(handle.read(), np.uint8), cv2.IMREAD_COLOR)
                images.append(np.asarray(image, np.uint8))
                folder = member.name.split("/")[-2]
                labels.append(NAMES.get(folder, folder))
    return images, labels


def peer(file: Path) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """mini-XCEPTION as its authors run it: one grey picture of 64 × 64 in [-1, 1] at a time."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="mini-XCEPTION needs ai-edge-litert")
    if not file.exists():
        pytest.skip(f"{file} is absent")
    model = litert.Interpreter(model_path=str(file), num_threads=1)
    model.allocate_tensors()
    taken, given = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]

    def classify(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (64, 64)).astype(np.float32)
        model.set_tensor(taken, ((grey / 255 - 0.5) * 2)[None, :, :, None])
        model.invoke()
        return np.asarray(model.get_tensor(given)[0], np.float32)

    return classify


def scores(truth: list[str], said: list[str]) -> tuple[float, float]:
    right = np.array(truth) == np.array(said)
    return float(right.mean()), float(np.mean([right[np.array(truth) == name].mean() for name in sorted(set(truth))]))


def test_expressions_of_fer2013(benchmark: Any, pictures: tuple[Images, list[str]], shared_data: Path) -> None:
    images, labels = pictures
    classify = peer(shared_data.parent / "models" / "fer_mini_xception" / "emotion_model_quantized.tflite")
    with Recognizer(device="cpu", threads=1) as recognizer:
        classes = recognizer.bundle.manifest.labels.expression
        assert classes is not None
        recognizer.warmup()
        # Alternating, one picture at a time, so that a busy moment of the machine meets both.
        ours, theirs, mine, other = [], [], [], []
        for image in images:
            begin = time.perf_counter()
            mine.append(classes[int(recognizer.expressions([image])[0].argmax())])
            middle = time.perf_counter()
            other.append(PEER[int(classify(image).argmax())])
            theirs.append(time.perf_counter() - middle)
            ours.append(middle - begin)
        begin = time.perf_counter()
        batched = [classes[row] for row in recognizer.expressions(images).argmax(1)]
        spent = time.perf_counter() - begin
        benchmark(recognizer.expressions, images[:8])
    assert batched == mine
    for name, (accuracy, recall) in (("ours", scores(labels, mine)), ("mini-XCEPTION", scores(labels, other))):
        benchmark.extra_info[f"{name} accuracy"] = round(accuracy, 4)
        benchmark.extra_info[f"{name} UAR"] = round(recall, 4)
    for name, times in (("ours", ours), ("mini-XCEPTION", theirs)):
        p50, p99 = np.percentile(times, (50, 99)) * 1000
        benchmark.extra_info[f"{name} ms a picture, p50 / p99"] = f"{p50:.2f} / {p99:.2f}"
    benchmark.extra_info["ours ms a picture in batches"] = round(spent / len(images) * 1000, 2)
