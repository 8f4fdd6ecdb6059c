"""Augmentation: in range, from its generator alone, and never the crop itself."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="augmentation needs the extra `train`")

from emert_edge.reference.augment import augment_crops, normalise_crops  # noqa: E402


@pytest.mark.parametrize("side", [48, 112])
def test_augmentation_stays_in_range_and_follows_its_generator(side: int) -> None:
    crops = torch.randint(0, 256, (8, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first = augment_crops(crops, torch.Generator().manual_seed(1))
    again = augment_crops(crops, torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment_crops(crops, torch.Generator().manual_seed(2)))
    assert first.shape == crops.shape
    assert -2.0 - 1e-5 <= first.min() <= first.max() <= 2.0 + 1e-5  # (0 - 0.5) / 0.25 to (1 - 0.5) / 0.25
    assert not torch.allclose(first, normalise_crops(crops), atol=0.1)


def test_blocks_cover_the_share_that_is_asked_for() -> None:
    crops = torch.full((64, 3, 48, 48), 128, dtype=torch.uint8)
    spread = [
        augment_crops(crops, torch.Generator().manual_seed(3), covered=share).std((1, 2, 3)) for share in (0.0, 1.0)
    ]
    assert (spread[1] > spread[0] + 1e-3).float().mean() > 0.8
