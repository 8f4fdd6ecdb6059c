"""What every benchmark shares: where real data lie, and a closing table of what was measured besides mean times."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and faces."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real data here: {SHARED / 'data'} is absent")
    return SHARED / "data"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print each benchmark's own figures: percentiles, ratios, memory."""
    session = getattr(config, "_benchmarksession", None)
    rows = [(one.name, one.extra_info) for one in getattr(session, "benchmarks", []) if one.extra_info]
    if rows:
        terminalreporter.write_sep("-", "figures")
        for name, figures in rows:
            shown = ", ".join(f"{key} {value}" for key, value in figures.items())
            terminalreporter.write_line(f"{name}: {shown}")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Note the versions of what was measured."""
    named = ("numpy", "opencv-python-headless", "onnxruntime", "torch", "pymovements", "pandas")
    found = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    machine_info["packages"] = {name: found[name] for name in named if name in found}


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """Add the percentiles that the page shows."""
    for one, written in zip(benchmarks, output_json["benchmarks"], strict=True):
        p90, p99 = np.percentile(one.stats.data, (90, 99))
        written["stats"] |= {"p90": float(p90), "p99": float(p99)}
