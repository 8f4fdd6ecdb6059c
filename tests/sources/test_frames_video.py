"""Video files and animated GIFs: the container's times, the same frames every time, and no silence about damage."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from emert_edge.errors import FrameSourceError
from emert_edge.sources import Frame, FrameSource, open_frames
from emert_edge.sources.video import VideoFileSource, cut_off


@pytest.fixture(scope="session")
def clips(shared_data: Path) -> Path:
    return shared_data / "face_clips_pyfeat"


def drawn(index: int, rows: int = 120, columns: int = 160) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A picture that no other index has."""
    frame = np.full((rows, columns, 3), 40, np.uint8)
    frame[10:50, 3 * index : 3 * index + 20] = (200, 120, 60)
    frame[rows // 2 :] = np.random.default_rng(index).integers(0, 256, (rows - rows // 2, columns, 3), np.uint8)
    return frame


def write_video(path: Path, code: str, frames: int = 40, fps: float = 25.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), fps, (160, 120))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {code} into {path.suffix}")
    for index in range(frames):
        writer.write(drawn(index))
    writer.release()
    return path


def moov_first(mp4: bytes) -> bytes:
    """Put an MP4's table of frames before its frames, as for streaming, so that a cut spares it."""
    boxes: list[tuple[bytes, bytes]] = []
    offset = 0
    while offset < len(mp4):
        length, kind = struct.unpack(">I4s", mp4[offset : offset + 8])
        boxes.append((kind, mp4[offset : offset + length]))
        offset += length
    moov = bytearray(dict(boxes)[b"moov"])
    table = moov.find(b"stco")
    while table >= 0:
        (entries,) = struct.unpack(">I", moov[table + 8 : table + 12])
        for place in range(table + 12, table + 12 + 4 * entries, 4):
            (old,) = struct.unpack(">I", moov[place : place + 4])
            moov[place : place + 4] = struct.pack(">I", old + len(moov))
        table = moov.find(b"stco", table + 4)
    kinds = [kind for kind, _ in boxes]
    assert kinds.index(b"mdat") < kinds.index(b"moov")
    rest = [(kind, box) for kind, box in boxes if kind != b"moov"]
    return b"".join(bytes(moov) + box if kind == b"mdat" else box for kind, box in rest)


@pytest.mark.parametrize(
    ("clip", "size", "declared", "delivered", "last_s"),
    [
        ("face_clips_pyfeat/single_face.mp4", (640, 360), 72, 72, 2.3667),
        ("face_clips_pyfeat/WolfgangLanger_Pexels.mp4", (640, 360), 472, 472, 19.6446),
        ("face_clips_pyfeat/face_noface.mov", (960, 540), 169, 169, 6.3604),
        ("face_clips_pyfeat/no_face.mp4", (960, 540), 98, 95, 3.9167),
        ("face_clips_intel/head-pose-face-detection-female.gif", (480, 270), 23, 23, 1.83),
        ("face_clips_intel/face-demographics-walking.gif", (480, 270), 35, 35, 2.83),
    ],
)
def test_a_real_clip_gives_all_its_frames_at_the_containers_times(
    shared_data: Path, clip: str, size: tuple[int, int], declared: int, delivered: int, last_s: float
) -> None:
    source = open_frames(shared_data / clip)
    assert isinstance(source, FrameSource)
    assert (source.live, source.clock, source.name) == (False, f"file:{Path(clip).name}", Path(clip).name)
    assert source.size == size
    assert source.expected_frames == declared
    times = []
    for index, frame in enumerate(source.frames()):
        assert frame.sequence == index
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (size[1], size[0], 3)
        times.append(frame.t_ns)
    assert len(times) == delivered
    assert times[0] == 0
    assert all(isinstance(t_ns, int) for t_ns in times)
    assert times[-1] / 1e9 == pytest.approx(last_s, abs=1e-3)
    assert (np.diff(times) > 0).all()


def test_times_follow_a_varying_frame_rate(clips: Path) -> None:
    times = [frame.t_ns for frame in open_frames(clips / "face_noface.mov").frames()]
    steps = np.diff(times) / 1e6
    assert steps.min() < 15
    assert steps.max() > 40


