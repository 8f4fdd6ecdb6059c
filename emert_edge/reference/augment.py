"""What happens to a face crop on its way into training: everything a camera and a detector may do to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from emert_edge.bundle.manifest import FaceInput

__all__ = ["augment_crops", "normalise_crops", "sent"]

#: Mean and deviation of our models' input, the same for each plane, whatever the crop's size.
MEAN, DEVIATION = FaceInput().mean[0], FaceInput().std[0]


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values drawn on the CPU, on `device`: through pinned memory, so that no step waits for the one before it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def normalise_crops(crops: Tensor) -> Tensor:
    """(n, 3, H, W) uint8 RGB to the face encoder's input, float32."""
    return (crops.float() / 255 - MEAN) / DEVIATION


def augment_crops(crops: Tensor, generator: torch.Generator, *, covered: float = 0.35) -> Tensor:
    """Mirrored, moved, turned, relit, greyed, blurred, covered, noisy: each with its own probability.

    Parameters
    ----------
    crops : Tensor
        (n, 3, H, W) uint8, RGB.
    generator : torch.Generator
        All chance comes from here; on the CPU, so that all but the pixels' noise is the same wherever the crops lie.

    Returns
    -------
    Tensor
        (n, 3, H, W) float32, normalised.
    """
    count, device = crops.shape[0], crops.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * sent(torch.rand(count, *shape, generator=generator), device)

    def chosen(probability: float) -> Tensor:
        return uniform(0, 1, 1, 1, 1) < probability

    x = crops.float() / 255
    # One resampling for mirror, shift, scale and turn.
    angle = torch.deg2rad(8 * sent(torch.randn(count, generator=generator), device))
    scale = uniform(0.85, 1.15)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    across = torch.stack([mirror * cos, -sin, uniform(-0.1, 0.1)], 1)
    down = torch.stack([mirror * sin, cos, uniform(-0.1, 0.1)], 1)
    theta = torch.stack([across, down], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    grey = (0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]).expand_as(x)
    x = torch.where(chosen(0.2), grey, x)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * uniform(0.7, 1.3, 1, 1, 1) + mean * uniform(0.7, 1.3, 1, 1, 1)
    x = x * uniform(0.9, 1.1, 3, 1, 1)

    slight = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(chosen(0.1), slight, x)

    # A block of one colour: a hand, a cup, the edge of a screen.
    rows, columns = x.shape[2:]
    middle_y, middle_x = uniform(0, rows, 1, 1, 1), uniform(0, columns, 1, 1, 1)
    half_y, half_x = uniform(0.04, 0.16, 1, 1, 1) * rows, uniform(0.04, 0.16, 1, 1, 1) * columns
    row = torch.arange(rows, device=device).view(1, 1, -1, 1)
    column = torch.arange(columns, device=device).view(1, 1, 1, -1)
    hidden = ((row - middle_y).abs() < half_y) & ((column - middle_x).abs() < half_x) & chosen(covered)
    x = torch.where(hidden, uniform(0, 1, 3, 1, 1), x)

    noise = torch.Generator(device)  # too many numbers to be drawn elsewhere and moved
    noise.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    x = x + torch.randn(x.shape, generator=noise, device=device) * uniform(0, 0.03, 1, 1, 1)
    return (x.clamp(0, 1) - MEAN) / DEVIATION
