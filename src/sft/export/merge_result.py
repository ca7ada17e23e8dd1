"""What a merge says of itself: to the caller, to people, and on the merged model's card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.export.adapter import Adapter
from sft.export.card import CARD_NAME, render_merged_card


@dataclass(frozen=True, kw_only=True)
class MergeResult:
    """Where the merged model lies, and how far it is from the adapter."""

    path: Path
    base_model: str
    adapter_path: str
    dtype: str
    """Precision of the written weights."""

    max_logit_difference: float | None
    """Largest difference of any logit between the adapter and the model as written, computed in float32. None: the
    model did not fit into memory, and its layers were compared one by one."""

    max_difference: float | None
    """The bound it was held to."""

    top1_agreement: float | None
    """Share of positions at which both find the same token likeliest."""

    num_prompts: int
    num_positions: int
    max_layer_difference: float | None
    """Largest difference of one layer's answers, adapter against merged, as a share of its largest answer. Of the
    weights as written where no logits were compared, else of the weights before they are rounded to ``dtype``. None:
    merged in memory."""

    num_layers: int
    """Layers that were compared so."""

    tie_word_embeddings: bool
    peak_memory: int | None
    """Bytes by which the memory of this process rose during the merge itself, the check not counted; None where the
    system does not say."""

    largest_file: int
    """Bytes of the largest weight file written."""

    top1_agreement_as_trained: float | None = None
    """The same with the adapter over the rounded weights it was trained over, where its base was held in few bits."""

    notes: tuple[str, ...] = ()
    """What the user should know, such as a base model that is not the one the adapter names."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self.__dict__, "path": str(self.path), "notes": list(self.notes)}

    def agreement(self) -> list[tuple[str, str]]:
        """How the merged model was compared with the adapter: names and figures."""
        if self.max_logit_difference is None:
            return [
                ("compared", f"{self.num_layers} layers as written, on random inputs"),
                ("layer difference", f"{self.max_layer_difference or 0:.2e} of the largest output"),
            ]
        figures = [
            ("compared", f"{self.num_prompts} prompts, {self.num_positions} positions"),
            ("max logit difference", f"{self.max_logit_difference:.2e}  (allowed {self.max_difference:.2e})"),
            ("top-1 agreement", f"{self.top1_agreement:.2%}"),
        ]
        if self.top1_agreement_as_trained is not None:
            figures.append(("on rounded base", f"{self.top1_agreement_as_trained:.2%}, as it was trained"))
        return figures

    def memory(self) -> str | None:
        """Peak memory beside the largest file."""
        if self.peak_memory is None:
            return None
        return f"{describe_bytes(self.peak_memory)} above start; largest file {describe_bytes(self.largest_file)}"


def describe_bytes(count: int) -> str:
    """Decimal units, as file sizes are given to ``max_shard_size``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} KB"


def card_of(result: MergeResult, adapter: Adapter) -> str:
    """The merged model's card."""
    own_card = adapter.path / CARD_NAME
    figures: Mapping[str, Any] = {**dict(result.agreement()), "weights": result.dtype}
    return render_merged_card(
        base_model=result.base_model,
        adapter=result.adapter_path,
        figures=figures,
        adapter_card=own_card.read_text(encoding="utf-8") if own_card.is_file() else None,
        name=result.path.name,
    )
