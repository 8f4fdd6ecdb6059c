"""Recorded sessions: replayed bit for bit, after a kill up to the last whole chunk, never wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="mcap is not installed")

from emert_edge import Recognizer
from emert_edge.bundle import packaged_dir, write_bundle
from emert_edge.errors import BundleIncompatible, EmertError, SourceError
from emert_edge.estimate import Estimate
from emert_edge.eye import GazeSamples
from emert_edge.recording import Recording
from emert_edge.simulation import SimulatedSession

S = 1_000_000_000


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(device="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def simulated() -> SimulatedSession:
    return SimulatedSession.from_seed(5, duration_s=6.0, fps=8.0)


@pytest.fixture(scope="module")
def recorded(recognizer: Recognizer, simulated: SimulatedSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "session.mcap"
    list(recognizer.run(simulated.face_source(), simulated.gaze, record=path))
    return path


def scenes(seconds: float) -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(1)
    return [
        (rng.integers(0, 256, (36, 64, 3), dtype=np.uint8), number * S // 5) for number in range(round(5 * seconds))
    ]


def lines(estimates: list[Estimate]) -> list[str]:
    return [estimate.to_json() for estimate in estimates]


def topics(path: Path) -> dict[str, int]:
    """Numbers of messages by topic, as mcap's own reader sees them."""
    from mcap.reader import make_reader

    with path.open("rb") as file:
        summary = make_reader(file, validate_crcs=True).get_summary()
        assert summary is not None
        assert summary.statistics is not None
        counts = {summary.channels[number].topic: n for number, n in summary.statistics.channel_message_counts.items()}
        for schema in summary.schemas.values():
            assert schema.encoding == "jsonschema"
            assert json.loads(schema.data)["type"] == "object"
        file.seek(0)
        times = [message.log_time for _, _, message in make_reader(file, validate_crcs=True).iter_messages()]
    assert len(times) == sum(counts.values())
    assert abs(times[0] / 1e9 - time.time()) < 3600
    return counts


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("stride_s", [None, 0.25])
def test_a_run_is_replayed_bit_for_bit(
    recognizer: Recognizer, simulated: SimulatedSession, tmp_path: Path, frames: bool, stride_s: float | None
) -> None:
    path = tmp_path / "session.mcap"
    given: dict[str, Any] = {"stride_s": stride_s, "gaze_offset_ms": -40}
    before = list(recognizer.run(simulated.face_source(), simulated.gaze, **given, record=path, record_frames=frames))
    assert len(before) >= 8
    assert any(estimate.face is not None for estimate in before)
    assert lines(list(recognizer.run(session=path))) == lines(before)
    assert lines(list(recognizer.run(str(path)))) == lines(before)
    counts = topics(path)
    assert counts["/estimate"] == counts["/window"] == len(before)
    assert ("/face/image" in counts) is frames
    assert ("/face" in counts) is not frames
    recording = Recording(path)
    kept = [message for topic, message in recording.messages() if topic == "/estimate"]
    assert kept == [json.loads(line) for line in lines(before)]
    assert not recording.truncated
    assert recording.facts["bundle"] == before[0].model


