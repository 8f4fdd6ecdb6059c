"""One thread for torch, and a plan that trains in seconds: nothing is learnt, everything is run through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks: several threads would only wait for each other, for minutes on a busy machine."""
    torch = pytest.importorskip("torch", reason="the reference model needs the extra `train`")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_plan() -> Any:
    """A plan for the whole of training in a few seconds."""
    from emert_edge.reference.plan import TrainingPlan

    return TrainingPlan(
        faces=24,
        face_epochs=2,
        face_batch=8,
        sessions=3,
        session_s=8.0,
        session_epochs=2,
        session_steps=2,
        session_batch=4,
        test_faces=14,
        test_sessions=2,
    )
