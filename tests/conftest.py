"""Where the tests find real data: beside the checkout, never inside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Seeds are fixed: a run of the tests gives what the last one gave.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("few", derandomize=True, max_examples=5, deadline=None)  # in an emulator
settings.load_profile(os.environ.get("EMERT_EXAMPLES", "fixed"))

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def _beside(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no real data here: {folder} is absent")
    return folder


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run from an empty folder: what is tested is the installed package, also in the processes that tests start."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings, faces and labels."""
    return _beside("data")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Third-party models used as peers."""
    return _beside("models")
