"""What the tests of gaze readers share: equal samples, and cuts through a file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emert_edge.errors import EmertError
from emert_edge.eye import GazeSamples
from emert_edge.eye.samples import ARRAY_NAMES
from emert_edge.sources import open_gaze

# Not ru_maxrss: that begins with what the parent process had.
_PEAK = """
import sys
from emert_edge.sources import open_gaze
count = len(open_gaze(sys.argv[1]).samples)
with open("/proc/self/status") as status:
    print(count, next(line for line in status if line.startswith("VmHWM")).split()[1])
"""


def same(ours: GazeSamples, theirs: GazeSamples, count: int | None = None) -> None:
    """Equal samples, or equal ones as far as the first goes."""
    length = len(theirs) if count is None else count
    assert len(ours) == length
    np.testing.assert_array_equal(ours.t_ns, theirs.t_ns[:length])
    for name in ARRAY_NAMES:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name)[:length])


def cut_anywhere(
    path: Path, whole: bytes, seed: int, *, count: int = 150, read: Callable[[Path], GazeSamples] | None = None
) -> set[str]:
    """Cut the file at many places: each time it is refused by its name, or the samples so far are read."""
    read = read or (lambda file: open_gaze(file).samples)
    path.write_bytes(whole)
    reference = read(path)
    rng = np.random.default_rng(seed)
    cuts = {*rng.integers(0, len(whole), count).tolist(), *range(len(whole) - 60, len(whole))}
    outcomes = set()
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        try:
            samples = read(path)
        except EmertError as error:
            assert path.name in str(error)  # noqa: PT017
            outcomes.add("refused")
            continue
        outcomes.add("read")
        same(samples, reference, len(samples))
    return outcomes


def peak_bytes(path: Path) -> tuple[int, int]:
    """How many samples a process of its own reads, and the most memory that it takes.

    The least of six tries: what a busy system adds is not the reader's.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    command = [sys.executable, "-c", _PEAK, str(path)]
    tries = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(6)]
    return min((int(count), 1024 * int(kib)) for count, kib in tries)
