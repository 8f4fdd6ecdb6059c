"""Recordings in the layouts that vendors document, with our own numbers, for whom no real one is at hand."""

from __future__ import annotations

import numpy as np

CLOUD_SIZES = {"neon": (1600, 1200, 890.0), "invisible": (1088, 1080, 766.0)}
_EYE_COLUMNS = (
    "pupil diameter left [mm]", "pupil diameter right [mm]", "eyeball center left x [mm]", "eyeball center left y [mm]",
    "eyeball center left z [mm]", "optical axis left x", "optical axis left y", "optical axis left z",
    "eyelid angle top left [rad]", "eyelid angle bottom left [rad]", "eyelid aperture left [mm]",
    "eyelid aperture right [mm]",
)  # fmt: skip


def pupil_cloud(device: str = "neon", count: int = 400, *, seed: int = 7) -> dict[str, list[str]]:
    """A Time Series export: gaze, eye states, fixations, saccades, blinks."""
    rng = np.random.default_rng(seed)
    width, height, focal = CLOUD_SIZES[device]
    t_ns = 1_725_000_000_123_456_789 + np.cumsum(5_000_000 + rng.integers(-3, 4, count) * 1000)
    angles = np.cumsum(rng.normal(0, 0.7, (count, 2)), axis=0) % 30 - 15
    x, y = (side / 2 + focal * np.tan(np.radians(angle)) for side, angle in zip((width, height), angles.T, strict=True))
    gaze = [
        "section id,recording id,timestamp [ns],gaze x [px],gaze y [px],worn,fixation id,blink id,azimuth [deg],elevation [deg]"
    ]
    eyes = [",".join(("section id", "recording id", "timestamp [ns]", *_EYE_COLUMNS))]
    who = "4b1f,9c2e"
    for n in range(count):
        fixation = str(1 + n // 50) if n % 50 < 40 else ""
        blink = str(1 + n // 200) if n % 200 >= 180 else ""
        gaze.append(
            f"{who},{t_ns[n]},{x[n]:.3f},{y[n]:.3f},{0.0 if 60 <= n < 70 else 1.0},{fixation},{blink},"
            f"{angles[n, 0]:.6f},{-angles[n, 1]:.6f}"
        )
        state = ",".join(f"{value:.4f}" for value in rng.normal(3, 0.1, len(_EYE_COLUMNS)))
        eyes.append(f"{who},{t_ns[n]},{state}")
    fixations = [
        "section id,recording id,fixation id,start timestamp [ns],end timestamp [ns],duration [ms],fixation x [px],"
        "fixation y [px],azimuth [deg],elevation [deg]"
    ]
    saccades = [
        "section id,recording id,saccade id,start timestamp [ns],end timestamp [ns],duration [ms],amplitude [px],"
        "amplitude [deg],mean velocity [px/s],peak velocity [px/s]"
    ]
    for number, first in enumerate(range(0, count - 49, 50), 1):
        start, stop, last = t_ns[first], t_ns[first + 39], t_ns[first + 49]
        fixations.append(
            f"{who},{number},{start},{stop},{(stop - start) // 10**6},{x[first]:.3f},{y[first]:.3f},0.5,-0.5"
        )
        saccades.append(f"{who},{number},{stop},{last},{(last - stop) // 10**6},150.25,{2 + number / 8},900.5,1800.5")
    blinks = ["section id,recording id,blink id,start timestamp [ns],end timestamp [ns],duration [ms]"]
    blinks += [f"{who},{n // 200 + 1},{t_ns[n + 180]},{t_ns[n + 199]},95" for n in range(0, count - 199, 200)]
    files = {"gaze.csv": gaze, "fixations.csv": fixations, "saccades.csv": saccades, "blinks.csv": blinks}
    return files | ({"3d_eye_states.csv": eyes} if device == "neon" else {})


def marker_mapper(count: int = 300, *, seed: int = 8) -> dict[str, list[str]]:
    """A Marker Mapper export: gaze and fixations on a surface."""
    rng = np.random.default_rng(seed)
    t_ns = 1_725_000_000_000_000_000 + 5_000_000 * np.arange(count)
    points = rng.uniform(-0.2, 1.2, (count, 2))
    gaze = [
        "section id,recording id,timestamp [ns],gaze detected on surface,gaze position on surface x [normalized],"
        "gaze position on surface y [normalized],fixation id,blink id"
    ]
    for n, (x, y) in enumerate(points):
        on = "True" if 0 <= x <= 1 and 0 <= y <= 1 else "False"
        cells = f"{on},{x:.6f},{y:.6f}" if n % 11 else "False,,"
        gaze.append(f"4b1f,9c2e,{t_ns[n]},{cells},{1 + n // 30 if n % 30 < 25 else ''},")
    fixations = [
        "section id,recording id,fixation id,start timestamp [ns],end timestamp [ns],duration [ms],"
        "fixation detected on surface,fixation x [normalized],fixation y [normalized]"
    ]
    fixations += [
        f"4b1f,9c2e,{n // 30 + 1},{t_ns[n]},{t_ns[n + 24]},120,True,{points[n, 0]:.6f},{points[n, 1]:.6f}"
        for n in range(0, count - 29, 30)
    ]
    return {"gaze.csv": gaze, "fixations.csv": fixations}