def test_a_pushed_session_is_replayed_with_all_that_happened_to_it(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "pushed.mcap"
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    before: list[Estimate] = []
    with recognizer.session(clock="lab", record=path, record_frames=True) as session:
        session.set_clock_offset("tracker", 10 * S)
        for begin in (0, 1):
            for tick in range(30):
                t_ns = tick * S // 10
                session.push_face(image[:, ::-1], t_ns, color="rgb")
                if tick % 3 == 0 and begin:
                    session.push_scene(image, t_ns, space="screen")
                own = np.arange(tick * 6, tick * 6 + 6) * S // 60
                clock = ("tracker", "unknown")[tick > 20 and not begin]
                session.push_gaze(
                    GazeSamples(
                        t_ns=own - 10 * S * (clock == "tracker"), x=np.full(6, 0.4), y=np.linspace(0, 1, 6),
                        pupil_left=np.full(6, 3.0), clock=clock, pupil_unit="mm", space="screen", size_px=(64, 48),
                    )
                )  # fmt: skip
                before += session.estimates()
                if tick == 25:
                    session.push_gaze(GazeSamples(t_ns=[1, 2], x=[0, 0], y=[0, 0]))  # late
                    session._count_lost(frames=2, samples=3)
            session.finish()
            before += session.estimates()
            if not begin:
                session.reset()
    assert any("clock_unsynchronised" in estimate.quality.degraded for estimate in before)
    assert any(estimate.quality.late_samples == 5 for estimate in before)
    assert lines(list(recognizer.run(session=path))) == lines(before)


def test_a_live_session_is_replayed_bit_for_bit_but_for_its_latency(recognizer: Recognizer, tmp_path: Path) -> None:
    simulated = SimulatedSession.from_seed(6, duration_s=3.2, fps=10.0)
    path = tmp_path / "live.mcap"
    stream = recognizer.live(simulated.face_source(), simulated.gaze, policy="block", record=path)
    before = [{**estimate.to_dict(), "latency_ms": None} for estimate in stream]
    assert len(before) >= 3
    assert [estimate.to_dict() for estimate in recognizer.run(session=path)] == before


def test_a_recorded_session_is_played_at_its_own_pace(
    recognizer: Recognizer, recorded: Path, simulated: SimulatedSession
) -> None:
    before = [estimate.to_dict() for estimate in recognizer.run(session=recorded)]
    first_s = sum(before[0]["window_s"]) / 2  # it was due when half of its window had been seen
    begun = time.monotonic()
    with recognizer.live(session=recorded) as stream:
        played = []
        for estimate in stream:
            assert time.monotonic() - begun >= estimate.time_s - first_s - 0.1  # not before its time
            assert estimate.latency_ms is not None
            played.append({**estimate.to_dict(), "latency_ms": None})
            if len(played) == 3:
                stream.stop()
    assert played == before[:3]


def test_gaze_alone_and_scenes_are_recorded(
    recognizer: Recognizer, tmp_path: Path, simulated: SimulatedSession
) -> None:
    alone = tmp_path / "gaze.mcap"
    before = list(recognizer.run(gaze=simulated.gaze, record=alone))
    assert lines(list(recognizer.run(session=alone))) == lines(before)
    assert "/face" not in topics(alone)
    seen = tmp_path / "scenes.mcap"
    with recognizer.session(record=seen) as session:
        for image, t_ns in scenes(4):
            session.push_scene(image, t_ns, space="screen")
        session.push_gaze(simulated.gaze.shifted(-int(simulated.gaze.t_ns[0])))
        session.finish()
        before = session.estimates()
    assert "no_scene" not in before[-1].quality.degraded
    assert lines(list(recognizer.run(session=seen))) == lines(before)
    assert "/scene/image" not in topics(seen)


def test_without_being_told_to_no_picture_is_kept(recorded: Path) -> None:
    from mcap.reader import make_reader

    with recorded.open("rb") as file:
        for _, channel, message in make_reader(file).iter_messages():
            assert not channel.topic.endswith("image")
            assert b"iVBORw0KGgo" not in message.data  # how a PNG begins, in base64
            if channel.topic == "/face":
                assert set(json.loads(message.data)) == {"t_ns", "width", "height", "color", "space"}


def test_other_bundles_and_strides_need_the_frames(
    recognizer: Recognizer, simulated: SimulatedSession, recorded: Path, tmp_path: Path
) -> None:
    from emert_edge.bundle import Bundle

    packaged = Bundle.open(packaged_dir() / "emert-demo")
    manifest = packaged.manifest.model_copy(update={"version": "other"})
    write_bundle(tmp_path / "other", manifest, {name: packaged.read(name) for name in (*manifest.files, manifest.card)})
    kept = tmp_path / "kept.mcap"
    list(recognizer.run(simulated.face_source(), simulated.gaze, record=kept, record_frames=True))
    straight = list(recognizer.run(simulated.face_source(), simulated.gaze, stride_s=1.0))
    assert lines(list(recognizer.run(session=kept, stride_s=1.0))) == lines(straight)
    with pytest.raises(BundleIncompatible, match="with another stride, whose frames were not kept"):
        recognizer.run(session=recorded, stride_s=1.0)
    with Recognizer(tmp_path / "other", device="cpu") as other:
        with pytest.raises(BundleIncompatible, match="whose frames were not kept"):
            other.run(session=recorded)
        again = list(other.run(session=kept))
    assert [estimate.t_ns for estimate in again] == [estimate.t_ns for estimate in recognizer.run(session=kept)]


def prefix(recognizer: Recognizer, path: Path, whole: list[str]) -> int:
    """How many estimates a damaged file gives: the first ones of the whole file's, or an error that names the file."""
    found: list[str] = []
    told = path.name
    try:
        found.extend(estimate.to_json() for estimate in recognizer.run(session=path))
    except EmertError as error:
        told = str(error)
    assert path.name in told
    assert found == whole[: len(found)]
    return len(found)


def test_a_file_that_was_cut_off_anywhere_gives_what_came_before(
    recognizer: Recognizer, recorded: Path, tmp_path: Path
) -> None:
    whole = lines(list(recognizer.run(session=recorded)))
    content = recorded.read_bytes()
    cut = tmp_path / "cut.mcap"
    numbers = []
    for size in [*range(64), *np.linspace(64, len(content), 60).astype(int).tolist()]:
        cut.write_bytes(content[:size])
        numbers.append(prefix(recognizer, cut, whole))
    assert numbers[0] == 0
    assert numbers[-1] == len(whole)
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 3


def test_a_damaged_file_is_an_error_with_the_byte_and_never_a_wrong_estimate(
    recognizer: Recognizer, recorded: Path, tmp_path: Path
) -> None:
    whole = lines(list(recognizer.run(session=recorded)))
    content = recorded.read_bytes()
    flipped = tmp_path / "flipped.mcap"
    rng = random.Random(4)
    for _ in range(80):
        place = rng.randrange(len(content))
        flipped.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :])
        prefix(recognizer, flipped, whole)
    middle = len(content) // 4
    flipped.write_bytes(content[:middle] + b"\x00" * 64 + content[middle + 64 :])
    with pytest.raises(SourceError, match=r"flipped.mcap, byte \d+: "):
        list(recognizer.run(session=flipped))


