"""What a session tells whoever writes it down: all that it took, in the order in which it took it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from emert_edge.estimate import Estimate, FaceBox
from emert_edge.eye.samples import GazeSamples

__all__ = ["Journal", "JournalToken"]


class JournalToken(Protocol):
    """One grid point's token, as `emert_edge.session.Token`; its vector is filled in until `settled` is called."""

    vector: npt.NDArray[np.float32] | None
    skew_ns: int
    face: FaceBox | None
    seen: bool


class Journal(Protocol):
    """Keeps what a session tells it. Calls come under the session's lock, from the thread that pushes or takes.

    What cannot be kept is an error where it happens.
    """

    def started(self, clock: str, stride_ns: int | None) -> None: ...

    def frame(
        self, stream: str, image: npt.NDArray[np.uint8] | None, t_ns: int, color: str, space: str | None
    ) -> None: ...

    def gaze(self, samples: GazeSamples) -> None: ...

    def offset(self, domain: str, offset_ns: int) -> None: ...

    def lost(self, frames: int, samples: int) -> None: ...

    def finished(self) -> None: ...

    def reset(self) -> None: ...

    def window(self, t_ns: int, points: Sequence[tuple[int, Any, Any]]) -> None:
        """A window was opened: the times, face tokens and fixation tokens of its new grid points."""

    def settled(self, estimates: Sequence[Estimate]) -> None:
        """The tokens of all windows so far are filled in, and this is what they say."""

    def close(self) -> None: ...
