"""Folders of images: natural order, a constant rate, and every kind of picture as BGR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from emert_edge.errors import FrameSourceError
from emert_edge.sources import FrameSource, open_frames
from emert_edge.sources.images import ImageFolderSource

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def save(path: Path, image: Any = PICTURE) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def flat(value: int) -> Any:
    return np.full((8, 8, 3), value, np.uint8)


def test_images_come_in_natural_order_at_the_given_rate(tmp_path: Path) -> None:
    for value, name in enumerate(["a2.png", "frame1.png", "frame02.png", "Frame10.png", "frame100.png", "z.png"]):
        save(tmp_path / name, flat(10 * value))
    source = open_frames(tmp_path, fps=25.0)
    assert isinstance(source, FrameSource)
    assert (source.live, source.clock, source.name) == (False, f"file:{tmp_path.name}", tmp_path.name)
    assert source.expected_frames == 6
    assert source.size == (8, 8)
    frames = list(source.frames())
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 10, 20, 30, 40, 50]
    assert [frame.t_ns for frame in frames] == [0, 40_000_000, 80_000_000, 120_000_000, 160_000_000, 200_000_000]
    assert [frame.sequence for frame in frames] == list(range(6))


def test_without_a_rate_it_is_thirty(tmp_path: Path) -> None:
    for index in range(31):
        save(tmp_path / f"{index}.png")
    frames = list(ImageFolderSource(tmp_path).frames())
    assert frames[1].t_ns == 33_333_333
    assert frames[30].t_ns == 1_000_000_000


def test_other_files_are_left_out(tmp_path: Path) -> None:
    save(tmp_path / "1.png")
    save(tmp_path / "2.JPG")
    save(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "clip.gif").write_bytes(b"GIF89a")
    (tmp_path / "folder.png").mkdir()
    assert [file.name for file in ImageFolderSource(tmp_path).files] == ["1.png", "2.JPG"]


def test_a_second_reading_is_the_same(tmp_path: Path) -> None:
    for index in range(4):
        save(tmp_path / f"{index}.png", PICTURE + index)
    source = open_frames(tmp_path)
    for one, other in zip(source.frames(), source.frames(), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert (one.t_ns, one.sequence) == (other.t_ns, other.sequence)


GREY = PICTURE[..., 0]
SPREAD = np.repeat(GREY[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (PICTURE, PICTURE),
        (GREY, SPREAD),
        (np.dstack([PICTURE, 255 - GREY]), PICTURE),
        (PICTURE.astype(np.uint16) * 256 + 77, PICTURE),
        (GREY.astype(np.uint16) * 256 + 200, SPREAD),
    ],
    ids=["bgr", "grey", "bgra", "16 bit", "16 bit grey"],
)
def test_every_kind_of_picture_becomes_bgr_of_eight_bits(tmp_path: Path, stored: Any, expected: Any) -> None:
    save(tmp_path / "picture.png", stored)
    image = next(iter(open_frames(tmp_path).frames())).image
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def test_images_may_differ_in_size(tmp_path: Path) -> None:
    save(tmp_path / "1.png", flat(1))
    save(tmp_path / "2.png", PICTURE)
    source = open_frames(tmp_path)
    assert source.size == (8, 8)
    assert [frame.image.shape for frame in source.frames()] == [(8, 8, 3), (24, 32, 3)]


def test_one_image_is_a_clip_of_one_frame(shared_data: Path) -> None:
    source = open_frames(shared_data / "face_clips_pyfeat" / "single_face.jpg")
    (frame,) = source.frames()
    assert frame.image.shape == (562, 572, 3)
    assert frame.t_ns == 0
    assert source.size == (572, 562)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tiff"])
def test_a_damaged_image_is_named(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / f"1.{suffix}")
    damaged = save(tmp_path / f"2.{suffix}")
    damaged.write_bytes(damaged.read_bytes()[:100])
    source = open_frames(tmp_path)
    frames = source.frames()
    next(frames)
    with pytest.raises(FrameSourceError, match=str(damaged)):
        next(frames)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "empty"), (b"not a picture", "not an image"), (bytes(500), "not an image")]
)
def test_what_is_no_image_is_named_at_once(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(FrameSourceError, match=f"1.png.*{why}"):
        open_frames(tmp_path)


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(FrameSourceError, match=f"{tmp_path} is a folder without images"):
        open_frames(tmp_path)


def test_a_folder_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(FrameSourceError, match=f"{tmp_path} cannot be read: Permission denied"):
        open_frames(tmp_path)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_must_be_positive(tmp_path: Path, fps: float) -> None:
    save(tmp_path / "1.png")
    with pytest.raises(ValueError, match="fps"):
        open_frames(tmp_path, fps=fps)


def test_close_ends_the_frames(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / f"{index}.png")
    source = open_frames(tmp_path)
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []
