"""How a user's word for a source of frames becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from emert_edge.errors import FrameSourceError
from emert_edge.sources import open_frames
from emert_edge.sources.images import ImageFolderSource
from emert_edge.sources.video import VideoFileSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 8, 3), np.uint8))
    return tmp_path


def test_a_folder_and_a_file_are_told_apart(folder: Path, shared_data: Path) -> None:
    assert isinstance(open_frames(folder), ImageFolderSource)
    assert isinstance(open_frames(str(folder)), ImageFolderSource)
    assert isinstance(open_frames(folder / "1.png"), ImageFolderSource)
    assert isinstance(open_frames(shared_data / "face_clips_pyfeat" / "single_face.mp4"), VideoFileSource)
    assert isinstance(
        open_frames(shared_data / "face_clips_intel" / "head-pose-face-detection-female.gif"), VideoFileSource
    )


def test_a_source_is_passed_through(folder: Path) -> None:
    source = open_frames(folder)
    assert open_frames(source) is source


@pytest.mark.parametrize("name", ["missing.mp4", "missing.gif", "missing.png", "missing"])
def test_a_missing_path_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(FrameSourceError, match=f"no such file or folder: {tmp_path / name}"):
        open_frames(tmp_path / name)


@pytest.mark.parametrize("name", ["camera:", "camera:x", "camera:-1", "camera:1.5"])
def test_a_camera_goes_by_its_number(name: str) -> None:
    with pytest.raises(FrameSourceError, match="camera:0"):
        open_frames(name)


@pytest.mark.parametrize("address", ["http://127.0.0.1/clip.mp4", "ftp://127.0.0.1/clip.mp4", "udp://127.0.0.1:1"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(FrameSourceError, match="addresses are not read"):
        open_frames(address)


@pytest.mark.parametrize("source", [None, True, 1.5, b"clip.mp4", ["clip.mp4"], object()])
def test_what_names_no_source_is_a_type_error(source: Any) -> None:
    with pytest.raises(TypeError, match="source"):
        open_frames(source)


def test_a_negative_number_is_no_camera() -> None:
    with pytest.raises(ValueError, match="number"):
        open_frames(-1)
