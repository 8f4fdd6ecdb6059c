"""The way through the engines' buffers on a GPU: crops, fused frames and tokens stay there from crop to head.

Tested with the kernels' bodies on the CPU (docs/cuda.md); a GPU has not run it yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

import numpy as np
import numpy.typing as npt

from emert_edge.encoder_inputs import EncoderInput
from emert_edge.engines import EngineSet, GpuEngine
from emert_edge.errors import EngineError
from emert_edge.forward.passing import Forward, tokens_by_kind
from emert_edge.kernels import cuda
from emert_edge.session import Token, Window

__all__ = ["GpuForward"]

FloatArray = npt.NDArray[np.float32]


class _Slot:
    """A row of a `_TokenStore`, its token's alone; free again when nobody has the token any more."""

    __slots__ = ("_free", "index")

    def __init__(self, free: list[int]) -> None:
        self._free = free
        self.index = free.pop()

    def __del__(self) -> None:
        self._free.append(self.index)


class _TokenStore:
    """The tokens of every session, on the GPU: as many rows as there were tokens at once, rounded up."""

    def __init__(self, width: int, device: int, stream: int) -> None:
        self._device, self._stream = device, stream
        self._free = list(range(64))
        self.memory = cuda.empty((len(self._free), width), device=device)

    def slot(self) -> _Slot:
        """Return a free row; its content is whatever an earlier token left."""
        if not self._free:
            held = self.memory
            count, width = held.shape
            self.memory = cuda.empty((2 * count, width), device=self._device)
            cuda.copy(self.memory.first(count), held, stream=self._stream)
            self._free.extend(range(count, 2 * count))
        return _Slot(self._free)


class _GpuEncoder:
    """One encoder's open batch, written into the engine's own input on the GPU."""

    def __init__(self, engine: GpuEngine, source: str, result: str, store: _TokenStore, scratch: bool) -> None:
        self._engine, self._store, self._fed = engine, store, frozenset({source})
        self._source, self._result = engine.on_gpu(source), engine.on_gpu(result)
        self._told = engine.outputs[result]
        self._scratch = None
        if scratch:
            self._scratch = cuda.pinned(self._source.shape)
        self._waiting: list[tuple[Token, EncoderInput]] = []
        self._running: list[tuple[Token, EncoderInput]] = []

    def add(self, token: Token, source: EncoderInput) -> None:
        self.collect()  # what is still read by the batch before: scratch, and the outputs on the host
        row = len(self._waiting)
        source.launch(self._source[row], None if self._scratch is None else self._scratch[row], self._engine.stream)
        self._waiting.append((token, source))
        if len(self._waiting) == self._engine.max_batch:
            self.flush()

    def warmup(self) -> None:
        self._engine.enqueue(1, self._fed)
        self._engine.wait()

    def flush(self) -> None:
        """Enqueue the batch; its tokens have their slots then, and their vectors when it is collected."""
        if not self._waiting:
            return
        self._engine.enqueue(len(self._waiting), self._fed)
        for row, (token, _) in enumerate(self._waiting):
            slot = self._store.slot()
            cuda.copy(self._store.memory[slot.index], self._result[row], stream=self._engine.stream)
            token.slot = slot
        self._running, self._waiting = self._waiting, []

    def abandon(self) -> None:
        """Give the frames of what was not enqueued back; what was is collected as ever."""
        if self._waiting:
            with suppress(EngineError):
                self._engine.wait()  # nothing reads the frames any more
            waiting, self._waiting = self._waiting, []
            for _, source in waiting:
                source.release()

    def collect(self) -> None:
        """Wait for the batch that was enqueued, if any; frames are given back, and vectors kept for recordings."""
        if self._running:
            self._engine.wait()
            for row, (token, source) in enumerate(self._running):
                token.vector = self._told[row].copy()
                source.release()
            self._running = []


class GpuForward(Forward):
    """The way through the engines' buffers on a GPU, in one stream.

    Frames wait in page-locked memory, which a GPU reads where it lies. Crops and fused frames are written into the
    engines' inputs, tokens are kept in a store, and the head's are gathered from there, all on the GPU: the host waits
    once a step, for the estimates. What goes up are eye tokens and the places of tokens in the store, what comes down
    are the head's outputs and, for recordings, each new token once.

    On the GPU stand the engines' own buffers and the store: `token_width` floats for every token that a session holds.
    """

    _faces: _GpuEncoder
    _fixations: _GpuEncoder | None
    _head: GpuEngine

    def __init__(self, engines: EngineSet) -> None:
        head = self._head = cast("GpuEngine", engines.head)
        device = engines.device.index
        self._tokens = {
            kind: head.on_gpu(f"{kind}_tokens") for kind in ("face", "fixation") if f"{kind}_tokens" in head.inputs
        }
        self._masks = {kind: head.on_gpu(f"{kind}_mask") for kind in self._tokens if f"{kind}_mask" in head.inputs}
        self._fed = frozenset(f"{kind}_tokens" for kind in self._tokens) | {f"{kind}_mask" for kind in self._masks}
        self._index = {kind: cuda.pinned(tokens.shape[:2], np.int32) for kind, tokens in self._tokens.items()}
        self._store = _TokenStore(self._tokens["face"].shape[2], device, head.stream)
        self._face_engine = cast("GpuEngine", engines.face_encoder)
        self._faces = _GpuEncoder(self._face_engine, "frame", "face_token", self._store, False)
        self._encoders = [self._faces]
        self._fixations = None
        if engines.fixation_encoder is not None:
            fixation = cast("GpuEngine", engines.fixation_encoder)
            self._fixations = _GpuEncoder(fixation, "fused", "fixation_token", self._store, True)
            self._encoders.append(self._fixations)

    def warmup(self) -> None:
        """Run every graph once as a step runs it, and the face encoder as `expressions` does."""
        self._face_engine.run(1)
        for encoder in self._encoders:
            encoder.warmup()
        self._run_head(1, {kind: [()] for kind in self._tokens})

    def frame_memory(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Allocate a page-locked frame."""
        return cuda.pinned(shape, np.uint8)

    def abandon(self) -> None:
        """Forget what waits."""
        for encoder in self._encoders:
            encoder.abandon()

    def head(self, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        """Finish what waits, run the head, and return its outputs."""
        for encoder in self._encoders:
            encoder.flush()
        self._run_head(len(windows), tokens_by_kind(windows, self._fixations is not None))
        for encoder in self._encoders:
            encoder.collect()
        return self._head.outputs

    def _run_head(self, count: int, kinds: Mapping[str, Sequence[tuple[Token, ...]]]) -> None:
        head = self._head
        for kind, rows in kinds.items():
            index = self._index[kind][:count]
            index[:] = -1
            for row, tokens in zip(index, rows, strict=True):
                place = len(row) - len(tokens)  # a young stream has fewer; the newest stands last
                row[place:] = [self._slot_of(token) for token in tokens]
            mask = self._masks.get(kind)
            cuda.assemble_tokens_into(
                self._tokens[kind].first(count),
                None if mask is None else mask.first(count),
                self._store.memory,
                index,
                stream=head.stream,
            )
        head.enqueue(count, self._fed)
        head.wait()

    def _slot_of(self, token: Token) -> int:
        """Where a token lies in the store, or -1 if it is missing; one from a recording is brought there."""
        if token.slot is None:
            if token.vector is None:
                return -1
            slot = self._store.slot()
            cuda.copy(self._store.memory[slot.index], token.vector, stream=self._head.stream)
            token.slot = slot
        return cast("_Slot", token.slot).index
