"""The way through the engines' buffers in ordinary memory, whatever runs the graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emert_edge.encoder_inputs import EncoderInput
from emert_edge.engines import Engine, EngineSet
from emert_edge.forward.passing import Forward, tokens_by_kind
from emert_edge.session import Token, Window
from emert_edge.window import ordinary_memory

__all__ = ["HostForward"]

FloatArray = npt.NDArray[np.float32]


@dataclass(slots=True)
class _HostEncoder:
    """One encoder's open batch: rows are written as frames come, and run when the batch is full or wanted."""

    engine: Engine
    source: FloatArray
    result: FloatArray
    waiting: list[Token] = field(default_factory=list)

    def add(self, token: Token, source: EncoderInput) -> None:
        source.write(self.source[len(self.waiting)])
        source.release()
        self.waiting.append(token)
        if len(self.waiting) == self.engine.max_batch:
            self.flush()

    def flush(self) -> None:
        waiting, self.waiting = self.waiting, []  # also where the run fails: the next batch begins at row 0
        if waiting:
            self.engine.run(len(waiting))
            for token, row in zip(waiting, self.result, strict=False):
                token.vector = row.copy()


class HostForward(Forward):
    """The way through the engines' buffers on the host, whatever runs the graphs."""

    _faces: _HostEncoder
    _fixations: _HostEncoder | None

    def __init__(self, engines: EngineSet) -> None:
        face, fixation = engines.face_encoder, engines.fixation_encoder
        self._engines, self._head = engines.all(), engines.head
        self._faces = _HostEncoder(face, face.inputs["frame"], face.outputs["face_token"])
        self._fixations = None
        if fixation is not None:
            self._fixations = _HostEncoder(fixation, fixation.inputs["fused"], fixation.outputs["fixation_token"])

    def warmup(self) -> None:
        """Run every graph once."""
        for engine in self._engines:
            engine.run(1)

    def frame_memory(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Allocate a frame."""
        return ordinary_memory(shape)

    def abandon(self) -> None:
        """Forget what waits."""
        self._faces.waiting.clear()
        if self._fixations is not None:
            self._fixations.waiting.clear()

    def head(self, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        """Finish what waits, run the head, and return its outputs."""
        self._faces.flush()
        if self._fixations is not None:
            self._fixations.flush()
        for kind, rows in tokens_by_kind(windows, self._fixations is not None).items():
            for row, tokens in enumerate(rows):
                self._fill(kind, row, tokens)
        self._head.run(len(windows))
        return self._head.outputs

    def _fill(self, kind: str, row: int, tokens: Sequence[Token]) -> None:
        vectors = self._head.inputs[f"{kind}_tokens"][row]
        vectors[:] = 0  # what a head without masks reads where a token is missing
        place = len(vectors) - len(tokens)  # a young stream has fewer; the newest stands last
        real = [index for index, token in enumerate(tokens, start=place) if token.vector is not None]
        for index in real:
            vectors[index] = tokens[index - place].vector
        if (masks := self._head.inputs.get(f"{kind}_mask")) is not None:
            masks[row] = 0
            masks[row, real] = 1
