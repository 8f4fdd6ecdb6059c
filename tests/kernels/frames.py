"""Frames and settings that the frame kernels' tests share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


def random_frame(height: int, width: int, seed: int = 1) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Ways in which a frame of some size may lie in memory.
LAYOUTS: dict[str, Callable[[int, int], Frame]] = {
    "contiguous": random_frame,
    "region of a larger frame": lambda h, w: random_frame(h + 9, w + 7)[4 : 4 + h, 3 : 3 + w],
    "every second row": lambda h, w: random_frame(2 * h, w)[::2],
    "every third column": lambda h, w: random_frame(h, 3 * w)[:, ::3],
    "upside down": lambda h, w: random_frame(h, w)[::-1],
    "mirrored": lambda h, w: random_frame(h, w)[:, ::-1],
    "channels reversed": lambda h, w: random_frame(h, w)[..., ::-1],
    "all reversed": lambda h, w: random_frame(h, w)[::-1, ::-1, ::-1],
    "planar": lambda h, w: np.moveaxis(random_frame(h, w).transpose(2, 0, 1).copy(), 0, -1),
    "transposed": lambda h, w: random_frame(w, h).transpose(1, 0, 2),
    "colours of a four-channel frame": lambda h, w: np.concatenate(
        [random_frame(h, w), random_frame(h, w, seed=2)[..., :1]], axis=2
    )[..., :3],
    "one row repeated": lambda h, w: np.broadcast_to(random_frame(1, w), (h, w, 3)),
    "one pixel repeated": lambda h, w: np.broadcast_to(random_frame(1, 1), (h, w, 3)),
}
