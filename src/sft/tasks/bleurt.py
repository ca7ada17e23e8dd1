"""BLEURT through transformers. Imported only when it is asked for: it is the one scorer that is a model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sft.errors import ModelError

BATCH_PAIRS = 64


class Bleurt:
    """A sequence classifier with one output that was trained as BLEURT. Scores have no bounds and may be negative.

    The model is loaded at the first pair and kept, on a CUDA device where there is one.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    @property
    def name(self) -> str:
        return f"bleurt:{self.checkpoint}"

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """Pairs of like length share a batch; the order asked is the order answered."""
        tokenizer, model = self._loaded
        order = sorted(range(len(predictions)), key=lambda pair: len(predictions[pair]) + len(references[pair]))
        scores = [0.0] * len(order)
        for start in range(0, len(order), BATCH_PAIRS):
            chosen = order[start : start + BATCH_PAIRS]
            batch = tokenizer(
                [references[pair] for pair in chosen],
                [predictions[pair] for pair in chosen],
                padding=True,
                truncation="longest_first",
                max_length=model.config.max_position_embeddings,
                return_tensors="pt",
            ).to(model.device)
            with torch.inference_mode():
                found = model(**batch).logits[:, 0].float().tolist()
            for pair, score in zip(chosen, found, strict=True):
                scores[pair] = score
        return scores

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any]:
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.checkpoint)
            model = AutoModelForSequenceClassification.from_pretrained(self.checkpoint)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"bleurt_checkpoint {self.checkpoint!r} cannot be loaded: {reason}") from error
        if model.config.num_labels != 1:
            raise ModelError(
                f"bleurt_checkpoint {self.checkpoint!r} has {model.config.num_labels} outputs; BLEURT has one. Give a "
                "BLEURT model in transformers' format"
            )
        return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
