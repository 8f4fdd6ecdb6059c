"""What each kernel means: float64 NumPy, written to be read.

These functions are the specification. The compiled bodies are tested against them, on every instruction set.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


def fixation_map(xy: npt.ArrayLike, weight: npt.ArrayLike, shape: tuple[int, int], sigma: float) -> Float64:
    """Sum of weighted Gaussians at pixel centres, each cut to the pixels within ⌈4σ⌉ of the one it lies in.

    Parameters
    ----------
    xy : (n, 2) array
        Points in pixels; the pixel in row r and column c has its centre at (c + 0.5, r + 0.5).
    weight : (n,) array
        The Gaussians' heights. Points with a non-finite coordinate or weight are left out.
    shape : (height, width)
    sigma : float
        Standard deviation in pixels.

    Returns
    -------
    (height, width) float64
    """
    rows, columns = np.arange(shape[0]), np.arange(shape[1])
    reach = np.ceil(4 * sigma)
    total = np.zeros(shape)
    for (x, y), w in zip(np.reshape(xy, (-1, 2)).astype(np.float64), np.asarray(weight, np.float64), strict=True):
        if np.isfinite([x, y, w]).all():
            across = np.where(np.abs(columns - np.floor(x)) <= reach, gaussian(columns + 0.5 - x, sigma), 0.0)
            down = np.where(np.abs(rows - np.floor(y)) <= reach, gaussian(rows + 0.5 - y, sigma), 0.0)
            total += w * np.outer(down, across)
    return total


def gaussian(distance: Float64, sigma: float) -> Float64:
    """exp(−d² / 2σ²)."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(-((distance / sigma) ** 2) / 2)


def faded_fixation_map(
    t_ns: npt.ArrayLike,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    weight: npt.ArrayLike,
    shape: tuple[int, int],
    sigma: float,
    half_life_s: float,
    read_ns: int,
) -> Float64:
    """What a `FixationMap` reads at `read_ns`: each sample's weight halved for every half-life of its age.

    Parameters
    ----------
    t_ns : (n,) int64 array
        Times of the samples, in any order, none after `read_ns`.
    x, y, weight : (n,) arrays
        As in `fixation_map`.
    shape, sigma
        As in `fixation_map`.
    half_life_s : float
        In seconds; infinity means that nothing fades.
    read_ns : int

    Returns
    -------
    (height, width) float64
    """
    age_s = (read_ns - np.asarray(t_ns, np.int64)) * 1e-9
    faded = np.asarray(weight, np.float64) * 0.5 ** (age_s / half_life_s)
    return fixation_map(np.stack([x, y], axis=-1), faded, shape, sigma)


def box_mean(image: npt.ArrayLike, x: Float64, y: Float64, width: float, height: float) -> Float64:
    """Mean of an image over boxes of width × height centred on the points (x, y), its edges repeated outwards.

    A pixel is the unit square [c, c + 1] × [r, r + 1], with one value all over; the mean over a box is exact. A box of
    side 1 is bilinear interpolation.

    Parameters
    ----------
    image : (rows, columns) or (rows, columns, channels) array
    x, y : arrays of one shape
        Centres of the boxes.
    width, height : float
        Sides of the boxes.

    Returns
    -------
    x.shape or x.shape + (channels,) float64
    """
    pixels = np.asarray(image, np.float64)
    left, top = x - width / 2, y - height / 2
    total = np.zeros(x.shape + pixels.shape[2:])
    for i in range(int(np.ceil(height)) + 1):
        row = np.floor(top) + i
        covered_rows = np.clip(np.minimum(row + 1, top + height) - np.maximum(row, top), 0, None)
        nearest_row = np.clip(row, 0, pixels.shape[0] - 1).astype(np.intp)
        for j in range(int(np.ceil(width)) + 1):
            column = np.floor(left) + j
            covered_columns = np.clip(np.minimum(column + 1, left + width) - np.maximum(column, left), 0, None)
            nearest_column = np.clip(column, 0, pixels.shape[1] - 1).astype(np.intp)
            covered = (covered_rows * covered_columns).reshape(x.shape + (1,) * (pixels.ndim - 2))
            total += covered * pixels[nearest_row, nearest_column]
    return total / (width * height)


