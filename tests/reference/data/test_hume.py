"""The layout of Hume-Reaction, made: videos and cropped frames, sound beside them or in them, and what can be wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile", reason="sound is read with soundfile, of the extra `train`")

from emert_edge.errors import EmertError  # noqa: E402
from emert_edge.reference.data import hume  # noqa: E402
from emert_edge.reference.data.hume import load_hume, read_hume_table  # noqa: E402
from emert_edge.reference.data.log_mel import log_mel, read_sound_track  # noqa: E402
from emert_edge.reference.reactions import REACTIONS, HumeData, ReactionConfig  # noqa: E402
from emert_edge.simulation import render_face  # noqa: E402

CONFIG = ReactionConfig(size=(32, 32), frames=4, spans=2, span_frames=50, mel_bins=32)
HEARING = replace(CONFIG, audio=True)

HEADER = "File_ID," + ",".join(REACTIONS) + ",Split"
ROWS = [
    "[00001],0.1,0.2,0.3,0.4,0.5,0.6,0.7,Train",
    "[00002],0.0,1.0,0.0,0.0,0.0,0.0,0.0,Train",
    "[00003],0.7,0.6,0.5,0.4,0.3,0.2,0.1,Val",
    "[00004],,,,,,,,Test",
]


def write_video(path: Path, count: int = 12, *, empty: bool = False) -> None:
    """A drawn face that walks through a room, or the room alone."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (160, 120))
    room = render_face(size=(120, 160), pose=(0, 5, 1, 0)).image
    for index in range(count):
        face = render_face("happiness", size=(120, 160), pose=(0.01 * index, 0, 1.3, 0)).image
        writer.write(room if empty else face)
    writer.release()


def write_tone(path: Path, hertz: float, seconds: float = 1.2, rate: int = 22050) -> None:
    tone = 0.2 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.stack([tone, tone], 1), rate)


