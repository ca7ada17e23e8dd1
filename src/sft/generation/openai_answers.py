"""Answers of ``/v1/completions`` as completions, every one checked against what was asked.

A server that answers 200 has not answered the question yet: the number of choices, the text, the reason it ended and
both token counts must fit, and where the server names the prompt's tokens or the model, these too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from sft.errors import GenerationError
from sft.generation.engine import Completion, Finished
from sft.generation.prompts import decode

FINISHED: dict[str, Finished] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an answer is checked against."""

    model: str
    max_tokens: int

    prompt_ids: Sequence[int] | None
    """None: the prompt's tokens are not known here, so that they cannot be checked."""

    exact_room: bool
    """``max_tokens`` is known to fit the server's context, so that an answer may be cut there and nowhere before."""

    exact_model: bool
    """The server repeats the model's name. Others may answer with a name of their own for it."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer that fits its request."""

    completion: Completion

    first_logprob: float | None
    """Natural log probability of the first token, where it was asked for and given."""


def read_answer(answer: Any, asked: Asked, tokenizer: Any) -> Checked:
    """Check an answer and take the one completion out of it.

    Args:
        answer: the decoded JSON.
        asked: the request.
        tokenizer: decodes the answer's token ids where the server gives them; then its own text, which its rules on
            spaces may have changed, is not used.

    Raises:
        GenerationError: the answer does not fit the request.
    """
    choice = _read_choice(answer)
    finished = FINISHED.get(choice.get("finish_reason") or "")
    if finished is None:
        raise _unfit("finish_reason is", choice.get("finish_reason"), "'stop' or 'length'")
    if not isinstance(choice.get("text"), str):
        raise _unfit("the text is", choice.get("text"), "a string")
    if asked.exact_model:
        _check_model(answer, asked)
    num_tokens = _read_counts(answer, choice, asked)
    if finished == "length" and asked.exact_room and num_tokens != asked.max_tokens:
        raise _unfit("finish_reason is 'length' after", f"{num_tokens} tokens", f"all {asked.max_tokens} asked for")
    ids = _read_token_ids(choice, num_tokens)
    text = choice["text"]
    if ids is not None and tokenizer is not None:
        text = decode(tokenizer, ids[:-1] if finished == "stop" else ids)
    return Checked(Completion(text, num_tokens, finished), _read_first_logprob(choice))


def _read_choice(answer: Any) -> Mapping[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list):
        raise _unfit("the answer is", answer, "an object with a list of choices")
    if len(choices) != 1:
        raise _unfit("the number of answers is", len(choices), "1 to one prompt")
    if not isinstance(choices[0], dict):
        raise _unfit("the choice is", choices[0], "an object")
    return choices[0]


def _check_model(answer: Mapping[str, Any], asked: Asked) -> None:
    """transformers writes ``NAME@REVISION``; SGLang and vLLM repeat the name."""
    model = answer.get("model")
    if model != asked.model and not str(model).startswith(f"{asked.model}@"):
        raise _unfit("the model that answered is", model, f"{asked.model!r}, which was asked")


def _read_counts(answer: Mapping[str, Any], choice: Mapping[str, Any], asked: Asked) -> int:
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    num_tokens, num_prompt = counts.get("completion_tokens"), counts.get("prompt_tokens")
    if not _is_count(num_tokens) or num_tokens > asked.max_tokens:
        raise _unfit("completion_tokens is", num_tokens, f"from 0 to {asked.max_tokens}")
    if asked.prompt_ids is None:
        return num_tokens
    if not _is_count(num_prompt) or num_prompt != len(asked.prompt_ids):
        raise _unfit("prompt_tokens is", num_prompt, f"{len(asked.prompt_ids)}, the tokens of the prompt alone")
    read = choice.get("prompt_token_ids")
    if read is not None and read != list(asked.prompt_ids):
        raise _unfit("prompt_token_ids is", read, "the token ids that were sent")
    return num_tokens


def _read_token_ids(choice: Mapping[str, Any], num_tokens: int) -> list[int] | None:
    ids = choice.get("token_ids")
    if ids is None:
        return None
    if not isinstance(ids, list) or len(ids) != num_tokens or not all(_is_count(token) for token in ids):
        raise _unfit("token_ids is", ids, f"a list of {num_tokens} token ids, as completion_tokens says")
    return ids


def _read_first_logprob(choice: Mapping[str, Any]) -> float | None:
    logprobs = choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    first = values[0] if isinstance(values, list) and values else None
    return float(first) if isinstance(first, float | int) else None


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _unfit(what: str, found: Any, expected: str) -> GenerationError:
    shown = found if isinstance(found, str) else repr(found)
    shown = shown[:200] + " ..." if len(shown) > 200 else shown
    return GenerationError(f"The answer does not fit the request: {what} {shown}, but must be {expected}.")
