"""The packaged bundle's INT8 graphs on real faces: each sixth picture of FER2013's public test, beside FP32.

The evidence in the manifest is of all 3589; this holds the very files against it in a few seconds.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="calibrating needs the extra `export`")
pytest.importorskip("torch", reason="calibrating needs the extra `train`")

from emert_edge.calibration import lint_tensorrt  # noqa: E402
from emert_edge.calibration.candidate import CandidateBundle, open_candidate, open_precision  # noqa: E402
from emert_edge.calibration.data import Pictures, read_data  # noqa: E402
from emert_edge.calibration.gate import compare  # noqa: E402
from emert_edge.calibration.probes import Answers, answers_of  # noqa: E402

from emert_edge.bundle import Bundle, packaged_dir  # noqa: E402
from emert_edge.reference.data.faces import folder_pictures  # noqa: E402

NAMES = {"angry": "anger", "happy": "happiness", "sad": "sadness"}


@pytest.fixture(scope="module")
def packaged() -> Bundle:
    return Bundle.open(packaged_dir() / "emert-demo")


@pytest.fixture(scope="module")
def public(packaged: Bundle, shared_data: Path) -> Pictures:
    archive = shared_data / "fer2013_faces" / "fer2013_publictest.tar.gz"
    if not archive.is_file():
        pytest.skip(f"{archive} is absent")
    classes = packaged.manifest.labels.expression
    assert classes is not None
    pictures = list(folder_pictures(archive, classes, names=NAMES))[::6]
    data = read_data(pictures, packaged.manifest, most=len(pictures), seed=0)
    assert isinstance(data, Pictures)
    return data


@pytest.fixture(scope="module")
def reference(packaged: Bundle, public: Pictures) -> Answers:
    with closing(open_precision(packaged, "fp32", 1)) as engines:
        return answers_of(public, packaged, engines)[0]


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_int8_answers_as_fp32_does(packaged: Bundle, public: Pictures, reference: Answers, target: str) -> None:
    graph = packaged.graph("face_encoder", "int8", target)  # type: ignore[arg-type]
    assert graph.precision == "int8"
    candidate = CandidateBundle(packaged, {"face_encoder": packaged.read(graph.file)})
    with closing(open_candidate(candidate, target, 1)) as engines:
        (answers,) = answers_of(public, candidate, engines)
    found = compare(reference, answers, packaged.manifest.labels.expression or ())
    assert found.agreement >= 0.98
    # A picture of the rarest class counts 1.6 points of UAR among so few.
    assert found.uar is not None
    assert found.fp32_uar is not None
    assert found.fp32_uar - found.uar <= 0.02


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_the_evidence_is_of_the_whole_public_test_and_within_half_a_point(packaged: Bundle, target: str) -> None:
    (found,) = (one for one in packaged.manifest.evidence if (one.precision, one.target) == ("int8", target))
    assert (found.samples, found.labelled, found.accepted) == (3589, True, True)
    for figure in ("accuracy", "uar"):
        assert found.figures[f"fp32_{figure}"] - found.figures[figure] <= 0.005


def test_the_files_are_small_and_keep_tensorrts_rules(packaged: Bundle) -> None:
    fp32 = packaged.manifest.files[packaged.graph("face_encoder", "fp32", "cpu").file].size
    for target in ("cpu", "tensorrt"):
        graph = packaged.graph("face_encoder", "int8", target)  # type: ignore[arg-type]
        assert packaged.manifest.files[graph.file].size <= 0.3 * fp32
    board = packaged.read(packaged.graph("face_encoder", "int8", "tensorrt").file)
    assert lint_tensorrt(onnx.load_from_string(board)) == ()