def test_gif_times_are_the_sum_of_its_delays(shared_data: Path) -> None:
    path = shared_data / "face_clips_intel" / "face-demographics-walking.gif"
    data = path.read_bytes()
    delays = []
    at = data.find(b"\x21\xf9\x04")  # a graphic control extension stands before every picture
    while at >= 0:
        if data[at + 7] == 0:
            delays.append(struct.unpack("<H", data[at + 4 : at + 6])[0] * 10)
        at = data.find(b"\x21\xf9\x04", at + 8)
    times = [frame.t_ns // 1_000_000 for frame in open_frames(path).frames()]
    assert times == [0, *np.cumsum(delays)[:-1].tolist()]


def test_a_second_reading_is_the_same(clips: Path) -> None:
    def digest(source: FrameSource) -> str:
        found = hashlib.sha256()
        for frame in source.frames():
            found.update(f"{frame.sequence} {frame.t_ns}".encode())
            found.update(frame.image.tobytes())
        return found.hexdigest()

    source = open_frames(clips / "single_face.mp4")
    first = digest(source)
    assert digest(source) == first
    assert digest(open_frames(str(clips / "single_face.mp4"))) == first


def test_a_frame_owns_its_picture(tmp_path: Path) -> None:
    source = open_frames(write_video(tmp_path / "clip.avi", "MJPG"))
    kept = list(source.frames())
    for frame, again in zip(kept, source.frames(), strict=True):
        np.testing.assert_array_equal(frame.image, again.image)
    assert not np.array_equal(kept[0].image, kept[1].image)
    kept[0].image[:] = 0  # it is the caller's


def test_close_ends_the_frames(tmp_path: Path) -> None:
    source = open_frames(write_video(tmp_path / "clip.avi", "MJPG"))
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []
    assert list(source.frames()) == []


class Fake:
    """A capture with the times that a test gives it."""

    def __init__(self, times_ms: list[float], fps: float) -> None:
        self.times_ms, self.fps, self.at = times_ms, fps, -1

    def read(self) -> tuple[bool, np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None]:
        self.at += 1
        return (True, drawn(self.at)) if self.at < len(self.times_ms) else (False, None)

    def get(self, what: int) -> float:
        assert what == cv2.CAP_PROP_POS_MSEC
        return self.times_ms[self.at]

    def release(self) -> None:
        pass


@pytest.mark.parametrize(
    ("times_ms", "expected_ms"),
    [
        ([0, 30, 75, 100], [0, 30, 75, 100]),
        ([0, 0, 0, 0], [0, 40, 80, 120]),
        ([float("nan")] * 3, [0, 40, 80]),
        ([-1, -1, -1], [0, 40, 80]),
        ([0, 30, 30, 60], [0, 30, 70, 110]),
        ([0, 30, 10, 20, 200], [0, 30, 70, 110, 200]),
        ([500, 540], [500, 540]),
    ],
)
def test_times_that_do_not_rise_are_replaced_by_the_frame_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times_ms: list[float], expected_ms: list[float]
) -> None:
    source = VideoFileSource(write_video(tmp_path / "clip.avi", "MJPG", frames=3))
    source.expected_frames = None
    monkeypatch.setattr(source, "_capture", lambda: Fake(times_ms, 25.0))
    assert [frame.t_ns / 1e6 for frame in source.frames()] == expected_ms


def _whole(data: bytes) -> bytes:
    return data


def _a_little_less(data: bytes) -> bytes:
    return data[: int(0.96 * len(data))]


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _half_empty(data: bytes) -> bytes:
    """As a download leaves it that reserved its space."""
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


