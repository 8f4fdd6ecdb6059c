"""INT8 graphs that may take FP32's place: calibration data, placement of Q/DQ, a linter, and the gate."""

from __future__ import annotations

from .gate import Bounds, Verdict
from .lint import RULES, Finding, lint_tensorrt
from .quantization import SAMPLES, quantize
from .report import Report

__all__ = ["RULES", "SAMPLES", "Bounds", "Finding", "Report", "Verdict", "lint_tensorrt", "quantize"]
