"""Eye behaviour: features, events, pupils, readers. Not in the timings: making the signals, the disk's first reading.

pymovements and pandas stand beside ours where they are installed; they are no dependency of anything here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emert_edge.eye import GazeSamples, clean_pupil, detect_events, eye_features
from emert_edge.sources import open_gaze

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
S = 1_000_000_000


def signal(seconds: float, rate: int) -> GazeSamples:
    """Rests of about a quarter of a second with jumps between them, noise, and blinks."""
    rng = np.random.default_rng(0)
    count = round(seconds * rate)
    rest = np.cumsum(rng.random(count) < 4 / rate)
    places = rng.random((2, int(rest[-1]) + 1))
    x, y = places[:, rest] + rng.normal(0, 0.0005, (2, count))
    lost = np.zeros(count, dtype=np.bool_)
    for start in rng.integers(0, count, max(round(seconds / 4), 1)).tolist():
        lost[start : start + round(0.15 * rate)] = True
    pupil = np.where(lost, np.nan, 3 + 0.1 * np.sin(np.arange(count) / rate))
    x[lost] = np.nan
    y[lost] = np.nan
    return GazeSamples(
        t_ns=np.arange(count) * (S // rate), x=x, y=y, left_x=x, left_y=y, right_x=x, right_y=y,
        pupil_left=pupil, pupil_right=pupil, openness_left=pupil * 3, openness_right=pupil * 3,
    )  # fmt: skip


@pytest.mark.benchmark(group="features: one token of 125 ms")
@pytest.mark.parametrize("rate", [60, 250, 1000])
def test_features_of_one_token(benchmark: Any, rate: int) -> None:
    samples = signal(4, rate)
    rows = benchmark(eye_features, samples, S, S + S // 8, 1)
    assert rows.shape == (1, 39)


@pytest.mark.benchmark(group="features: a window of 32 tokens")
@pytest.mark.parametrize("rate", [60, 250, 1000])
def test_features_of_a_window(benchmark: Any, rate: int) -> None:
    samples = signal(4, rate)
    rows = benchmark(eye_features, samples, 0, 4 * S, 32)
    assert rows.shape == (32, 39)


@pytest.mark.benchmark(group="events: ten minutes at 500 Hz")
@pytest.mark.parametrize("method", ["ivt", "idt"])
def test_events(benchmark: Any, method: str) -> None:
    samples = signal(600, 500)
    events = benchmark.pedantic(detect_events, (samples, method), rounds=5, warmup_rounds=1)
    benchmark.extra_info["samples_per_second"] = len(samples) / benchmark.stats["mean"]
    assert len(events.fixations) > 500


@pytest.mark.benchmark(group="events: ten minutes at 500 Hz")
@pytest.mark.parametrize("method", ["ivt", "idt"])
def test_events_by_pymovements(benchmark: Any, method: str) -> None:
    detection = pytest.importorskip("pymovements.events", reason="pymovements is not installed")
    samples = signal(600, 500)
    positions = np.stack([samples.x * 44.0, samples.y * 26.0], axis=1).astype(np.float64)
    timesteps = samples.t_ns / 1e6
    if method == "ivt":
        velocities = np.gradient(positions, timesteps / 1e3, axis=0)
        benchmark.pedantic(detection.ivt, kwargs={"velocities": velocities, "timesteps": timesteps}, rounds=3)
    else:
        benchmark.pedantic(detection.idt, kwargs={"positions": positions, "timesteps": timesteps}, rounds=3)


@pytest.mark.benchmark(group="pupils: ten minutes at 500 Hz, artefacts out")
def test_pupils(benchmark: Any) -> None:
    samples = signal(600, 500)
    pupil = benchmark.pedantic(clean_pupil, (samples,), rounds=5, warmup_rounds=1)
    benchmark.extra_info["samples_per_second"] = len(samples) / benchmark.stats["mean"]
    assert 0.8 < np.isfinite(pupil.size).mean() < 1


@pytest.mark.benchmark(group="pupils: ten minutes at 500 Hz, artefacts out")
def test_pupils_by_pandas(benchmark: Any) -> None:
    """The usual few lines: both eyes' range, gaps with margins, dilation speed, the mean; no blinks by the lids."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    samples = signal(600, 500)
    table = pandas.DataFrame({"left": samples.pupil_left, "right": samples.pupil_right})

    def cleaned() -> Any:
        eyes = table.where((table >= 1.5) & (table <= 9))
        near = eyes.isna().astype("int8").rolling(51, center=True, min_periods=1).max() > 0
        eyes = eyes.mask(near)
        speed = eyes.diff().abs()
        speed = speed.combine(speed.shift(-1), np.fmax)
        median = speed.median()
        return eyes.mask(speed > median + 16 * (speed - median).abs().median()).mean(axis=1)

    size = benchmark.pedantic(cleaned, rounds=5, warmup_rounds=1)
    benchmark.extra_info["samples_per_second"] = len(samples) / benchmark.stats["mean"]
    assert 0.8 < size.notna().mean() < 1


