"""Arrays that grow hold what was put into them, whatever the pieces."""

from __future__ import annotations

import numpy as np
import pytest

from emert_edge.eye.growing import GrowingArray


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
@pytest.mark.parametrize("piece", [1_000, 123_457])
def test_what_was_put_in_comes_out(dtype: type, piece: int) -> None:
    values = np.random.default_rng(0).integers(0, 1_000, 300_000).astype(dtype)
    growing = GrowingArray(dtype)
    for first in range(0, values.size, piece):
        growing.extend(values[first : first + piece])
    growing.repeat(7, 5)
    assert len(growing) == 300_005
    np.testing.assert_array_equal(growing.array(), np.append(values, np.full(5, 7, dtype)))
    assert growing.array().dtype == dtype


def test_an_array_stays_when_it_is_outgrown() -> None:
    growing = GrowingArray(np.int64)
    growing.extend(np.arange(200_000))
    before = growing.array()
    growing.extend(np.arange(2_000_000))
    np.testing.assert_array_equal(before, np.arange(200_000))
    assert len(GrowingArray(np.int64).array()) == 0
