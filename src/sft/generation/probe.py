"""Finds prompts at which a live model with its adapter, and without it, would say different things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

from sft.errors import GenerationError
from sft.generation.engine import Prompt
from sft.generation.in_process import undisturbed
from sft.generation.prompt_text import text_for
from sft.generation.prompts import decode, encode_prompt
from sft.generation.proof import DECISIVE_MARGIN, Probe, ProbePrompt, Weights

MAX_TOKENS = 256
"""Of each text, its last so many are looked at."""

FIRST_TOKENS = 4
"""No prompt is shorter than this."""

TEXTS = (
    "The committee met on Tuesday to discuss the budget for the coming year. After a long debate, the members agreed "
    "that the proposal needed more work, and asked the treasurer to come back with a plan that",
    "Question: Which river flows through Vienna, Budapest and Belgrade?\nAnswer: The river is the",
    "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    return",
    "Once upon a time there was a little girl who lived near the forest. One day she found a small box. She opened it",
    "北京是中国的首都，也是一座有三千多年历史的城市。这座城市最有名的地方是",
    "Summarize the following dialogue in one sentence.\n\nAnna: Did you send the report?\nBen: Not yet, I will do it",
)
"""Where no prompts are given: prose, a question, code, a tale, Chinese, an instruction."""


class _Place(NamedTuple):
    """One position of one text, and what both think comes next."""

    worth: tuple[float, bool, float]
    """Larger is better: how firmly they differ in token; whether both are firm, so that rounding changes no token; how
    far they differ in a token's probability."""

    prompt: ProbePrompt


def make_probe(model: Any, tokenizer: Any, texts: Sequence[Prompt] | None = None, *, num_prompts: int = 12) -> Probe:
    """Look at every position of some texts, with the adapter and without, and keep where the two differ most.

    Args:
        model: a PeftModel, also one that is being trained; it is left as it was found. A model without adapter gives a
            probe for that model alone.
        tokenizer: the model's.
        texts: rendered prompts, best those of the evaluation. None: a few of our own.
        num_prompts: how many to keep.

    Raises:
        GenerationError: no text has enough tokens.
    """
    places: list[_Place] = []
    if texts is None:
        texts = [tokenizer(text)["input_ids"] for text in TEXTS]
    with undisturbed(model, seed=0):
        for text in texts:
            ids = encode_prompt(tokenizer, text)[-MAX_TOKENS:]
            if len(ids) >= FIRST_TOKENS:
                places.extend(_places(model, tokenizer, ids))
    places.sort(key=lambda place: place.worth, reverse=True)
    sendable = [place for place in places[: 20 * num_prompts] if _has_text(tokenizer, place.prompt.ids)]
    kept = [place.prompt for place in (sendable or places)[:num_prompts]]
    if not kept:
        raise GenerationError(f"No probe can be made: none of {len(texts)} texts has {FIRST_TOKENS} tokens.")
    return Probe(tuple(kept))


def _places(model: Any, tokenizer: Any, ids: Sequence[int]) -> Iterator[_Place]:
    logprobs: dict[Weights, torch.Tensor] = {
        "adapter": _next_logprobs(model, ids),
        "base": _next_logprobs(model, ids, without_adapter=True),
    }
    first_two = {weights: values.topk(2, dim=-1) for weights, values in logprobs.items()}
    best = {weights: found.indices[:, 0].tolist() for weights, found in first_two.items()}
    leads = {weights: found.values[:, 0] - found.values[:, 1] for weights, found in first_two.items()}
    special = set(tokenizer.all_special_ids)
    for position in range(FIRST_TOKENS - 1, len(ids)):
        tokens = {weights: best[weights][position] for weights in logprobs}
        texts = {weights: decode(tokenizer, [token]) for weights, token in tokens.items()}
        if special.intersection(tokens.values()) or not all(map(_is_plain, texts.values())):
            continue
        if (tokens["adapter"] == tokens["base"]) != (texts["adapter"].strip() == texts["base"].strip()):
            continue
        values = {
            weights: {texts[name]: float(row[position, token]) for name, token in tokens.items()}
            for weights, row in logprobs.items()
        }
        firmness = min(float(lead[position]) for lead in leads.values())
        margin = firmness if tokens["adapter"] != tokens["base"] else 0.0
        change = max(abs(values["adapter"][text] - values["base"][text]) for text in texts.values())
        prompt = ProbePrompt(tuple(ids[: position + 1]), texts, values, margin)
        is_firm = firmness >= DECISIVE_MARGIN
        yield _Place((margin if is_firm else 0.0, is_firm, change), prompt)


def _next_logprobs(model: Any, ids: Sequence[int], *, without_adapter: bool = False) -> torch.Tensor:
    """Log probabilities of every next token, float32 (position, vocabulary)."""
    switched: AbstractContextManager[Any] = nullcontext()
    if without_adapter and hasattr(model, "disable_adapter"):
        switched = model.disable_adapter()
    with switched:
        logits = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0]
    return torch.log_softmax(logits.float(), dim=-1)


def _is_plain(text: str) -> bool:
    """A token that every server writes the same way: no part of a character, no mere space."""
    return bool(text.strip()) and "�" not in text


def _has_text(tokenizer: Any, ids: Sequence[int]) -> bool:
    """Whether a server that takes text only can be asked this."""
    try:
        text_for(tokenizer, tuple(ids), ids)
    except GenerationError:
        return False
    return True
