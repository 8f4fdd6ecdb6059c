"""Recordings in the layouts that vendors document, with our own numbers, for whom no real one is at hand."""

from __future__ import annotations

import struct
from typing import Any

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
        "section id,recording id,timestamp [ns],gaze x [px],gaze y [px],worn,fixation id,blink id,azimuth [deg],"
        "elevation [deg]"
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


def gazepoint(count: int = 400, *, rate_hz: float = 150.0, seed: int = 9) -> list[str]:
    """An all-gaze export over two media, whose TIME begins anew with the second."""
    rng = np.random.default_rng(seed)
    ticks = 48_860_001_560 + np.round(np.arange(count) * 10_000_000 / rate_hz).astype(int)
    lines = [
        "MEDIA_ID,MEDIA_NAME,CNT,TIME(2024/03/01 10:20:30.400),TIMETICK(f=10000000),FPOGX,FPOGY,FPOGS,FPOGD,FPOGID,"
        "FPOGV,BPOGX,BPOGY,BPOGV,CX,CY,CS,USER,LPCX,LPCY,LPD,LPS,LPV,RPCX,RPCY,RPD,RPS,RPV,BKID,BKDUR,BKPMIN,LPMM,LPMMV,RPMM,"
        "RPMMV,SACCADE_MAG,SACCADE_DIR,VID_FRAME,"
    ]
    half = count // 2
    for n in range(count):
        medium, m = divmod(n, half)
        time = m / rate_hz
        began = (m // 40) * 40 / rate_hz
        fixated = m % 40 < 30
        x, y = rng.uniform(0.3, 0.7, 2)
        seen = n % 60 >= 8
        left, right = rng.uniform(2.8, 3.4, 2)
        blink = 1 + n // 200 if n % 200 >= 185 else 0
        lines.append(
            f"{medium},medium {medium},{n + 5},{time:.5f},{ticks[n]},{0.5 + m / 4e3:.5f},0.41200,{began:.5f},"
            f"{time - began:.5f},{m // 40 + 1},{int(fixated)},{x:.5f},{y:.5f},{int(seen)},0.1,0.2,0,,0.4,0.5,"
            f"{left * 5:.5f},1.0,{int(seen)},0.6,0.5,{right * 5:.5f},1.0,1,{blink},0.1,12,{left if seen else 0:.5f},"
            f"{int(seen)},{right:.5f},1,10.5,90.1,{n // 5},"
        )
    return lines


def gazepoint_fixations(count: int = 40, *, seed: int = 10) -> list[str]:
    """An export of fixations: a row each, its last."""
    every = 40 * count
    header, *rows = gazepoint(2 * every, seed=seed)
    return [header, *rows[29:every:40], *rows[every + 29 :: 40]]


def tobii_sdk(count: int = 300, *, rate_hz: float = 120.0, seed: int = 11, tuples: bool = False) -> list[str]:
    """A log of the Pro SDK's gaze data, points as two columns or as the tuples that Python prints."""
    rng = np.random.default_rng(seed)
    whole = "{}_gaze_point_on_display_area"
    points = [whole] if tuples else [f"{whole}_x", f"{whole}_y"]
    others = ["{}_gaze_point_validity", "{}_pupil_diameter", "{}_pupil_validity", "{}_gaze_origin_validity"]
    columns = [column.format(eye) for eye in ("left", "right") for column in points + others]
    lines = [",".join(["", "device_time_stamp", "system_time_stamp", *columns])]
    for n in range(count):
        time = 6_223_715_132 + round(n * 1e6 / rate_hz)
        cells = [str(n), str(time), str(time + 77_000_000_123)]
        for eye in range(2):
            seen = (n + 20 * eye) % 70 >= 6
            x, y = (f"{value:.6f}" if seen else "nan" for value in rng.uniform(-0.05, 1.05, 2))
            measured = seen and n % 3 == 0  # the pupil comes at 40 Hz
            size = f"{rng.uniform(2.5, 3.5):.5f}" if measured else ("-1.0" if n % 2 else "nan")
            cells += [f'"({x}, {y})"'] if tuples else [x, y]
            cells += [str(int(seen)), size, str(int(measured)), "1"]
        lines.append(",".join(cells))
    return lines


_CHANNEL = ("label", "type", "eye", "unit")
_BOUNDARY = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")


def xdf(*streams: dict[str, Any]) -> bytes:
    """An XDF file of these streams.

    A stream has `name`, `type`, `channels` (label, type, eye, unit), `times`, `values`; and may have `rate`, `offset`
    (its clock's, in seconds) and `desc` (more of its description, as XML).
    """

    def chunk(tag: int, content: bytes) -> bytes:
        return b"\x04" + struct.pack("<IH", 2 + len(content), tag) + content

    def element(channel: tuple[str, ...]) -> str:
        told = "".join(f"<{key}>{value}</{key}>" for key, value in zip(_CHANNEL, channel, strict=True) if value)
        return f"<channel>{told}</channel>"

    parts = [b"XDF:", chunk(1, b"<info><version>1.0</version></info>")]
    for number, stream in enumerate(streams, 1):
        channels = "".join(map(element, stream["channels"]))
        header = (
            f"<info><name>{stream['name']}</name><type>{stream['type']}</type><channel_count>{len(stream['channels'])}"
            f"</channel_count><nominal_srate>{stream.get('rate', 0)}</nominal_srate><channel_format>float32"
            f"</channel_format><source_id>made-{number}</source_id><hostname>lab</hostname>"
            f"<desc>{stream.get('desc', '')}<channels>{channels}</channels></desc></info>"
        )
        parts.append(chunk(2, struct.pack("<I", number) + header.encode()))
    for number, stream in enumerate(streams, 1):
        times, values = stream["times"], np.asarray(stream["values"], dtype="<f4")
        offset = stream.get("offset", 0.0)
        parts += [chunk(4, struct.pack("<Idd", number, at, offset)) for at in np.linspace(times[0], times[-1], 8)]
        for first in range(0, len(times), 50):
            rows = range(first, min(first + 50, len(times)))
            samples = b"".join(b"\x08" + struct.pack("<d", times[row]) + values[row].tobytes() for row in rows)
            parts.append(chunk(3, struct.pack("<I", number) + b"\x04" + struct.pack("<I", len(rows)) + samples))
            parts.append(chunk(5, _BOUNDARY))
    return b"".join(parts)
