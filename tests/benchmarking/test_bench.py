"""`emert-edge bench`: figures that belong together, and a board's state from its files; no test asserts a time."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emert_edge import Recognizer
from emert_edge.benchmarking import Board, measure
from emert_edge.benchmarking.board import parse_tegrastats

LINE = (
    "01-02-2026 10:11:12 RAM 2457/7620MB (lfb 9x4MB) SWAP 0/3810MB (cached 0MB) CPU [12%@1510,3%@1510,off,off] "
    "EMC_FREQ 2%@2133 GR3D_FREQ 61%@[624] NVDEC off cpu@48.187C soc2@46.5C tj@48.187C cv0@-256C "
    "VDD_IN 5012mW/4987mW VDD_CPU_GPU_CV 1013mW/1001mW VDD_SOC 1450mW/1448mW"
)


def board_of(root: Path) -> Board:
    """A Jetson's files, as its kernel writes them."""
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\x00",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
        "proc/meminfo": "MemTotal:        7802880 kB\nMemFree: 1 kB\n",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.0\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48187\n",
        "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "-256000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "729600\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "624750000\n",
        "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
        "sys/class/hwmon/hwmon1/in1_input": "5000\n",
        "sys/class/hwmon/hwmon1/curr1_input": "1002\n",
        "sys/class/hwmon/hwmon2/in1_label": "broken\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Board(root)


def test_a_jetsons_files_say_what_it_is_and_how_it_is(tmp_path: Path) -> None:
    board = board_of(tmp_path)
    about = board.describe()
    assert about["model"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert about["jetson_release"].startswith("# R36")
    assert (about["memory_mb"], about["governor"]) == (7620, "schedutil")
    assert board.state() == {
        "cpu_celsius": 48.187, "cpu_mhz": 1510.4, "gpu_mhz": 624.75, "VDD_IN_mw": pytest.approx(5010.0),
    }  # fmt: skip


def test_a_machine_without_such_files_says_nothing(tmp_path: Path) -> None:
    board = Board(tmp_path)
    assert board.state() == {}
    assert set(board.describe()) <= {"machine", "cores", "power_mode"}
    with board.watched() as states:
        pass
    assert states == []


def test_tegrastats_lines_are_read() -> None:
    assert parse_tegrastats(LINE) == {
        "ram_mb": 2457.0, "gpu_percent": 61.0, "cpu_celsius": 48.187, "soc2_celsius": 46.5, "tj_celsius": 48.187,
        "VDD_IN_mw": 5012.0, "VDD_CPU_GPU_CV_mw": 1013.0, "VDD_SOC_mw": 1450.0,
    }  # fmt: skip
    assert parse_tegrastats("nothing of the kind") == {}


def test_tegrastats_is_run_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (
        ("tegrastats", f"#!/bin/sh\nwhile true; do echo '{LINE}'; sleep 0.05; done\n"),
        ("nvpmodel", "#!/bin/sh\necho 'NV Power Mode: 15W'\necho 0\n"),
    ):
        tool = tools / name
        tool.write_text(text)
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    board = board_of(tmp_path / "root")
    assert board.describe()["power_mode"] == "15W"
    with board.watched() as states:
        deadline = time.monotonic() + 20
        while not states and time.monotonic() < deadline:
            time.sleep(0.05)
    assert states[0]["VDD_IN_mw"] == 5012.0
    assert states[0]["gpu_mhz"] == 624.75


def test_every_stage_an_estimate_streams_and_minutes_are_measured(tmp_path: Path) -> None:
    told: list[str] = []
    with Recognizer(device="cpu", threads=1) as recognizer:
        result = measure(
            recognizer, size=(320, 240), repeats=5, streams=(1, 3), minutes=0.02, board=board_of(tmp_path),
            report=told.append,
        )  # fmt: skip
        with pytest.raises(ValueError, match="repeats"):
            measure(recognizer, repeats=0)
    assert list(result["stages"]) == [
        "find the face", "crop", "face encoder", "4 eye tokens", "fixation map", "fusion with the scene",
        "fixation encoder", "head",
    ]  # fmt: skip
    timings = [*result["stages"].values(), result["estimate"], *result["streams"].values()]
    timings += result["running"]["minutes"]
    for one in timings:
        assert 0 < one["p50"] <= one["p90"] <= one["p99"]
    assert "pushing" in result["estimate"]["outside"]
    assert set(result["streams"]) == {"1", "3"}
    assert all(one["estimates_per_second"] > 0 for one in result["streams"].values())
    assert result["memory_mb"]["peak"] >= result["memory_mb"]["before"] > 10
    assert result["board"]["model"].startswith("NVIDIA Jetson")
    assert result["state"]["VDD_IN_mw"]["mean"] == pytest.approx(5010.0)
    assert told[0] == "each stage"
    json.dumps(result, allow_nan=False)


def test_the_command_compares_precisions_and_writes_json(tmp_path: Path) -> None:
    def emert(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "emert_edge", "bench", "--device", "cpu", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    out = tmp_path / "bench.json"
    small = ("--size", "320x240", "--repeats", "5", "--streams", "1")
    done = emert(*small, "--compare", "fp32", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    held = json.loads(out.read_text())
    assert held == json.loads(done.stdout)
    assert [one["what"]["precision"] for one in held] == ["int8", "fp32"]
    shown = emert(*small)
    assert "an estimate, end to end" in shown.stdout
    for wrong in (("--size", "big"), ("--streams", "0"), ("--streams", "a")):
        assert emert(*wrong).returncode == 2
