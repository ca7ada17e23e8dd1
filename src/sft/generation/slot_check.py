"""Whether a model can answer in slots: by what it is, and then by what it does.

What it is: its cache must be one of keys and values, and nothing else may tie a row to its neighbours or a token to
rules that we do not know. What it does: a few short answers in slots, with slots taken over and rows moved, must be
those of ``model.generate`` for one prompt at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from transformers import GenerationMixin
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from sft.generation.batches import generation_arguments, left_padded
from sft.generation.engine import Sampling
from sft.generation.slot_layout import Limits, Request
from sft.generation.slots import Forward, SlotDecoder
from sft.generation.token_choice import TokenChoice

CHECK_TOKENS = 256
"""Of the prompts of the check, so many are read; where layers see a window only, so many more than that."""

CHECK_ROOMS = (3, 9, 7)
"""Tokens written after each. The third prompt gets the slot of the first, beside the second."""

ROUNDING = {torch.bfloat16: 0.04, torch.float16: 0.01}
"""Two tokens whose logits differ by less than this share of the largest are a tie, which rounding decides."""

EXACT = 1e-3
"""The same for every other type."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "bad_words_ids": (),
    "begin_suppress_tokens": (),
    "cache_implementation": ("dynamic",),
    "dola_layers": (),
    "exponential_decay_length_penalty": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "max_time": (),
    "min_length": (0,),
    "no_repeat_ngram_size": (0,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "prompt_lookup_num_tokens": (),
    "remove_invalid_values": (False,),
    "renormalize_logits": (False,),
    "sequence_bias": (),
    "stop_strings": (),
    "suppress_tokens": (),
    "watermarking_config": (),
}
"""Generation options that change answers, and values, beside None and an empty list, with which they do not."""

NEUTRAL_WHEN_DRAWN: Mapping[str, tuple[Any, ...]] = {
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "min_p": (0,),
    "top_h": (),
    "typical_p": (1,),
}

SHARDED = ("FullyShardedDataParallel", "FSDPModule")

_checked: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()
"""What the check found, per model: training changes weights, not how they are used."""


class Verdict(NamedTuple):
    """May a model answer in slots?"""

    reason: str | None
    """Why not."""

    template: Any = None
    """If it may, a cache that it has made."""


