"""What vLLM and SGLang have in common beyond OpenAI's API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sft.generation.engine import Sampling
from sft.generation.openai_dialect import OpenAIDialect


@dataclass(frozen=True)
class HotLoadingDialect(OpenAIDialect):
    """A server that takes adapters while it runs. How it is told of them is each one's own."""

    hot_loads = True
    repeats_model = True

    def sampling_fields(self, sampling: Sampling) -> dict[str, Any]:
        """Its own fields: token ids of answer and prompt are asked for, and no limits but ours hold in sampling."""
        drawn = {"top_k": sampling.top_k or -1, "min_p": 0.0} if sampling.temperature > 0 else {}
        return super().sampling_fields(sampling) | drawn | {"return_token_ids": True}

    def probe_fields(self) -> dict[str, Any]:
        """No penalty that the model's generation config may bring."""
        return super().probe_fields() | {"repetition_penalty": 1.0}
