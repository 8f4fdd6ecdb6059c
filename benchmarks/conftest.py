"""What every benchmark shares: where real data lie, and a closing table of what was measured besides mean times."""

from __future__ import annotations

from pathlib import Path

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
