"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("reference", "export", "calibration")


def modules_with_examples() -> list[str]:
    files = [file for room in ("emert_edge", "export", "calibration") for file in sorted((ROOT / room).rglob("*.py"))]
    names = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if ">>> " in file.read_text("utf-8")
    ]
    return [name if name.startswith("emert_edge.") else f"emert_edge.{name}" for name in names]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_give_what_they_say(name: str) -> None:
    if name.split(".")[1] in HEAVY:
        pytest.importorskip("torch", reason="the extra that this module needs is not installed")
    done = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert done.attempted > 0
    assert done.failed == 0