def repeated(folder: Path, source: Path, times: int) -> Path:
    """A real file's rows, several times over."""
    header, rows = source.read_bytes().split(b"\n", 1)
    path = folder / source.name
    path.write_bytes(header + b"\n" + rows * times)
    return path


READERS = {
    "tobii_pro_lab": ("tobii_prolab_ivt/I-VT-normal Data export_short.tsv", "\t", ","),
    "pupil_core": ("pupil_core_export/gaze_positions.csv", ",", "."),
}


@pytest.mark.benchmark(group="readers")
@pytest.mark.parametrize("vendor", READERS)
@pytest.mark.parametrize("reader", ["emert_edge", "pandas, every column", "pandas, the columns used"])
def test_readers(benchmark: Any, tmp_path: Path, vendor: str, reader: str) -> None:
    name, mark, decimal = READERS[vendor]
    if not (SHARED / name).is_file():
        pytest.skip(f"no real data here: {SHARED / name} is absent")
    path = repeated(tmp_path, SHARED / name, 10)
    if reader == "emert_edge":
        recording = benchmark.pedantic(open_gaze, (path,), rounds=3, warmup_rounds=1)
        benchmark.extra_info["samples_per_second"] = len(recording.samples) / benchmark.stats["mean"]
        return
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    words = ("timestamp", "Gaze point", "Pupil diameter", "openness", "Validity", "Sensor", "Eye movement")
    words = words if vendor == "tobii_pro_lab" else ("gaze_timestamp", "confidence", "norm_pos")
    used = (lambda title: any(word in title for word in words)) if reader.endswith("used") else None
    table = benchmark.pedantic(
        pandas.read_csv, (path,), {"sep": mark, "decimal": decimal, "usecols": used}, rounds=3, warmup_rounds=1
    )
    benchmark.extra_info["samples_per_second"] = len(table) / benchmark.stats["mean"]


def made_tables() -> Any:
    """The tests' made exports, in the vendors' documented layouts."""
    place = Path(__file__).resolve().parents[1] / "tests" / "sources" / "made_gaze.py"
    spec = importlib.util.spec_from_file_location("made_gaze", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OTHERS = {
    "tobii_studio": lambda: (SHARED / "tobii_studio_d2lab" / "data.tsv").read_bytes().splitlines(),
    "gazepoint": lambda: [line.encode() for line in made_tables().gazepoint()],
    "tobii_sdk": lambda: [line.encode() for line in made_tables().tobii_sdk()],
    "pupil_cloud": lambda: [line.encode() for line in made_tables().pupil_cloud()["gaze.csv"]],
    "pupil_cloud, Marker Mapper": lambda: [line.encode() for line in made_tables().marker_mapper()["gaze.csv"]],
}


@pytest.mark.benchmark(group="readers, about 100,000 rows of other vendors")
@pytest.mark.parametrize("vendor", OTHERS)
def test_other_readers(benchmark: Any, tmp_path: Path, vendor: str) -> None:
    if vendor == "tobii_studio" and not SHARED.is_dir():
        pytest.skip(f"no real data here: {SHARED} is absent")
    header, *rows = OTHERS[vendor]()
    path = tmp_path / "table.txt"
    path.write_bytes(b"\n".join([header, *rows * (100_000 // len(rows))]) + b"\n")
    recording = benchmark.pedantic(open_gaze, (path,), rounds=3, warmup_rounds=1)
    benchmark.extra_info["samples_per_second"] = len(recording.samples) / benchmark.stats["mean"]
