"""The command line, as a user runs it: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

COMMAND = [sys.executable, "-c", "from emert_edge.cli import main; main()"]


@pytest.fixture
def command() -> list[str]:
    """Return what starts the command line in this environment."""
    return COMMAND


@pytest.fixture
def emert(tmp_path: Path) -> Run:
    """Run `emert-edge` in an empty folder; returns the finished process."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return run
