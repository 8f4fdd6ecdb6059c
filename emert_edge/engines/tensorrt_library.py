"""TensorRT's Python bindings, loaded when used, and its log.

Only the files of TensorRT in this room import them, and only after the driver was asked: without one the bindings load,
and crash the process later.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from emert_edge.engines.tensors import check_tensor

__all__ = ["check_binding", "take_errors", "tensorrt", "tensorrt_log"]

_log = logging.getLogger("emert_edge")
_errors: deque[str] = deque(maxlen=16)


def tensorrt() -> Any:
    """Return the bindings' module."""
    import tensorrt as bindings

    return bindings


@cache
def tensorrt_log() -> Any:
    """Return the one logger of this process: TensorRT takes a second one amiss."""
    base: Any = tensorrt().ILogger
    levels = {"WARNING": logging.WARNING, "INFO": logging.DEBUG, "VERBOSE": logging.DEBUG}

    class Log(base):  # type: ignore[misc]  # a class of the bindings
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            level = levels.get(severity.name, logging.ERROR)
            if level == logging.ERROR:
                _errors.append(msg)
            if severity.name != "VERBOSE":
                _log.log(level, "TensorRT: %s", msg)

    return Log()


def take_errors() -> str:
    """Return what TensorRT has reported as errors since the last call: its calls say why they fail in the log alone."""
    said = "; ".join(dict.fromkeys(_errors))
    _errors.clear()
    return said or "it gave no reason"


def check_binding(
    where: str, name: str, dtype: Any, dims: Sequence[int], shapes: Mapping[str, tuple[int, ...]], *, taken: bool
) -> None:
    """Check a tensor of a network or an engine against the manifest, as `check_tensor` does.

    Of an output TensorRT need not know every size before it runs; what it leaves open is checked when it does.
    """
    kind = "float32" if dtype == tensorrt().DataType.FLOAT else dtype.name
    sizes = [None if size < 0 else size for size in dims]
    expected = (None, *shapes.get(name, ()))
    if not taken and len(sizes) == len(expected):
        sizes = [None, *(known if size is None else size for size, known in zip(sizes[1:], expected[1:], strict=True))]
    check_tensor(where, name, sizes, kind, shapes)