def examine(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Verdict:
    """Look at a model, in evaluation mode and with gradients off; run the check at the first call for it.

    Args:
        model: a causal language model, or a PeftModel around one.
        tokenizer: the model's.
        prompts: what it will be asked; parts of three of them are what it is checked with.
        sampling: how it will be asked.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    reason = next(_reasons(model, base, sampling), None)
    if reason is not None:
        return Verdict(reason)
    try:
        template = Forward(model).read([prompts[0][:1]], 0)[1]
        reason = _reason_in_cache(template)
        if reason is None and model not in _checked:
            _checked[model] = _reason_in_answers(model, tokenizer, prompts, sampling, template)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a model's own code may raise, model.generate may yet do
        reason = f"its forward pass fails there ({type(error).__name__}: {error})"
    reason = reason or _checked.get(model)
    return Verdict(reason, None if reason else template)


def repetition_penalty(model: Any) -> float:
    """What the model's own generation config asks for."""
    return float(getattr(getattr(model, "generation_config", None), "repetition_penalty", None) or 1.0)


def _reasons(model: Any, base: Any, sampling: Sampling) -> Iterator[str]:
    """What can be known without running the model."""
    config = base.config
    if type(base).generate is not GenerationMixin.generate:
        yield "it has a generate of its own"
    if config.is_encoder_decoder:
        yield "it has an encoder"
    if "past_key_values" not in inspect.signature(base.forward).parameters:
        yield "its cache is not one of keys and values"
    if {"dynamic", "longrope"} & set(_rope_types(config.get_text_config(decoder=True))):
        yield "its rotary embedding changes with the longest row of a batch"
    if any(name in SHARDED for module in model.modules() for name in _class_names(module)) or any(
        hasattr(parameter, "ds_id") for parameter in model.parameters()
    ):
        yield "its weights are sharded, so that all processes must step together"
    for adapter in getattr(model, "peft_config", {}).values():
        if getattr(adapter, "is_prompt_learning", False) or getattr(adapter, "alora_invocation_tokens", None):
            yield "its adapter depends on places in the prompt"
    generation_config = getattr(model, "generation_config", None)
    for name, values in {**NEUTRAL, **(NEUTRAL_WHEN_DRAWN if sampling.temperature > 0 else {})}.items():
        found = getattr(generation_config, name, None)
        if found is not None and found != [] and found not in values:
            yield f"its generation config sets {name}"


def _rope_types(config: Any) -> Iterator[str]:
    """The kinds of rotary embedding in a config, which may have one for each kind of layer."""
    pending = [getattr(config, name, None) for name in ("rope_parameters", "rope_scaling")]
    while pending:
        found = pending.pop()
        if isinstance(found, Mapping):
            yield str(found.get("rope_type", found.get("type")))
            pending.extend(found.values())


def _class_names(module: Any) -> list[str]:
    return [parent.__name__ for parent in type(module).__mro__]


def _reason_in_cache(cache: Any) -> str | None:
    if type(cache) is not DynamicCache:
        return f"its cache is a {type(cache).__name__}, not one of keys and values"
    others = {type(layer) for layer in cache.layers} - {DynamicLayer, DynamicSlidingWindowLayer}
    if others or not all(layer.is_initialized for layer in cache.layers):
        names = ", ".join(sorted(kind.__name__ for kind in others)) or "layers without any"
        return f"its cache has {names} beside keys and values"
    return None


def _reason_in_answers(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, template: Any
) -> str | None:
    """Answer three prompts both ways."""
    requests = _requests(prompts, getattr(model.config, "max_position_embeddings", None), template)
    longest = max(CHECK_ROOMS)
    greedy = Sampling(max_new_tokens=longest, min_new_tokens=longest, stop_token_ids=sampling.stop_token_ids)
    arguments = generation_arguments(model, tokenizer, greedy, longest)
    choice = TokenChoice(greedy, tuple(arguments["eos_token_id"] or ()), repetition_penalty(model))
    types = (model.dtype, template.layers[0].values.dtype)  # the second under autocast, and of quantised models
    tie = max(ROUNDING.get(kind, EXACT) for kind in types)
    limits = Limits(slots=2, tokens=2**62, spare=1)  # little to spare, so that rows must be moved
    decoder = SlotDecoder(model, template, choice, limits=limits, pad_token_id=arguments["pad_token_id"])
    for number, tokens in decoder.answer(requests):
        request = requests[number]
        input_ids, attention_mask = left_padded([request.ids], 0, model.device)
        alone = model.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            return_dict_in_generate=True,
            output_scores=True,
            **arguments | {"max_new_tokens": request.room, "min_new_tokens": request.room},
        )
        place = _first_difference(tokens, alone.sequences[0, len(request.ids) :].tolist(), alone.scores, tie)
        if place is not None:
            return (
                f"its answer to a prompt of {len(request.ids)} tokens differs there from the answer of model.generate "
                f"in token {place + 1}"
            )
    return None


def _requests(prompts: Sequence[Sequence[int]], context: int | None, template: Any) -> list[Request]:
    """The longest, the middle and the shortest prompt, cut to three different lengths."""
    by_length = sorted(prompts, key=len, reverse=True)
    windows = [layer.sliding_window for layer in template.layers if layer.is_sliding]
    most = CHECK_TOKENS + max(windows, default=0)
    if context is not None:
        most = max(1, min(most, context - max(CHECK_ROOMS)))
    chosen = (by_length[0], by_length[len(by_length) // 2], by_length[-1])
    cut = [ids[: max(1, most // part)] for ids, part in zip(chosen, (1, 2, 3), strict=True)]
    return [Request(ids, room) for ids, room in zip(cut, CHECK_ROOMS, strict=True)]


def _first_difference(ours: Sequence[int], theirs: Sequence[int], scores: Any, tie: float) -> int | None:
    """Where two answers part, unless it is where the two tokens tie; from there on, they are different texts."""
    for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if one != other:
            row = scores[place][0]
            gap = float(row[other] - row[one])
            return None if gap <= tie * float(row[row.isfinite()].abs().max()) else place
    return None