def resized(image: npt.ArrayLike, size: tuple[int, int]) -> Float64:
    """The image at another size, each axis by itself: area average where it shrinks, bilinear where it grows.

    Both are a box mean: output pixels are the cells of a grid laid over the image, and a pixel is the mean over its
    cell, or over a box of side 1 at the cell's centre where the cell is smaller than a source pixel.
    """
    rows, columns = np.shape(image)[:2]
    cell_height, cell_width = rows / size[0], columns / size[1]
    y, x = np.meshgrid((np.arange(size[0]) + 0.5) * cell_height, (np.arange(size[1]) + 0.5) * cell_width, indexing="ij")
    return box_mean(image, x, y, max(1.0, cell_width), max(1.0, cell_height))


def normalised_planes(pixels: Float64, mean: npt.ArrayLike, std: npt.ArrayLike, color: str) -> Float64:
    """(height, width, 3) values of 0–255 as planes R, G, B of (value / 255 − mean) / std."""
    rgb = pixels if color == "rgb" else pixels[..., ::-1]
    return np.moveaxis((rgb / 255 - np.asarray(mean)) / np.asarray(std), -1, 0)


def fuse_gaze_frame(
    frame: npt.NDArray[np.uint8],
    fixation_map: npt.ArrayLike,
    size: tuple[int, int],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: str = "bgr",
) -> Float64:
    """A frame and its fixation map at one size: planes R, G, B (normalised) and the map.

    Parameters
    ----------
    frame : (rows, columns, 3) uint8
    fixation_map : (rows', columns') array
        Need not have the frame's size.
    size : (height, width)
    mean, std : (3,) arrays
        R, G, B, for values in [0, 1].
    color : "bgr" or "rgb"
        The frame's channel order.

    Returns
    -------
    (4, height, width) float64
    """
    planes = normalised_planes(resized(frame, size), mean, std, color)
    return np.concatenate([planes, resized(fixation_map, size)[None]])


def crop_normalize(
    frame: npt.NDArray[np.uint8],
    affine: npt.ArrayLike,
    size: tuple[int, int],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    *,
    color: str = "bgr",
) -> Float64:
    """An affine crop as normalised planes R, G, B.

    An output pixel is the mean over an axis-aligned box centred on its source point, with sides of the length of the
    inverse affine's row (how far apart the source points of neighbouring pixels lie along that axis), at least 1.

    Parameters
    ----------
    frame : (rows, columns, 3) uint8
    affine : (2, 3) array
        Source to output, both in index coordinates (pixel centres at integers), as `cv2.warpAffine` takes it.
    size : (height, width)
    mean, std : (3,) arrays
        R, G, B, for values in [0, 1].
    color : "bgr" or "rgb"
        The frame's channel order.

    Returns
    -------
    (3, height, width) float64
    """
    matrix = np.asarray(affine, np.float64)
    inverse = np.linalg.inv(matrix[:, :2])
    v, u = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    x, y = np.tensordot(inverse, np.stack([u - matrix[0, 2], v - matrix[1, 2]]), axes=1)
    width, height = np.maximum(1.0, np.linalg.norm(inverse, axis=1))
    return normalised_planes(box_mean(frame, x + 0.5, y + 0.5, width, height), mean, std, color)


def assemble_tokens(tokens: npt.ArrayLike, index: npt.ArrayLike) -> tuple[Float64, Float64]:
    """Tokens of a store at the places of a head's input, and which places have one.

    Parameters
    ----------
    tokens : (capacity, length) array
    index : (…, places) integers
        Outside of [0, capacity): no token stands there.

    Returns
    -------
    (…, places, length) float64, (…, places) float64
        Zeros where there is no token; 1 where there is one, else 0.
    """
    store, place = np.asarray(tokens, np.float64), np.asarray(index)
    stands = (place >= 0) & (place < len(store))
    chosen = store[np.where(stands, place, 0)] if len(store) else np.zeros((*place.shape, store.shape[1]))
    return np.where(stands[..., None], chosen, 0.0), stands.astype(np.float64)
