"""The engine cache: TensorRT engines on disk, each under the key of what it was built from and for.

One file an engine: a line that names the format, a line of JSON (the key, and size and sha256 of the rest), the engine.
Files appear whole; builders take turns under one lock, also because two builds at once would spoil each other's timing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from emert_edge.bundle.manifest import Precision, Role
from emert_edge.errors import EngineError

__all__ = ["CachedEngine", "EngineCache", "EngineKey", "Profile", "engine_cache_dir", "profiles_up_to", "read_engine"]

MAGIC = b"emert-edge engine 1\n"
LONGEST_HEADER = 1 << 16

_log = logging.getLogger("emert_edge")


def engine_cache_dir() -> Path:
    """Return the user's cache: `$EMERT_EDGE_HOME/engines`, else `$XDG_CACHE_HOME/emert-edge/engines`.

    `$XDG_CACHE_HOME` is `~/.cache` where it is not set. The folder need not exist.
    """
    if home := os.environ.get("EMERT_EDGE_HOME"):
        return Path(home) / "engines"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "emert-edge" / "engines"


class Profile(NamedTuple):
    """Batch sizes that an optimisation profile takes, and the one it is tuned for."""

    least: int
    best: int
    most: int


def profiles_up_to(max_batch: int) -> tuple[Profile, ...]:
    """Return profiles for batches of 1 to `max_batch`: one tuned for a single stream, one for a full batch."""
    if max_batch < 1:
        raise ValueError(f"max_batch must be at least 1, not {max_batch}")
    alone = Profile(1, 1, 1)
    return (alone,) if max_batch == 1 else (alone, Profile(2, max_batch, max_batch))


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine was built from, and where it may run; it fits nothing else.

    Attributes
    ----------
    role, precision
        Which graph of a bundle.
    onnx_sha256
        Of the graph's file.
    profiles
        Batch sizes.
    tensorrt
        TensorRT's version.
    gpu, sm
        The GPU's name and compute capability, as "8.7".
    """

    role: Role
    precision: Precision
    onnx_sha256: str
    profiles: tuple[Profile, ...]
    tensorrt: str
    gpu: str
    sm: str

    @property
    def max_batch(self) -> int:
        """The most rows that the engine takes at once."""
        return max(profile.most for profile in self.profiles)

    @property
    def file(self) -> str:
        """Name of the file in the cache."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.role}.{self.precision}.{hashlib.sha256(text.encode()).hexdigest()[:24]}.engine"

    def differences(self, other: EngineKey) -> tuple[str, ...]:
        """Name the fields in which another key differs."""
        ours, theirs = asdict(self), asdict(other)
        return tuple(name for name in ours if ours[name] != theirs[name])


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An engine from the cache, whole and unchanged."""

    path: Path
    key: EngineKey
    plan: memoryview
    notes: dict[str, Any]
    """What its builder said of it: when, whether strongly typed, how far from ONNX Runtime."""


