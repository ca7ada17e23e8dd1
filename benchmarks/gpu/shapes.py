"""Models of Qwen3's shapes with random weights, and how many floating point operations a token of them takes.

Counted: linear layers 6 per weight and token (forward 2, backward 4), or 4 where the weight is frozen under an adapter;
the adapter's own weights 6; attention within a document once, causally; the head on all positions; nothing twice for
gradient checkpointing. What a program saves beyond that (a head on trained positions alone) shows as more tokens, not
as another count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LORA_RANK = 16


@dataclass(frozen=True)
class Shape:
    """Sizes of one model."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    vocabulary: int = 151_936

    @property
    def linear_layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers of one decoder layer."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return [
            (self.hidden, wide), (self.hidden, narrow), (self.hidden, narrow), (wide, self.hidden),
            (self.hidden, self.intermediate), (self.hidden, self.intermediate), (self.intermediate, self.hidden),
        ]  # fmt: skip

    @property
    def layer_weights(self) -> int:
        """Of all linear layers but the head."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linear_layers)

    @property
    def head_weights(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def adapter_weights(self) -> int:
        """Of LoRA matrices on every linear layer but the head."""
        return LORA_RANK * self.layers * sum(inputs + outputs for inputs, outputs in self.linear_layers)

    def flops_per_token(self, attended: float, *, lora: bool) -> float:
        """Floating point operations of forward and backward for one token.

        Args:
            attended: length of a token's document, in the mean over tokens: ``mean_attended``.
        """
        attention = 6 * attended * self.heads * self.head_dim * self.layers
        if lora:
            return 4 * (self.layer_weights + self.head_weights) + 6 * self.adapter_weights + attention
        return 6 * (self.layer_weights + self.head_weights) + attention

    def config(self) -> dict[str, object]:
        """For ``transformers.Qwen3Config``."""
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": 40_960,
            "rope_theta": 1_000_000.0,
        }


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("0.6B", 1024, 3072, 28, 16, 8, 128, tied=True),
        Shape("1.7B", 2048, 6144, 28, 16, 8, 128, tied=True),
        Shape("8B", 4096, 12_288, 36, 32, 8, 128, tied=False),
        Shape("tiny", 32, 64, 2, 2, 1, 16, tied=True, vocabulary=512),
    )
}
"""Qwen3's own, and one to try everything out on a CPU."""


def mean_attended(lengths: Sequence[int]) -> float:
    """The length of a token's document, in the mean over all tokens."""
    return sum(length * length for length in lengths) / sum(lengths)
