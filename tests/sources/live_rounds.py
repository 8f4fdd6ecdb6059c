"""What the tests of live trackers share."""

from __future__ import annotations

import time
from collections.abc import Iterator

from emert_edge.eye import GazeSamples
from emert_edge.sources.live_gaze import LiveGaze


def read(source: LiveGaze, seconds: float) -> Iterator[GazeSamples]:
    """What arrives within some seconds, without the pieces that hold nothing."""
    deadline = time.monotonic() + seconds
    for samples in source.chunks():
        if len(samples):
            yield samples
        if time.monotonic() > deadline:
            return
