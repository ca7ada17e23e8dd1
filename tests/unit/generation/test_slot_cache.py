from __future__ import annotations

import torch
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from sft.generation.slot_cache import SlotCache


def filled(rows: int, columns: int, *, window: int | None = None, seed: int = 0) -> DynamicCache:
    """A cache of two layers as a model leaves it after prompts of ``columns`` tokens."""
    generator = torch.Generator().manual_seed(seed)
    cache = DynamicCache()
    if window is not None:
        cache = DynamicCache()
        cache.layer_class_to_replicate = None
        cache.layers = [DynamicSlidingWindowLayer(window), DynamicSlidingWindowLayer(window)]
    for layer in range(2):
        keys, values = torch.randn((2, rows, 3, columns, 4), generator=generator)
        cache.update(keys, values, layer)
    return cache


def read_row(cache: SlotCache, layer: int, slot: int, length: int) -> torch.Tensor:
    """Keys of the last ``length`` columns, the last of them written now."""
    new = torch.full((len(cache.layers[layer].keys), 3, 1, 4), 7.0)
    keys, values = cache.update(new, new + 1, layer)
    assert torch.equal(values[slot, :, -1:], new[slot] + 1)
    return keys[slot, :, -length:]


def test_rows_stay_what_they_were_wherever_they_move() -> None:
    prompts = filled(3, 10)
    cache = SlotCache(prompts)
    cache.lay_out([], 0, slots=4, columns=40, clock=12)
    cache.fill([1, 3], prompts, [2, 0], [10, 6])
    cache.first = 2
    assert cache.get_seq_length() == 10
    assert cache.get_mask_sizes(1, 0) == (11, 0)
    for layer in range(2):
        assert torch.equal(read_row(cache, layer, 1, 11)[:, :-1], prompts.layers[layer].keys[2])
    assert cache.clock == 13
    cache.lay_out([3, 1], 11, slots=2, columns=30, clock=20)
    assert cache.clock == 20
    cache.first = 20 - 7
    for layer in range(2):
        row = read_row(cache, layer, 0, 8)
        assert torch.equal(row[:, :6], prompts.layers[layer].keys[0, :, -6:])
        assert torch.equal(row[:, 6:], torch.full((3, 2, 4), 7.0))


def test_a_window_is_read_and_announced_as_wide_as_it_is() -> None:
    prompts = filled(2, 10, window=5)  # keeps the last four
    cache = SlotCache(prompts)
    cache.lay_out([], 0, slots=2, columns=40, clock=10)
    cache.fill([0], prompts, [1], [10])
    cache.first = 0
    assert cache.get_seq_length() == 10
    assert cache.get_mask_sizes(1, 0) == (5, 6)
    keys = read_row(cache, 0, 0, 99)
    assert keys.shape[1] == 5
    assert torch.equal(keys[:, :4], prompts.layers[0].keys[1])
