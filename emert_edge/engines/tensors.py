"""What a graph's tensors must be, whatever runs them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from emert_edge.errors import BundleIncompatible

__all__ = ["check_tensor", "is_input", "require_inputs"]


def is_input(name: str) -> bool:
    """Say whether a tensor of this name is one that a graph takes."""
    return name.endswith(("frame", "fused", "_tokens", "_mask", "_points"))


def check_tensor(
    where: str, name: str, shape: Sequence[int | None], kind: str, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """Return the shape of one row of a tensor, if the tensor is what the manifest asks for.

    Parameters
    ----------
    where
        Bundle and file, for messages.
    name, shape, kind
        The tensor as the runtime sees it; None for a dynamic dimension, "float32" for the one kind that is taken.
    shapes
        Shape of one row by tensor name, from the manifest.

    Raises
    ------
    BundleIncompatible
        Its name is unknown, or its kind, its shape or a fixed batch does not fit.
    """
    where = f"{where}, tensor {name!r}"
    if name not in shapes:
        raise BundleIncompatible(f"{where} is unknown; known are {', '.join(shapes)}")
    if kind != "float32":
        raise BundleIncompatible(f"{where} has type {kind}; graphs take and give float32")
    row = shapes[name]
    if tuple(shape[1:]) != row:
        seen = ", ".join("?" if size is None else str(size) for size in shape)
        raise BundleIncompatible(
            f"{where} has shape ({seen}); the manifest asks for (batch, {', '.join(map(str, row))})"
        )
    if shape[0] is not None:
        raise BundleIncompatible(f"{where} has a fixed batch of {shape[0]}; export with a dynamic one")
    return row


def require_inputs(where: str, inputs: Collection[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a graph that lacks an input: without, say, its masks it would run, and take what is missing for real.

    Raises
    ------
    BundleIncompatible
        The manifest gives the graph an input that it does not take.
    """
    for name in shapes:
        if is_input(name) and name not in inputs:
            raise BundleIncompatible(
                f"{where} does not take {name!r}, which the manifest gives it; export the bundle anew"
            )