@pytest.mark.parametrize("damage", [_half, _half_empty])
def test_a_streamable_video_that_is_cut_is_an_error_at_its_end(
    clips: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(damage(moov_first((clips / "single_face.mp4").read_bytes())))
    got: list[Frame] = []
    with pytest.raises(FrameSourceError, match=rf"{path} ends after \d+ of 72 declared frames"):
        got.extend(open_frames(path).frames())
    assert len(got) < 0.9 * 72


@pytest.mark.parametrize("damage", [_whole, _a_little_less])
def test_a_streamable_video_that_lacks_a_little_is_read(
    clips: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(damage(moov_first((clips / "single_face.mp4").read_bytes())))
    count = sum(1 for _ in open_frames(path).frames())
    assert 0.9 * 72 <= count <= 72


@pytest.mark.parametrize(
    ("suffix", "code"), [("avi", "MJPG"), ("avi", "XVID"), ("mkv", "MJPG"), ("mkv", "mp4v"), ("webm", "VP80")]
)
def test_other_containers_that_are_cut_are_errors_too(tmp_path: Path, suffix: str, code: str) -> None:
    path = write_video(tmp_path / f"clip.{suffix}", code)
    assert sum(1 for _ in open_frames(path).frames()) == 40
    path.write_bytes(_half(path.read_bytes()))
    with pytest.raises(FrameSourceError, match=str(path)):
        for _ in open_frames(path).frames():
            pass


@pytest.mark.parametrize("clip", ["single_face.mp4", "face_noface.mov"])
def test_a_video_whose_table_of_frames_is_cut_off_says_so(clips: Path, tmp_path: Path, clip: str) -> None:
    path = tmp_path / clip
    path.write_bytes(_half((clips / clip).read_bytes()))
    with pytest.raises(FrameSourceError, match=f"{path}.*cut off"):
        open_frames(path)


def test_a_gif_that_is_cut_is_an_error_at_its_end(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gif"
    path.write_bytes(_half((shared_data / "face_clips_intel" / "face-demographics-walking.gif").read_bytes()))
    with pytest.raises(FrameSourceError, match=f"{path}.*cut off"):
        for _ in open_frames(path).frames():
            pass


@pytest.mark.parametrize("clip", ["single_face.mp4", "no_face.mp4", "face_noface.mov", "WolfgangLanger_Pexels.mp4"])
def test_a_sound_file_is_not_called_cut_off(clips: Path, clip: str) -> None:
    assert cut_off(clips / clip) is None


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("text.mp4", b"Dear diary,\r\ntoday I was a video.\n" * 200, "text file"),
        ("utf8.mp4", "Größe: 5 µm, 日本\n".encode() * 999, "text file"),
        ("text.txt", b"an ANSI picture for FFmpeg\n", "text file"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/a.ts\n", "text file"),
        ("empty.mp4", b"", "empty"),
        ("noise.mp4", bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)), "not a video"),
        ("zeros.mp4", bytes(5000), "not a video"),
        ("short.mp4", b"\x00", "not a video"),
        ("head.mp4", struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 512), "not a video.*table of frames"),
    ],
)
def test_what_is_no_video_is_one_clear_line(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FrameSourceError, match=f"{path}.*{why}") as caught:
        open_frames(path)
    assert "\n" not in str(caught.value)


def test_opencv_and_ffmpeg_print_nothing_about_bad_files(clips: Path, tmp_path: Path) -> None:
    sound = moov_first((clips / "single_face.mp4").read_bytes())
    (tmp_path / "cut.mp4").write_bytes(_half(sound))
    (tmp_path / "half_empty.mp4").write_bytes(_half_empty(sound))
    (tmp_path / "no_table.mp4").write_bytes(_half((clips / "single_face.mp4").read_bytes()))
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    program = (
        "import pathlib, sys\n"
        "from emert_edge.errors import FrameSourceError\n"
        "from emert_edge.sources import open_frames\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try:\n"
        "        list(open_frames(path).frames())\n"
        "    except FrameSourceError:\n"
        "        print('refused')\n"
    )  # in a process of its own: FFmpeg's level is set once
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"] * 4
    assert done.stderr == ""


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.avi", "MJPG", frames=2)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything

        def refuse(self: Path, *arguments: object, **options: object) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FrameSourceError, match=f"{path} cannot be read: Permission denied"):
        open_frames(path)


def test_the_users_log_settings_are_left_as_they_were(tmp_path: Path) -> None:
    logging = getattr(cv2.utils, "logging", cv2)
    before = logging.getLogLevel()
    path = tmp_path / "noise.mp4"
    path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(FrameSourceError):
        open_frames(path)
    assert logging.getLogLevel() == before
    assert "OPENCV_FFMPEG_LOGLEVEL" not in os.environ


def test_ten_seconds_of_720p_stay_small(tmp_path: Path) -> None:
    path = tmp_path / "hd.mp4"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 30, (1280, 720))
    frame = cv2.resize(drawn(1), (1280, 720))
    for index in range(300):
        writer.write(np.roll(frame, index, axis=1))
    writer.release()
    program = (
        "import re, sys\n"
        "from emert_edge.sources import open_frames\n"
        "count = sum(1 for _ in open_frames(sys.argv[1]).frames())\n"
        "print(count, int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024)\n"
    )  # not ru_maxrss: a child begins with its parent's
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    count, peak_mb = map(int, done.stdout.split())
    assert count == 300
    assert peak_mb < 250  # of the 300 that a whole run may take
