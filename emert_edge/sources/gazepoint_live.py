"""Gazepoint trackers, by the Open Gaze API: a socket of Gazepoint Control's that speaks XML, a record a line.

An address is `gazepoint:HOST` or `gazepoint:HOST:PORT`; without a host this machine's, without a port 4242.

Samples are what exports are read as (`emert_edge.sources.gazepoint`): the best point of gaze and each eye's where their
flags are 1, pupils in millimetres (in pixels of the eye camera from servers that know no millimetres), times from
ticks. The API has no round trip for its clock, so that the offset rests on when records arrive.
"""

from __future__ import annotations

import re
import socket
import time
from typing import Any

import numpy as np

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.live_gaze import LiveGaze, host_and_port

__all__ = ["open_gazepoint"]

PORT = 4242

_NOTHING = GazeSamples(t_ns=[])
_ASKED = ("TIME_TICK_FREQUENCY", "SCREEN_SIZE")
_SENT = (
    "COUNTER", "TIME", "TIME_TICK", "POG_BEST", "POG_LEFT", "POG_RIGHT", "PUPIL_LEFT", "PUPIL_RIGHT", "PUPILMM", "DATA",
)  # fmt: skip
_FIELD = re.compile(r'([A-Z_0-9]+)="([^"]*)"')
_WAIT_S = 0.1
_GATHER_S = 0.01
_ANSWER_S = 2.0
_SILENT_S = 5.0  # a server sends a record a frame, eyes or not
_LONGEST_LINE = 1 << 16


def open_gazepoint(address: str) -> LiveGaze:
    """Connect to Gazepoint Control.

    Raises
    ------
    SourceError
        If nobody answers there.
    GazeFormatError
        If what answers doesn't speak the Open Gaze API.
    ValueError
        If the address is none.
    """
    host, port = host_and_port(address, PORT)
    return LiveGaze(address, lambda patience_s: _Server(address, host, port, patience_s))


class _Server:
    def __init__(self, address: str, host: str, port: int, patience_s: float) -> None:
        self._address = address
        try:
            self._socket = socket.create_connection((host, port), timeout=max(patience_s, 1.0))
        except OSError as error:
            raise SourceError(
                f"{address}: nobody answers at {host}, port {port} ({error}); is Gazepoint Control running there?"
            ) from None
        self._held = b""
        self._heard_s = time.monotonic()
        self._records: list[dict[str, str]] = []
        self._answers: dict[str, dict[str, str]] = {}
        try:
            self._introduce()
        except BaseException:
            self.close()
            raise

    def _introduce(self) -> None:
        lines = [f'<GET ID="{name}" />' for name in _ASKED] + [
            f'<SET ID="ENABLE_SEND_{name}" STATE="1" />' for name in _SENT
        ]
        try:
            self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode())
        except OSError as error:
            raise SourceError(f"{self._address}: the server is gone ({error})") from None
        deadline = time.monotonic() + _ANSWER_S
        while time.monotonic() < deadline and not ({*_ASKED} <= set(self._answers) and self._records):
            self._receive()
        frequency = self._answers.get("TIME_TICK_FREQUENCY", {}).get("FREQ", "")
        screen = self._answers.get("SCREEN_SIZE", {})
        if not self._answers and not self._records:
            raise GazeFormatError(f"{self._address}: what answers there does not speak the Open Gaze API")
        self._frequency = int(frequency) if frequency.isdigit() and int(frequency) else 0
        width, height = (screen.get(side, "") for side in ("WIDTH", "HEIGHT"))
        known = width.isdigit() and height.isdigit() and int(width) and int(height)
        self._size_px = (int(width), int(height)) if known else None

    def read(self) -> GazeSamples:
        if not self._records:
            self._receive()
            if not self._records:
                if time.monotonic() - self._heard_s > _SILENT_S:
                    raise SourceError(f"{self._address}: no record has come for {_SILENT_S:g} s")
                return _NOTHING
            time.sleep(_GATHER_S)
            self._receive()
        records, self._records = self._records, []
        return self._samples(records)

    def offset_ns(self) -> int | None:
        return None

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> None:
        """Take what is there, or wait a tenth of a second for something."""
        self._socket.settimeout(_WAIT_S)
        try:
            got = self._socket.recv(1 << 16)
        except TimeoutError:
            return
        except OSError as error:
            raise SourceError(f"{self._address}: the server is gone ({error})") from None
        if not got:
            raise SourceError(f"{self._address}: the server has closed the connection")
        self._heard_s = time.monotonic()
        *lines, self._held = (self._held + got).split(b"\n")
        if len(self._held) > _LONGEST_LINE:
            raise GazeFormatError(f"{self._address}: what answers there does not speak the Open Gaze API")
        for line in lines:
            text = line.decode("latin-1").strip()
            fields = dict(_FIELD.findall(text))
            if text.startswith("<REC "):
                self._records.append(fields)
            elif text.startswith("<ACK ") and "ID" in fields:
                self._answers[fields["ID"]] = fields

    def _samples(self, records: list[dict[str, str]]) -> GazeSamples:
        def numbers(name: str) -> Any:
            return np.array([self._number(record, name) for record in records], np.float64)

        def held(name: str, flag: str) -> Any:
            return np.where(numbers(flag) == 1, numbers(name), np.nan)

        named: dict[str, Any] = {}
        for ours, theirs in (("", "BPOG"), ("left_", "LPOG"), ("right_", "RPOG")):
            for axis in "xy":
                named[f"{ours}{axis}"] = held(f"{theirs}{axis.upper()}", f"{theirs}V")
        metric = any("LPMM" in record or "RPMM" in record for record in records)
        for eye, letter in (("left", "L"), ("right", "R")):
            size = held(f"{letter}PMM", f"{letter}PMMV") if metric else held(f"{letter}PD", f"{letter}PV")
            named[f"pupil_{eye}"] = np.where(size > 0, size, np.nan)
        return GazeSamples(
            t_ns=np.array([self._time(record) for record in records], np.int64),
            **named,
            pupil_unit="mm" if metric else "px",
            space="screen",
            size_px=self._size_px,
            clock="gazepoint",
        )

    def _number(self, record: dict[str, str], name: str) -> float:
        text = record.get(name, "nan")
        try:
            return float(text)
        except ValueError:
            raise GazeFormatError(f"{self._address}: {name}={text!r} is no number") from None

    def _time(self, record: dict[str, str]) -> int:
        ticks = record.get("TIME_TICK", "")
        if self._frequency and ticks.isdigit():
            whole, rest = divmod(int(ticks), self._frequency)
            return whole * 1_000_000_000 + (rest * 1_000_000_000 + self._frequency // 2) // self._frequency
        seconds = self._number(record, "TIME")
        if not 0 <= seconds < 1e9:
            raise GazeFormatError(f"{self._address}: a record without a time (neither TIME_TICK nor TIME)")
        return round(seconds * 1e9)