@pytest.fixture
def layout(tmp_path: Path, frame_folder: Callable[[Path, int], Path]) -> Path:
    """Two videos and two folders of frames, each with its sound, as the owners give them."""
    media = tmp_path / "media"
    (media / "Train").mkdir(parents=True)
    write_video(media / "Train" / "00001.mp4")
    write_video(media / "00002.mp4")
    frame_folder(media / "00003", 9)
    frame_folder(media / "00004", 3)
    for number, row in enumerate(ROWS, start=1):
        write_tone(media / f"0000{number}.wav", 300.0 * number)
        assert row.startswith(f"[0000{number}]")
    (tmp_path / "data_info.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    return tmp_path


def source_of(layout: Path, **settings: Any) -> HumeData:
    return HumeData(kind="hume", table=layout / "data_info.csv", media=layout / "media", detector="auto", **settings)


def rewrite(layout: Path, rows: Sequence[str], header: str = HEADER) -> Path:
    (layout / "data_info.csv").write_text("\n".join([header, *rows]) + "\n")
    return layout / "data_info.csv"


def test_the_real_layout_passes_with_videos_frames_and_sound(layout: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    splits = load_hume(source_of(layout), HEARING, tmp_path / "cache", lines.append)
    assert {name: clips.ids for name, clips in splits.items()} == {
        "train": ("00001", "00002"), "val": ("00003",), "test": ("00004",)
    }  # fmt: skip
    assert splits["train"].intensities[0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert np.isnan(splits["test"].intensities).all()
    assert lines[-1] == "clips: 4/4"
    videos = splits["train"][np.array([1, 0])]
    assert videos.frames.shape == (2, 4, 3, 32, 32)
    assert videos.frame_mask.all()
    assert videos.frames.std() > 20
    frames = splits["val"][np.array([0])]
    assert frames.frame_mask.all()
    # Nine frames, each brighter by one than the one before it: the middles of four quarters are 1, 3, 5, 7.
    means = frames.frames[0].astype(float).mean((1, 2, 3))
    assert np.diff(means).tolist() == pytest.approx([2.0, 2.0, 2.0], abs=0.4)
    few = splits["test"][np.array([0])]
    assert few.frame_mask.tolist() == [[True, True, True, False]]
    assert videos.audio is not None
    assert videos.audio_mask is not None
    assert videos.audio_mask.all()
    for clips, hertz in ((videos.audio[0], 600.0), (videos.audio[1], 300.0)):
        tone = log_mel(np.sin(2 * np.pi * hertz * np.arange(8000) / 16000).astype(np.float32), 32)
        assert clips[0].astype(float).mean(1).argmax() == tone[:, 20].argmax()


def test_a_video_is_cropped_to_its_face_and_can_be_taken_whole(layout: Path, tmp_path: Path) -> None:
    rewrite(layout, [ROWS[0]])
    found = load_hume(source_of(layout), CONFIG, tmp_path / "cache")["train"][np.array([0])]
    whole_source = source_of(layout).model_copy(update={"detector": "whole"})
    whole = load_hume(whole_source, CONFIG, tmp_path / "cache")["train"][np.array([0])]
    # Of the whole picture, wider than high, the square has repeated edges above and below; the face fills its crop.
    assert whole.frame_mask.all()
    assert np.abs(whole.frames[..., 0, :].astype(int) - whole.frames[..., 2, :]).mean() < 2
    assert np.abs(found.frames[..., 0, :].astype(int) - found.frames[..., 2, :]).mean() > 2


def test_a_clip_is_decoded_once_and_anew_when_its_file_changed(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    real = hume.open_frames
    monkeypatch.setattr(hume, "open_frames", lambda path: decoded.append(str(path)) or real(path))
    rewrite(layout, ROWS[:2])
    first = load_hume(source_of(layout), CONFIG, tmp_path / "cache")["train"][np.arange(2)]
    assert len(decoded) == 2
    again = load_hume(source_of(layout), CONFIG, tmp_path / "cache")["train"][np.arange(2)]
    assert len(decoded) == 2
    assert np.array_equal(first.frames, again.frames)
    os.utime(layout / "media" / "00002.mp4", ns=(1, 1))
    load_hume(source_of(layout), CONFIG, tmp_path / "cache")
    assert decoded[2:] == [str(layout / "media" / "00002.mp4")]
    load_hume(source_of(layout), replace(CONFIG, frames=3), tmp_path / "cache")
    assert len(decoded) == 5
    assert not list((tmp_path / "cache").glob("*.part"))


def test_the_header_may_stand_in_another_order_and_case(layout: Path) -> None:
    table = rewrite(
        layout,
        ["train;7;.7;.1;.2;.3;.4;.5;.6"],
        "SPLIT;file_id;surprise;adoration;AMUSEMENT;Anxiety;disgust;Empathic Pain;fear",
    )
    (clip,) = read_hume_table(table)
    assert (clip.id, clip.split) == ("7", "train")
    assert clip.intensities == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("5,0.1,1.2,0.3,0.4,0.5,0.6,0.7,Train", "line 3, column 'Amusement': 1.2 lies outside [0, 1]"),
        ("5,0.1,0.2,0.3,much,0.5,0.6,0.7,Train", "line 3, column 'Disgust': 'much' is not a number"),
        ("5,0.1,0.2,0.3,nan,0.5,0.6,0.7,Train", "line 3, column 'Disgust': 'nan' is not a number"),
        ("5,0.1,0.2,0.3,0.4,,0.6,0.7,Val", "line 3, column 'Empathic-Pain': is empty"),
        ("5,,,,,,,,Val", "line 3, column 'Adoration': is empty"),
        ("5,0.1,0.2,0.3,0.4,0.5,0.6,,Test", "line 3, column 'Surprise': is empty"),
        ("5,0.1,0.2,0.3,0.4,0.5,0.6,0.7,Holdout", "line 3, column 'Split': 'Holdout' is no split"),
        (",0.1,0.2,0.3,0.4,0.5,0.6,0.7,Val", "line 3, column 'File_ID': is empty"),
        ("00001,0.1,0.2,0.3,0.4,0.5,0.6,0.7,Val", "line 3, column 'File_ID': '00001' stands twice"),
    ],
)
def test_what_is_wrong_with_a_row_is_named_by_line_and_column(layout: Path, row: str, told: str) -> None:
    table = rewrite(layout, [ROWS[0], row])
    with pytest.raises(EmertError) as raised:
        read_hume_table(table)
    assert told in str(raised.value)
    assert str(raised.value).startswith(f"{table}: ")


def test_a_missing_table_column_or_clip_is_named(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(EmertError, match=r"absent\.csv: there is no such table"):
        read_hume_table(tmp_path / "absent.csv")
    with pytest.raises(EmertError, match="column 'Fear' is missing"):
        read_hume_table(rewrite(layout, ["1,0,0,0,0,0,0,Train"], HEADER.replace("Fear,", "")))
    rewrite(layout, [ROWS[0], ROWS[1].replace("00002", "00009")])
    with pytest.raises(EmertError, match=r"line 3, column 'File_ID': neither a video 00009\.mp4 nor a folder 00009"):
        load_hume(source_of(layout), CONFIG, tmp_path / "cache")
    nowhere = source_of(layout).model_copy(update={"media": tmp_path / "nowhere"})
    with pytest.raises(EmertError, match="nowhere: there is no such folder"):
        load_hume(nowhere, CONFIG, tmp_path / "cache")


def test_a_broken_video_and_a_broken_sound_are_named_together(layout: Path, tmp_path: Path) -> None:
    (layout / "media" / "00002.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(40))
    (layout / "media" / "00003.wav").write_bytes(b"no sound")
    with pytest.raises(EmertError, match=r"line 3: .*00002\.mp4.*line 4: .*00003\.wav: not a sound that can be read"):
        load_hume(source_of(layout), HEARING, tmp_path / "cache")


def test_frames_without_a_sound_are_refused_only_where_it_is_heard(layout: Path, tmp_path: Path) -> None:
    (layout / "media" / "00003.wav").unlink()
    with pytest.raises(EmertError, match=r"line 4, column 'File_ID': no sound 00003\.wav"):
        load_hume(source_of(layout), HEARING, tmp_path / "cache")
    load_hume(source_of(layout), CONFIG, tmp_path / "cache")


def test_a_clip_without_a_face_is_masked_and_counted(layout: Path, tmp_path: Path) -> None:
    write_video(layout / "media" / "00002.mp4", empty=True)
    lines: list[str] = []
    splits = load_hume(source_of(layout), CONFIG, tmp_path / "cache", lines.append)
    assert splits["train"][np.arange(2)].frame_mask.any(1).tolist() == [True, False]
    assert lines[-1].startswith("clips: no face was found in 1 of 4")


@pytest.fixture
def video_with_sound(tmp_path: Path) -> Path:
    """Half a second of pictures and two of a tone in one file."""
    av = pytest.importorskip("av", reason="sound tracks are read with PyAV")
    path = tmp_path / "talking.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=44100, layout="mono")
        for index in range(5):
            picture = np.full((48, 64, 3), 40 * index, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(video.encode())
        tone = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(88200) / 44100)).astype(np.float32)
        for start in range(0, len(tone), 1024):
            part = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            part.sample_rate, part.pts = 44100, start
            container.mux(sound.encode(part))
        container.mux(sound.encode())
    return path


def test_a_videos_own_sound_track_is_heard(video_with_sound: Path) -> None:
    sound = read_sound_track(video_with_sound)
    assert len(sound) / 16000 == pytest.approx(2.0, abs=0.1)
    spectrum = np.abs(np.fft.rfft(sound[8000:24000]))
    assert spectrum.argmax() == pytest.approx(1000, abs=2)


def test_a_video_without_sound_and_a_missing_pyav_are_said(layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    with pytest.raises(EmertError, match=r"00002\.mp4: has no sound track"):
        read_sound_track(layout / "media" / "00002.mp4")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(EmertError, match="PyAV, which is not installed"):
        read_sound_track(layout / "media" / "00002.mp4")
