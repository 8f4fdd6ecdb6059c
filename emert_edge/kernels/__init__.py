"""Fixation maps, gaze-fused frames and face crops: the typed face of the compiled core.

Every kernel releases the GIL. Each has an ``_into`` twin that writes to an output of the caller's and allocates nothing
(a thread keeps a little working memory between its calls; arrays of points that are neither float32 nor float64 are
converted, which allocates). An output of ``_into`` is float32, C-contiguous, writable, and apart from the inputs.
`definitions` holds what each kernel means, in float64 NumPy.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from emert_edge import _core
from emert_edge.kernels import definitions

__all__ = [
    "FixationMap",
    "crop_normalize",
    "crop_normalize_into",
    "definitions",
    "fixation_map",
    "fixation_map_into",
    "fuse_gaze_frame",
    "fuse_gaze_frame_into",
    "instruction_set",
]

Float32 = npt.NDArray[np.float32]
Color = Literal["bgr", "rgb"]


def instruction_set() -> str:
    """Which bodies of the kernels this CPU runs: ``"baseline"``, ``"avx2"`` or ``"avx512"``."""
    return _core.isa()


def fixation_map(xy: npt.ArrayLike, weight: npt.ArrayLike, shape: tuple[int, int], sigma: float) -> Float32:
    """Sum of weighted Gaussians at pixel centres: Σ wᵢ exp(−‖p − pᵢ‖² / 2σ²).

    A map of shape (H, W) spans [0, W] × [0, H]; the pixel in row r and column c has its centre at (c + 0.5, r + 0.5).
    A point at (x, y) reaches the pixels with |c − ⌊x⌋| ≤ R and |r − ⌊y⌋| ≤ R, R = ⌈4σ⌉: one that lies outside of the
    map still reaches into it. The largest error is about 1e-6 of the map's maximum.

    Parameters
    ----------
    xy : (n, 2) array of real numbers
        Points in pixels. A point with a coordinate or weight that is NaN or infinite is skipped.
    weight : (n,) array of real numbers
        The Gaussians' heights, of any sign.
    shape : (height, width)
    sigma : float
        Standard deviation in pixels.

    Returns
    -------
    (height, width) float32

    Raises
    ------
    ValueError
        A shape that doesn't fit, or a sigma that isn't finite and above 0.
    TypeError
        `xy` or `weight` that don't hold real numbers.

    Examples
    --------
    >>> fixation_map([(1.5, 0.5)], [2.0], (1, 4), 1.0).round(3)
    array([[1.213, 2.   , 1.213, 0.271]], dtype=float32)
    """
    return _core.fixation_map(xy, weight, shape, sigma)


def fixation_map_into(out: Float32, xy: npt.ArrayLike, weight: npt.ArrayLike, sigma: float) -> None:
    """`fixation_map` into `out`, (height, width) float32."""
    _core.fixation_map_into(out, xy, weight, sigma)


class FixationMap:
    """A fixation map of a stream, in which each sample's weight halves every half-life.

    Samples may come in any order of time: the map is the same as if they had come in order. Adding costs the same
    however long the stream has run, and fading costs nothing until the map is read. Sums are kept in float64. Methods
    may be called from several threads.

    Parameters
    ----------
    shape : (height, width)
    sigma : float
        Standard deviation in pixels.
    half_life_s : float
        In seconds; infinity means that nothing fades.

    Raises
    ------
    ValueError
        A size, sigma or half-life that isn't above 0.

    Examples
    --------
    >>> stream = FixationMap((1, 3), sigma=1.0, half_life_s=2.0)
    >>> stream.add(0, 1.5, 0.5, 8.0)
    >>> stream.read(4_000_000_000).round(3)
    array([[1.213, 2.   , 1.213]], dtype=float32)
    """

    __slots__ = ("_stream", "half_life_s", "shape", "sigma")

    def __init__(self, shape: tuple[int, int], sigma: float, half_life_s: float) -> None:
        self._stream = _core.FixationStream(shape, sigma, half_life_s)
        self.shape = (int(shape[0]), int(shape[1]))
        self.sigma = float(sigma)
        self.half_life_s = float(half_life_s)

    def add(self, t_ns: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike) -> None:
        """Add one sample or many.

        Parameters
        ----------
        t_ns : int or (n,) array of integers
            Times in nanoseconds.
        x, y : float or (n,) arrays
            Points in pixels of the map, as in `fixation_map`. A sample with a coordinate or weight that is NaN or
            infinite is skipped, and its time with it.
        weight : float or (n,) array
            Weights at the samples' own times.

        Arrays have one length; a scalar among them goes with every sample.

        Raises
        ------
        ValueError
            Arrays of different lengths, or of more than one dimension.
        TypeError
            Times that aren't integers, coordinates or weights that aren't real numbers.
        """
        self._stream.add(t_ns, x, y, weight)

    def read(self, t_ns: int) -> Float32:
        """Return the map as of a time, (height, width) float32, an array of its own.

        Parameters
        ----------
        t_ns : int
            Not before the newest sample: what came after a time cannot be taken out again.

        Raises
        ------
        ValueError
            A time before the newest sample.
        """
        return self._stream.read(t_ns)

    def read_into(self, out: Float32, t_ns: int) -> None:
        """`read` into `out`, (height, width) float32."""
        self._stream.read_into(out, t_ns)

    def reset(self) -> None:
        """Forget every sample."""
        self._stream.reset()


def fuse_gaze_frame(
    frame: npt.NDArray[np.uint8],
    fixation_map: Float32,
    size: tuple[int, int],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Color = "bgr",
) -> Float32:
    """Lay a fixation map over the frame that was looked at: planes R, G, B (normalised) and map, at one size.

    Each axis is resampled by itself: where the output is smaller, a pixel is the average over the source area that it
    covers (``cv2.INTER_AREA`` before its rounding); where it is larger, bilinear with half-pixel centres. An axis that
    shrinks is averaged even when the other one grows. The map is resampled likewise.

    Parameters
    ----------
    frame : (rows, columns, 3) uint8, any strides
    fixation_map : (rows', columns') float32, any strides
        Over the same view as the frame, of any size.
    size : (height, width)
    mean, std : (3,) arrays
        R, G, B, for values in [0, 1].
    color : "bgr" or "rgb"
        The frame's channel order.

    Returns
    -------
    (4, height, width) float32

    Raises
    ------
    ValueError
        A shape, size or colour that doesn't fit, or a zero in `std`.
    TypeError
        A frame that isn't uint8, or a map that isn't float32.
    """
    return _core.fuse_gaze_frame(frame, fixation_map, size, mean, std, color=color)


def fuse_gaze_frame_into(
    out: Float32,
    frame: npt.NDArray[np.uint8],
    fixation_map: Float32,
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Color = "bgr",
) -> None:
    """`fuse_gaze_frame` into `out`, (4, height, width) float32."""
    _core.fuse_gaze_frame_into(out, frame, fixation_map, mean, std, color=color)


def crop_normalize(
    frame: npt.NDArray[np.uint8],
    affine: npt.ArrayLike,
    size: tuple[int, int],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Color = "bgr",
) -> Float32:
    """Cut an antialiased, normalised crop out of a frame.

    A pixel is the mean over an axis-aligned source box centred on its source point, with sides max(1, the length of
    the inverse affine's row): bilinear at side 1. Pixels are unit squares, and the mean is exact. Outside of the frame
    its edge is repeated.

    Parameters
    ----------
    frame : (rows, columns, 3) uint8, any strides
    affine : (2, 3) array
        Source to output, both in index coordinates (pixel centres at integers), as ``cv2.warpAffine`` takes it.
    size : (height, width)
    mean, std : (3,) arrays
        R, G, B, for values in [0, 1].
    color : "bgr" or "rgb"
        The frame's channel order.

    Returns
    -------
    (3, height, width) float32

    Raises
    ------
    ValueError
        A shape, size or colour that doesn't fit, an affine without a finite inverse, or a zero in `std`.
    TypeError
        A frame that isn't uint8.
    """
    return _core.crop_normalize(frame, affine, size, mean, std, color=color)


def crop_normalize_into(
    out: Float32,
    frame: npt.NDArray[np.uint8],
    affine: npt.ArrayLike,
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: Color = "bgr",
) -> None:
    """`crop_normalize` into `out`, (3, height, width) float32."""
    _core.crop_normalize_into(out, frame, affine, mean, std, color=color)
