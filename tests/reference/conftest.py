"""One thread for torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks: several threads would only wait for each other, for minutes on a busy machine."""
    torch = pytest.importorskip("torch", reason="the reference model needs the extra `train`")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
