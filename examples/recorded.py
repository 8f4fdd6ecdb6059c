"""Estimate a recording: python examples/recorded.py CLIP GAZE

Without arguments a simulated session stands in for both.
"""

from __future__ import annotations

import sys

from emert_edge import Recognizer
from emert_edge.simulation import SimulatedSession


def main() -> None:
    if len(sys.argv) == 3:
        face, gaze = sys.argv[1], sys.argv[2]
    else:
        simulated = SimulatedSession.from_seed(1, duration_s=6.0)
        face, gaze = simulated.face_source(), simulated.gaze
    with Recognizer() as recognizer:
        for estimate in recognizer.run(face, gaze):
            missing = f"  ({', '.join(estimate.quality.degraded)})" if estimate.quality.degraded else ""
            print(
                f"{estimate.time_s:6.1f} s  shown {estimate.expression.label:10} felt {estimate.emotion.label:10} "
                f"gap {estimate.gap:.2f}{missing}"
            )


if __name__ == "__main__":
    main()
