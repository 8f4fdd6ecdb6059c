"""Pupil Labs' glasses (Neon, Invisible), by the realtime API of their companion app.

An address is `neon:HOST` or `neon:HOST:PORT`: the phone that the app shows, without a port 8080. The app's status says
where the gaze stream is; Pupil Labs' own library reads it (RTP over UDP).

Points are pixels of the scene camera, and are none while the glasses are not worn. From Neon come pupils and eyelid
aperture in millimetres and each eye's own point, where the app is set to compute them. Times are the phone's UTC; the
app's time echo tells where they stand.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from emert_edge.errors import GazeFormatError, SourceError
from emert_edge.eye.samples import GazeSamples
from emert_edge.sources.live_gaze import LiveGaze, host_and_port

__all__ = ["open_neon"]

PORT = 8080

_NOTHING = GazeSamples(t_ns=[])
_WAIT_S = 0.1
_GATHER_S = 0.01
_SILENT_S = 5.0
_ECHO_S = 0.5
_NEON_PX, _INVISIBLE_PX = (1600, 1200), (1088, 1080)
_ARRAYS = {  # ours, and what the library calls it
    "pupil_left": "pupil_diameter_left", "pupil_right": "pupil_diameter_right",
    "openness_left": "eyelid_aperture_left", "openness_right": "eyelid_aperture_right",
}  # fmt: skip


def open_neon(address: str) -> LiveGaze:
    """Connect to a companion app.

    Raises
    ------
    SourceError
        If pupil-labs-realtime-api is not installed, nobody answers there, or no glasses are connected.
    GazeFormatError
        If what answers is no companion app.
    ValueError
        If the address is none.
    """
    host, port = host_and_port(address, PORT)
    try:
        from pupil_labs import realtime_api
    except ImportError:
        raise SourceError(
            f"{address}: Neon is read with pupil-labs-realtime-api; pip install 'emert-edge[neon]'"
        ) from None
    return LiveGaze(address, lambda patience_s: _Companion(address, host, port, patience_s, realtime_api))


class _Companion:
    """The app, and its stream of gaze; both are driven by an event loop that runs while we wait for data."""

    def __init__(self, address: str, host: str, port: int, patience_s: float, api: Any) -> None:
        self._address = address
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._streamer: Any = None
        self._next: asyncio.Task[Any] | None = None
        self._echo: socket.socket | None = None
        self._heard_s = time.monotonic()
        try:
            status = self._loop.run_until_complete(self._status(host, port, max(patience_s, 1.0), api))
            sensor = status.direct_gaze_sensor()
            if sensor is None or not sensor.connected:
                raise SourceError(f"{address}: the app is there, and no glasses are connected to the phone")
            self._size_px = _INVISIBLE_PX if str(status.hardware.version).startswith("1") else _NEON_PX
            self._echo_port = status.phone.time_echo_port
            self._streamer = api.streaming.RTSPGazeStreamer(sensor.url)
            self._loop.run_until_complete(self._streamer.__aenter__())
            self._data: AsyncIterator[Any] = self._streamer.receive()
        except BaseException:
            self.close()
            raise

    async def _status(self, host: str, port: int, patience_s: float, api: Any) -> Any:
        import aiohttp  # the library speaks through it

        try:
            async with api.Device(host, port) as device:
                return await asyncio.wait_for(device.get_status(), patience_s)
        except (OSError, asyncio.TimeoutError, aiohttp.ClientConnectionError) as error:
            raise SourceError(
                f"{self._address}: nobody answers at {host}, port {port} ({error or 'no answer'}); is the companion "
                "app running, and in the same network?"
            ) from None
        except Exception as error:  # whatever another server's answer makes of the library's parsing
            raise GazeFormatError(
                f"{self._address}: what answers there is no companion app ({type(error).__name__}: {error})"
            ) from None

    def read(self) -> GazeSamples:
        data = self._loop.run_until_complete(self._gathered())
        if data:
            self._heard_s = time.monotonic()
            return self._samples(data)
        if time.monotonic() - self._heard_s > _SILENT_S:
            raise SourceError(f"{self._address}: no gaze has come for {_SILENT_S:g} s")
        return _NOTHING

    async def _gathered(self) -> list[Any]:
        """What comes within a hundredth of a second from the first datum on."""
        data: list[Any] = []
        deadline = time.monotonic() + _WAIT_S
        while (left := deadline - time.monotonic()) > 0:
            if self._next is None:
                self._next = asyncio.ensure_future(anext(self._data))
            done, _ = await asyncio.wait({self._next}, timeout=left)
            if not done:
                break
            finished, self._next = self._next, None
            try:
                datum = finished.result()
            except StopAsyncIteration:
                raise SourceError(f"{self._address}: the stream has ended") from None
            except KeyError as error:
                raise GazeFormatError(f"{self._address}: a packet of an unknown kind ({error} bytes)") from None
            except (OSError, struct.error) as error:
                raise SourceError(f"{self._address}: the stream broke off ({error})") from None
            if not data:
                deadline = time.monotonic() + _GATHER_S
            data.append(datum)
        return data

    def _samples(self, data: list[Any]) -> GazeSamples:
        worn = np.array([datum.worn for datum in data], bool)
        width, height = self._size_px

        def column(*names: str) -> Any:
            """Values of the first of these fields that the packets have; NaN where the glasses are not worn."""
            values = []
            for datum in data:
                held = next((getattr(datum, name) for name in names if hasattr(datum, name)), math.nan)
                values.append(held)
            return np.where(worn, np.array(values, np.float64), np.nan)

        named: dict[str, Any] = {"x": column("x") / width, "y": column("y") / height}
        for eye in ("left", "right"):
            for axis, side in (("x", width), ("y", height)):
                mono = [getattr(datum, eye, None) for datum in data]
                if all(point is not None for point in mono):
                    values = np.array([getattr(point, axis) for point in mono], np.float64)
                    named[f"{eye}_{axis}"] = np.where(worn, values, np.nan) / side
                else:
                    named[f"{eye}_{axis}"] = column(f"mono_{eye}_{axis}") / side
        for ours, theirs in _ARRAYS.items():
            values = column(theirs)
            named[ours] = np.where(values > 0, values, np.nan) if ours.startswith("pupil") else values
        t_ns = np.array([round(datum.timestamp_unix_seconds * 1e9) for datum in data], np.int64)
        return GazeSamples(
            t_ns=t_ns, **named, pupil_unit="mm", space="scene", size_px=self._size_px, clock="neon"
        )  # fmt: skip

    def offset_ns(self) -> int | None:
        """By the app's time echo, which counts milliseconds; None where the app has none."""
        if not self._echo_port:
            return None
        try:
            if self._echo is None:
                self._echo = socket.create_connection((self._host, self._echo_port), timeout=_ECHO_S)
                self._echo.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sent_ms, before_ns = time.time_ns() // 1_000_000, time.monotonic_ns()
            self._echo.sendall(struct.pack("!Q", sent_ms))
            answer = b""
            while len(answer) < 16 and (got := self._echo.recv(16 - len(answer))):
                answer += got
            after_ns = time.monotonic_ns()
            same_ms, there_ms = struct.unpack("!QQ", answer)
        except (OSError, struct.error):
            if self._echo is not None:
                self._echo.close()
            self._echo = None
            return None
        if same_ms != sent_ms:
            return None
        middle_ns = (before_ns + after_ns) // 2
        return middle_ns - (int(there_ms) * 1_000_000 + 500_000)  # a whole millisecond that has begun: half is over

    def close(self) -> None:
        if self._loop.is_closed():
            return
        if self._echo is not None:
            self._echo.close()
        if self._next is not None:
            self._next.cancel()
        try:
            if self._streamer is not None:
                self._loop.run_until_complete(self._ended())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    async def _ended(self) -> None:
        with contextlib.suppress(Exception):  # it is gone either way
            await asyncio.wait_for(self._streamer.__aexit__(None, None, None), 2.0)
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
