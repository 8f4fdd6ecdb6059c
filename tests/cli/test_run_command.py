"""`emert-edge run`: lines out, one clear line on failure, nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

KEYS = [
    "time_s",
    "t_ns",
    "window_s",
    "sequence",
    "face",
    "emotion",
    "expression",
    "gap",
    "reactions",
    "quality",
    "latency_ms",
    "model",
]


def clip(shared_data: Path) -> Path:
    return shared_data / "face_clips_pyfeat" / "single_face.mp4"


def tobii(shared_data: Path) -> Path:
    return next((shared_data / "tobii_prolab_ivt").glob("*.tsv"))


def failed(done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """Return the one line of a failure."""
    assert done.returncode == status, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("emert-edge: ")
    assert "Traceback" not in done.stderr
    return lines[-1]


def test_a_recording_becomes_lines_and_the_same_bytes_each_time(emert: Run, shared_data: Path, tmp_path: Path) -> None:
    for out in ("a.jsonl", "b.jsonl"):
        done = emert("run", "--face", clip(shared_data), "--gaze", tobii(shared_data), "--jsonl", out)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines
    assert [list(line) for line in lines] == [KEYS] * len(lines)
    assert [line["time_s"] for line in lines] == sorted(line["time_s"] for line in lines)
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "b.jsonl"]


def test_lines_go_to_standard_output_and_nothing_else_does(emert: Run, shared_data: Path) -> None:
    done = emert("run", "--face", clip(shared_data), "--jsonl", "-")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["sequence"] for line in done.stdout.splitlines()] == [0]
    assert "1 estimate in" in done.stderr


def test_a_live_run_appends_lines_and_ends_after_its_duration(emert: Run, shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("{}\n")
    long = shared_data / "face_clips_pyfeat" / "WolfgangLanger_Pexels.mp4"
    done = emert("run", "--face", long, "--live", "--duration", "3.2", "--jsonl", "out.jsonl")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[0] == {}
    assert len(lines) >= 2
    assert all(line["latency_ms"] > 0 for line in lines[1:])


def test_ctrl_c_publishes_the_whole_lines_so_far(command: list[str], shared_data: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    still = shared_data / "face_clips_pyfeat" / "single_face.jpg"
    for index in range(3000):  # long enough to be interrupted
        os.link(still, frames / f"{index}.jpg") if index and _same_device(still, frames) else shutil.copy(
            still, frames / f"{index}.jpg"
        )
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen(
        [*command, "run", "--face", str(frames), "--jsonl", str(out)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(
        part.stat().st_size > 0 for part in tmp_path.glob(".out.jsonl.*.part")
    ):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    assert not out.exists()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    lines = out.read_text()
    assert lines.endswith("\n")
    assert all(json.loads(line)["model"] for line in lines.splitlines())
    assert not list(tmp_path.glob(".out.jsonl.*"))


def _same_device(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev and os.access(one, os.W_OK)


# -- bad input: one clear line, exit status 1, nothing half-written ---------------------------------------------------


@pytest.fixture
def refused(emert: Run, tmp_path: Path, shared_data: Path):  # type: ignore[no-untyped-def]
    """Run something that must fail, and return its one line; nothing may be left behind."""

    def run(*arguments: str | Path, status: int = 1) -> str:
        before = sorted(os.listdir(tmp_path))
        line = failed(emert("run", *arguments, "--jsonl", "out.jsonl"), status)
        assert sorted(os.listdir(tmp_path)) == before
        return line

    return run


def test_a_missing_path(refused, shared_data: Path) -> None:  # type: ignore[no-untyped-def]
    assert "nowhere.mp4" in refused("--face", "nowhere.mp4")
    assert "nowhere.tsv" in refused("--face", clip(shared_data), "--gaze", "nowhere.tsv")
    assert "nobody" in refused("--face", clip(shared_data), "--bundle", "nobody")


def test_a_text_file_as_video(refused, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    assert "text.mp4" in refused("--face", "text.mp4")


def test_a_truncated_video(refused, tmp_path: Path, shared_data: Path) -> None:  # type: ignore[no-untyped-def]
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "whole.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, (320, 240))
    image = cv2.resize(cv2.imread(str(shared_data / "face_clips_pyfeat" / "single_face.jpg")), (320, 240))
    for _ in range(150):
        writer.write(image)
    writer.release()
    whole = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    assert "cut.avi" in refused("--face", "cut.avi")
    (tmp_path / "cut.mp4").write_bytes(clip(shared_data).read_bytes()[:-40_000])
    assert "cut.mp4" in refused("--face", "cut.mp4")


def test_a_folder_without_images(refused, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("--face", "empty")


def test_gaze_files_that_are_none(refused, tmp_path: Path, shared_data: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty.tsv").write_text("")
    assert "empty.tsv" in refused("--gaze", "empty.tsv")
    (tmp_path / "other.tsv").write_text("name\tage\nAlex\t33\n")
    assert "other.tsv" in refused("--gaze", "other.tsv")
    assert "tobii" in refused("--gaze", shared_data / "pupil_core_export" / "gaze_positions.csv", "--gaze-format",
                              "tobii_pro_lab").lower()  # fmt: skip


def test_times_in_the_wrong_unit(refused, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = "\n".join(f"{index * 4},0.5,0.5" for index in range(500))  # milliseconds, declared as seconds
    (tmp_path / "plain.csv").write_text(f"time,gx,gy\n{rows}\n")
    columns = {"t_ns": {"column": "time", "unit": "s"}, "x": "gx", "y": "gy"}
    (tmp_path / "columns.json").write_text(json.dumps(columns))
    line = refused("--gaze", "plain.csv", "--gaze-columns", "columns.json")
    assert "plain.csv" in line
    assert "milliseconds" in line


def test_a_corrupted_bundle(refused, tmp_path: Path, shared_data: Path) -> None:  # type: ignore[no-untyped-def]
    from emert_edge.bundle import packaged_dir

    shutil.copytree(packaged_dir() / "emert-demo", tmp_path / "damaged")
    graph = tmp_path / "damaged" / "head.fp32.onnx"  # which every precision on a CPU but FP16 loads
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    assert graph.name in refused("--face", clip(shared_data), "--bundle", "./damaged")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root to become another user")
def test_no_permission_to_read(command: list[str], tmp_path: Path, shared_data: Path) -> None:
    secret = tmp_path / "secret.tsv"
    shutil.copy(tobii(shared_data), secret)
    secret.chmod(0)
    tmp_path.chmod(0o777)
    line = failed(_as_nobody(command, "run", "--gaze", str(secret), "--jsonl", str(tmp_path / "out.jsonl")))
    assert "secret.tsv" in line
    assert "permission" in line.lower()
    video = tmp_path / "secret.mp4"
    shutil.copy(clip(shared_data), video)
    video.chmod(0)
    line = failed(_as_nobody(command, "run", "--face", str(video), "--jsonl", str(tmp_path / "out.jsonl")))
    assert "permission" in line.lower()
    assert not (tmp_path / "out.jsonl").exists()


def _as_nobody(command: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run([*other, *command, *arguments], capture_output=True, text=True, check=False, timeout=120)
    if "ModuleNotFoundError" in done.stderr or "Permission denied: '/root" in done.stderr or done.returncode == 127:
        pytest.skip("this interpreter cannot be started by another user")
    return done


@pytest.mark.parametrize("delay_s", [0.05, 0.2, 0.4, 0.7])
def test_ctrl_c_while_the_program_loads_is_as_quiet_as_later(
    command: list[str], shared_data: Path, tmp_path: Path, delay_s: float
) -> None:
    long = shared_data / "face_clips_pyfeat" / "WolfgangLanger_Pexels.mp4"
    begun = tmp_path / "begun"
    # Python's own start, and that of the package's name, are nobody's to catch: the clock begins where `main` does.
    code = command[-1].replace("main()", f"open({str(begun)!r}, 'w').close(); main()")
    process = subprocess.Popen(
        [*command[:-1], code, "run", "--face", str(long), "--live", "--jsonl", "-"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not begun.exists():
        time.sleep(0.005)
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors


def test_sigterm_clears_away_what_was_written_aside(command: list[str], shared_data: Path, tmp_path: Path) -> None:
    long = shared_data / "face_clips_pyfeat" / "WolfgangLanger_Pexels.mp4"
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen([*command, "run", "--face", str(long), "--jsonl", str(out)], stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".out.jsonl.*")) and process.poll() is None:
        time.sleep(0.005)
    process.terminate()
    process.wait(30)
    assert not list(tmp_path.glob(".out.jsonl.*"))


def test_a_link_stays_a_link(emert: Run, shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    assert emert("run", "--face", clip(shared_data), "--jsonl", "link.jsonl").returncode == 0
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "real.jsonl").read_text().count("\n") == 1


def test_an_output_never_replaces_an_input(emert: Run, shared_data: Path, tmp_path: Path) -> None:
    shutil.copy(clip(shared_data), tmp_path / "clip.mp4")
    shutil.copy(tobii(shared_data), tmp_path / "gaze.tsv")
    for arguments in (
        ("run", "--face", "clip.mp4", "--gaze", "gaze.tsv", "--jsonl", "gaze.tsv"),
        ("run", "--face", "clip.mp4", "--jsonl", "./clip.mp4"),
        ("gaze", "features", "gaze.tsv", "--out", "gaze.tsv"),
        ("gaze", "map", "gaze.tsv", "--out", "gaze.tsv"),
    ):
        assert "is an input" in failed(emert(*arguments))
    assert (tmp_path / "clip.mp4").read_bytes() == clip(shared_data).read_bytes()
    assert (tmp_path / "gaze.tsv").read_bytes() == tobii(shared_data).read_bytes()


def test_a_full_disk(emert: Run, shared_data: Path, tmp_path: Path) -> None:
    line = failed(emert("run", "--face", clip(shared_data), "--jsonl", "/dev/full"))
    assert line == "emert-edge: /dev/full: No space left on device"
    assert Path("/dev/full").is_char_device()
    line = failed(emert("run", "--face", clip(shared_data), "--jsonl", "no/such/folder/out.jsonl"))
    assert "no/such/folder" in line


def test_wrong_usage_is_status_two(emert: Run, shared_data: Path) -> None:
    for arguments in (
        ["run"],
        ["run", "--jsonl", "-"],
        ["run", "--face", "x", "--jsonl", "-", "--device", "gpu"],
        ["run", "--face", "x", "--jsonl", "-", "--precision", "fp8"],
        ["run", "--face", "x", "--jsonl", "-", "--align", "middle"],
        ["run", "--face", str(clip(shared_data)), "--jsonl", "-", "--duration", "3"],
        ["fly"],
        ["--nonsense"],
    ):
        done = emert(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_device_that_is_not_there_is_refused_with_its_reason(refused, shared_data: Path) -> None:  # type: ignore[no-untyped-def]
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver")
    for device in ("cuda", "tensorrt", "cuda:1"):
        line = refused("--face", clip(shared_data), "--device", device)
        assert device in line
        assert "driver" in line


def test_debug_shows_the_traceback(emert: Run) -> None:
    done = emert("run", "--face", "nowhere.mp4", "--jsonl", "-", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