CHILD = """
import sys
from emert_edge import Recognizer
from emert_edge.simulation import SimulatedSession

simulated = SimulatedSession.from_seed(7, duration_s=30.0, fps=10.0)
with Recognizer(device="cpu", threads=1) as recognizer:
    for estimate in recognizer.run(simulated.face_source(), simulated.gaze, record=sys.argv[1]):
        print(estimate.to_json(), flush=True)
"""


@pytest.mark.parametrize("after", [1, 9, 23])
def test_a_killed_recording_is_replayed_to_its_last_whole_chunk(
    recognizer: Recognizer, tmp_path: Path, after: int
) -> None:
    path = tmp_path / "killed.mcap"
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [process.stdout.readline().rstrip("\n") for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    recording = Recording(path)
    again = lines(list(recognizer.run(session=path)))
    list(recording.messages())
    assert recording.truncated
    both = min(len(told), len(again))
    assert told[:both] == again[:both]
    assert len(again) >= after - 8  # a chunk holds a few seconds


def test_a_full_disk_is_told_and_what_was_written_can_be_replayed(recognizer: Recognizer, tmp_path: Path) -> None:
    full = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
"""
    path = tmp_path / "full.mcap"
    done = subprocess.run(
        [sys.executable, "-c", full + CHILD, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "EmertError" in done.stderr
    assert "full.mcap: the recording broke off: File too large" in done.stderr
    again = lines(list(recognizer.run(session=path)))
    assert again
    told = done.stdout.splitlines()
    both = min(len(told), len(again))
    assert told[:both] == again[:both]


def test_the_gaze_of_an_xdf_recording_is_a_session_too(recognizer: Recognizer, tmp_path: Path) -> None:
    pytest.importorskip("pyxdf", reason="pyxdf is not installed")
    sys.path.insert(0, str(Path(__file__).parents[1]))
    try:
        from sources.made_gaze import xdf
    finally:
        sys.path.pop(0)
    times = 100 + np.arange(600) / 120
    stream = {
        "name": "Tracker", "type": "Gaze", "rate": 120, "times": times, "values": np.full((600, 2), 0.5),
        "channels": [("x", "ScreenX", "both", "normalized"), ("y", "ScreenY", "both", "normalized")],
    }  # fmt: skip
    path = tmp_path / "lab.xdf"
    path.write_bytes(xdf(stream))
    alone = list(recognizer.run(gaze=path))
    assert alone[-1].quality.gaze > 0.9
    assert lines(list(recognizer.run(session=path))) == lines(alone)
    with pytest.raises(ValueError, match="no other gaze"):
        recognizer.run(gaze=path, session=path)
    simulated = SimulatedSession.from_seed(5, duration_s=3.0, fps=4.0)
    assert any(estimate.face is not None for estimate in recognizer.run(simulated.face_source(), session=path))


def test_what_cannot_be_is_refused(recognizer: Recognizer, recorded: Path, tmp_path: Path) -> None:
    content = recorded.read_bytes()
    with pytest.raises(FileExistsError, match="never replaces"):
        recognizer.session(record=recorded)
    assert recorded.read_bytes() == content
    with pytest.raises(FileNotFoundError):
        recognizer.session(record=tmp_path / "nowhere" / "x.mcap")
    missing = tmp_path / "new.mcap"
    with pytest.raises(ValueError, match="stride_s"):
        recognizer.session(stride_s=0.01, record=missing)
    assert not missing.exists()
    with pytest.raises(ValueError, match="nothing else can be given"):
        recognizer.run(gaze=GazeSamples(t_ns=[1]), session=recorded)
    with pytest.raises(ValueError, match="nothing else can be given"):
        recognizer.live(gaze=GazeSamples(t_ns=[1]), session=recorded)
    with pytest.raises(SourceError, match="check the path"):
        recognizer.run(session=tmp_path / "nothing.mcap")
    from mcap.writer import Writer

    other = tmp_path / "robot.mcap"
    with other.open("wb") as file:
        writer = Writer(file)
        writer.start()
        writer.finish()
    with pytest.raises(SourceError, match="no session that emert_edge recorded"):
        recognizer.run(session=other)


def test_the_command_line_records_and_replays(recorded: Path, tmp_path: Path) -> None:
    def emert(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "emert_edge", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    simulated = SimulatedSession.from_seed(9, duration_s=4.0, fps=5.0)
    table = tmp_path / "gaze.csv"
    rows = zip(simulated.gaze.t_ns.tolist(), simulated.gaze.x.tolist(), simulated.gaze.y.tolist(), strict=True)
    table.write_text("t_ns,x,y\n" + "".join(f"{t},{x},{y}\n" for t, x, y in rows))
    out, first, second = tmp_path / "out.mcap", tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert emert("run", "--gaze", str(table), "--jsonl", str(first)).returncode == 0
    done = emert("record", "--gaze", str(table), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert emert("run", "--session", str(out), "--jsonl", str(second)).returncode == 0
    assert first.read_bytes() == second.read_bytes()
    again = emert("record", "--gaze", str(table), "--out", str(out))
    assert again.returncode == 1
    assert "never replaces" in again.stderr
    assert emert("record", "--out", str(tmp_path / "empty.mcap")).returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_leaves_a_whole_file(tmp_path: Path, recognizer: Recognizer) -> None:
    table = tmp_path / "gaze.csv"
    table.write_text("t_ns,x,y\n" + "".join(f"{number * 10_000_000},0.5,0.5\n" for number in range(6000)))
    out = tmp_path / "out.mcap"
    process = subprocess.Popen(
        [sys.executable, "-m", "emert_edge", "record", "--live", "--gaze", str(table), "--out", str(out)],
        stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (out.exists() and out.stat().st_size > 4000):
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    recording = Recording(out)
    list(recording.messages())
    assert not recording.truncated
    assert list(recognizer.run(session=out))
