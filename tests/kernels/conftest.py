"""Every test that asks for `isa` runs on each set of compiled bodies that this CPU has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emert_edge import _core


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.isa()
    _core.choose_isa(request.param)
    yield request.param
    _core.choose_isa(before)