class EngineCache:
    """A folder of engines, and of what builds have measured.

    Parameters
    ----------
    folder
        Made when something is stored; the user's cache when None.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else engine_cache_dir()

    def find(self, key: EngineKey, *, any_batch: bool = False) -> tuple[CachedEngine | None, str]:
        """Look for an engine.

        Parameters
        ----------
        key
            What is wanted.
        any_batch
            Whether an engine that differs in its profiles alone will do; the one that was built last is taken.

        Returns
        -------
        engine, reason
            The engine, or None and why there is none.
        """
        path = self.folder / key.file
        fitting = [path] if path.is_file() else []
        others = [
            (file, other)
            for file, other in self.entries()
            if file != path and (other.role, other.onnx_sha256) == (key.role, key.onnx_sha256)
        ]
        if any_batch:
            fitting += [file for file, other in others if other.differences(key) == ("profiles",)]
            fitting.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
        faults: list[str] = []
        for file in fitting:
            found = read_engine(file)
            if not isinstance(found, str):
                return found, ""
            _log.warning("%s", found)
            faults.append(found)
        if faults:
            return None, faults[0]
        if others:
            nearest = min((other for _, other in others), key=lambda other: len(key.differences(other)))
            return None, f"{self.folder}: an engine of this graph is for {_in_words(key, nearest)}"
        return None, f"{self.folder}: no engine of this graph"

    def entries(self) -> Iterator[tuple[Path, EngineKey]]:
        """List files and keys of the engines whose header can be read; the engines themselves are not checked."""
        for path in sorted(self.folder.glob("*.engine")) if self.folder.is_dir() else ():
            header = _read_header(path)
            if not isinstance(header, str):
                yield path, header.key

    def store(self, key: EngineKey, plan: bytes, notes: dict[str, Any]) -> CachedEngine:
        """Write an engine; whatever lay under its key is replaced. Only inside `lock`."""
        header = {
            "key": asdict(key),
            "size": len(plan),
            "sha256": hashlib.sha256(plan).hexdigest(),
            "notes": notes,
        }
        path = self.folder / key.file
        self._write(path, MAGIC + json.dumps(header).encode() + b"\n", plan)
        return CachedEngine(path, key, memoryview(plan), notes)

    def timings(self, key: EngineKey) -> bytes:
        """Return what earlier builds measured of this GPU under this TensorRT; empty before the first."""
        path = self._timings(key)
        return path.read_bytes() if path.is_file() else b""

    def store_timings(self, key: EngineKey, timings: bytes) -> None:
        """Keep what a build has measured. Only inside `lock`."""
        self._write(self._timings(key), timings)

    def _timings(self, key: EngineKey) -> Path:
        return self.folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', f'{key.gpu}-{key.sm}-{key.tensorrt}')}.timings"

    def _write(self, path: Path, *parts: bytes) -> None:
        with self._writing():
            descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=f".{path.name}.", suffix=".part")
            aside = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    for part in parts:
                        file.write(part)
                    file.flush()
                    os.fsync(file.fileno())
                aside.chmod(0o644)
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)

    @contextmanager
    def lock(self, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the cache for building; other processes and threads wait. A process that dies lets go.

        Parameters
        ----------
        waiting
            Called once when somebody else is building.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / "lock").open("ab")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            for left in self.folder.glob(".*.part"):  # of a builder that was killed
                left.unlink(missing_ok=True)
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EngineError(
                f"{self.folder}: engines cannot be kept here ({error.strerror}); "
                "name a folder that can be written in EMERT_EDGE_HOME"
            ) from error


def read_engine(path: Path) -> CachedEngine | str:
    """Read one file of a cache; return the engine, or what is wrong with the file in words."""
    header = _read_header(path)
    if isinstance(header, str):
        return header
    plan = memoryview(path.read_bytes())[header.begin :]
    if len(plan) != header.size:
        return f"{path}: truncated: it holds {len(plan)} bytes of {header.size}"
    if hashlib.sha256(plan).hexdigest() != header.sha256:
        return f"{path}: changed after it was built (its sha256 does not fit)"
    if header.key.file != path.name:
        return f"{path}: renamed: by its header it is another engine"
    return CachedEngine(path, header.key, plan, header.notes)


class _Header(NamedTuple):
    key: EngineKey
    size: int
    sha256: str
    notes: dict[str, Any]
    begin: int


def _read_header(path: Path) -> _Header | str:
    try:
        with path.open("rb") as file:
            magic, line = file.readline(len(MAGIC)), file.readline(LONGEST_HEADER)
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    if magic != MAGIC or not line.endswith(b"\n"):
        return f"{path}: not an engine of this version of emert_edge"
    try:
        content = json.loads(line)
        profiles = tuple(Profile(*profile) for profile in content["key"]["profiles"])
        key = EngineKey(**content["key"] | {"profiles": profiles})
        return _Header(
            key, int(content["size"]), str(content["sha256"]), dict(content["notes"]), len(magic) + len(line)
        )
    except (ValueError, KeyError, TypeError) as error:
        return f"{path}: its header is damaged ({error})"


def _in_words(wanted: EngineKey, other: EngineKey) -> str:
    said = {
        "tensorrt": f"TensorRT {other.tensorrt}, this is {wanted.tensorrt}",
        "gpu": f"{other.gpu}, this is {wanted.gpu}",
        "sm": f"compute capability {other.sm}, this is {wanted.sm}",
        "precision": f"{other.precision}, {wanted.precision} is wanted",
        "profiles": f"batches up to {other.max_batch}, {wanted.max_batch} is wanted",
    }
    return "; ".join(said[name] for name in wanted.differences(other) if name in said)
