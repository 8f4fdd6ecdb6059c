"""The board's own figures: power, clocks, temperatures and power mode, from the kernel's files and NVIDIA's tools.

Nothing here needs more than reading. What a machine doesn't have is left out.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Board", "parse_tegrastats"]

_FIELD = re.compile(
    r"RAM (?P<ram>\d+)/\d+MB|GR3D_FREQ (?P<gpu>\d+)%|(?P<zone>[\w-]+)@(?P<celsius>[\d.]+)C|"
    r"(?P<rail>(?:VDD|VIN|POM)\w*) (?P<now>\d+)(?:mW)?/(?P<mean>\d+)(?:mW)?"
)


def parse_tegrastats(line: str) -> dict[str, float]:
    """What one line of `tegrastats` says: MB of memory, % of the GPU, °C of each zone, mW of each rail.

    Examples
    --------
    >>> parse_tegrastats("RAM 2457/7620MB (lfb 9x4MB) GR3D_FREQ 61% cpu@48.2C VDD_IN 5012mW/4987mW")
    {'ram_mb': 2457.0, 'gpu_percent': 61.0, 'cpu_celsius': 48.2, 'VDD_IN_mw': 5012.0}
    """
    found: dict[str, float] = {}
    for match in _FIELD.finditer(line):
        if match["ram"]:
            found["ram_mb"] = float(match["ram"])
        elif match["gpu"]:
            found["gpu_percent"] = float(match["gpu"])
        elif match["zone"]:
            if float(match["celsius"]) > -200:  # what a sensor that is switched off says
                found[f"{match['zone'].lower()}_celsius"] = float(match["celsius"])
        else:
            found[f"{match['rail']}_mw"] = float(match["now"])
    return found


class Board:
    """The machine that a measurement runs on.

    Parameters
    ----------
    root : path
        Where its files lie; another one for tests.
    """

    def __init__(self, root: str | Path = "/") -> None:
        self._root = Path(root)

    def describe(self) -> dict[str, Any]:
        """Model, processor, cores, memory, power mode, release."""
        about = {
            "model": self._text("proc/device-tree/model"),
            "processor": self._processor(),
            "machine": platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_mb": self._memory_mb(),
            "jetson_release": self._text("etc/nv_tegra_release"),
            "power_mode": self._power_mode(),
            "governor": self._text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        }
        return {name: value for name, value in about.items() if value is not None}

    def state(self) -> dict[str, float]:
        """Temperatures in °C, clocks in MHz and power in mW, as they are now."""
        return {**self._temperatures(), **self._clocks(), **self._power()}

    @contextmanager
    def watched(self) -> Iterator[list[dict[str, float]]]:
        """Gather the state while something runs: once a second, and what `tegrastats` says where it is installed."""
        gathered: list[dict[str, float]] = []
        stopped = threading.Event()
        tool = shutil.which("tegrastats")
        process = None
        if tool is not None:
            process = subprocess.Popen([tool, "--interval", "1000"], stdout=subprocess.PIPE, text=True)

        def gather() -> None:
            if process is not None and process.stdout is not None:
                gathered.extend({**self.state(), **parse_tegrastats(line)} for line in process.stdout)
                return
            while True:
                if state := self.state():
                    gathered.append(state)
                if stopped.wait(1.0):
                    return

        thread = threading.Thread(target=gather, name="emert-board", daemon=True)
        thread.start()
        try:
            yield gathered
        finally:
            stopped.set()
            if process is not None:
                process.terminate()
                process.wait()
            thread.join(5)
            if process is not None and process.stdout is not None:
                process.stdout.close()

    def _text(self, name: str) -> str | None:
        try:
            return (self._root / name).read_bytes().replace(b"\x00", b"").decode(errors="replace").strip() or None
        except OSError:
            return None

    def _number(self, path: Path) -> float | None:
        try:
            return float(path.read_text())
        except (OSError, ValueError):
            return None

    def _processor(self) -> str | None:
        told = self._text("proc/cpuinfo") or ""
        match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", told, re.MULTILINE)
        return match[1] if match else None

    def _memory_mb(self) -> int | None:
        match = re.search(r"^MemTotal:\s*(\d+) kB", self._text("proc/meminfo") or "", re.MULTILINE)
        return int(match[1]) // 1024 if match else None

    def _power_mode(self) -> str | None:
        tool = shutil.which("nvpmodel")
        if tool is None:
            return None
        try:
            told = subprocess.run([tool, "-q"], capture_output=True, text=True, timeout=5, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            return None
        match = re.search(r"NV Power Mode: *(\S+)", told)
        return match[1] if match else None

    def _temperatures(self) -> dict[str, float]:
        found = {}
        for zone in sorted(self._root.glob("sys/class/thermal/thermal_zone*")):
            value = self._number(zone / "temp")
            if value is not None and value > -100_000:
                kind = self._text(str((zone / "type").relative_to(self._root))) or zone.name
                found[f"{kind.lower().removesuffix('-thermal')}_celsius"] = value / 1000
        return found

    def _clocks(self) -> dict[str, float]:
        found = {}
        cpus = [
            value
            for path in self._root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
            if (value := self._number(path)) is not None
        ]
        if cpus:
            found["cpu_mhz"] = max(cpus) / 1000
        for device in self._root.glob("sys/class/devfreq/*"):
            value = self._number(device / "cur_freq")
            if value is not None and re.search(r"gpu|gv11b|ga10b|gp10b|gb10b", device.name):
                found["gpu_mhz"] = value / 1e6
        return found

    def _power(self) -> dict[str, float]:
        """Of INA3221 sensors: millivolts times milliamperes."""
        found = {}
        for sensor in sorted(self._root.glob("sys/class/hwmon/hwmon*")):
            for label in sorted(sensor.glob("in[0-9]*_label")):
                number = re.sub(r"\D", "", label.name)
                volts = self._number(sensor / f"in{number}_input")
                amperes = self._number(sensor / f"curr{number}_input")
                name = self._text(str(label.relative_to(self._root)))
                if volts is not None and amperes is not None and name:
                    found[f"{name}_mw"] = volts * amperes / 1000
        return found
