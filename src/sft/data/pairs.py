"""Stage dpo: preference pairs -> two examples each, the better answer and then the worse one.

Both begin with the same token ids, the prompt that chat and evaluation will send; trained are the answer and the token
that ends it. The store keeps them one after the other: pair ``i`` is its examples ``2 * i`` and ``2 * i + 1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sft.config import SFTConfig
from sft.data.render import Renderer
from sft.data.report import DataReport
from sft.data.types import Conversation, Example, Pack
from sft.errors import DataError, RowError

SIDES = 2


@dataclass(frozen=True)
class Pair:
    """One prompt and two answers, rendered."""

    chosen: Example
    rejected: Example

    @property
    def prompt_length(self) -> int:
        """Tokens before the answers."""
        return prompt_length(self.chosen)

    @property
    def num_tokens(self) -> int:
        """Tokens of both."""
        return len(self.chosen) + len(self.rejected)

    def __len__(self) -> int:
        """Tokens of the longer of the two."""
        return max(len(self.chosen), len(self.rejected))


def prompt_length(example: Example) -> int:
    """Tokens before the one trained stretch at the end of an example."""
    return int(example.loss_mask.argmax())


def render_pairs(
    renderer: Renderer, config: SFTConfig, conversations: Iterable[Conversation], report: DataReport
) -> Iterator[Example]:
    """Preference rows -> pairs that fit, as two examples each; every other row is counted with its reason."""
    for conversation in conversations:
        try:
            pair = render_pair(conversation, renderer)
            fitting = pair if len(pair) <= config.max_length else shorten(conversation, pair, renderer, config)
        except RowError as error:
            report.reject(error)
            continue
        report.rendered += SIDES
        report.rendered_tokens += pair.num_tokens
        if fitting is None:
            too_long = f"longer than max_length {config.max_length}"
            report.drop(str(conversation.source), too_long, len(pair), pair.num_tokens)
        elif np.array_equal(fitting.chosen.input_ids, fitting.rejected.input_ids):
            same = "chosen and rejected are the same"
            report.drop(str(conversation.source), same, len(fitting), pair.num_tokens)
        else:
            report.cut += fitting is not pair
            report.cut_tokens += pair.num_tokens - fitting.num_tokens
            report.pairs += 1
            yield fitting.chosen
            yield fitting.rejected


def render_pair(conversation: Conversation, renderer: Renderer) -> Pair:
    """Both sides of a row.

    Raises:
        RowError: the row has no second answer, or the two do not follow the same prompt.
    """
    if conversation.rejected is None:
        raise RowError(conversation.source, "one answer, where stage dpo compares two")
    chosen, rejected = (_until_the_end(renderer.render(side)[0]) for side in (conversation, conversation.rejected))
    pair = Pair(chosen, rejected)
    if chosen.weights is not None or rejected.weights is not None:
        raise RowError(conversation.source, "a weight, which stage dpo has no use for")
    if not np.array_equal(chosen.input_ids[: pair.prompt_length], rejected.input_ids[: prompt_length(rejected)]):
        raise RowError(
            conversation.source,
            "the chat template writes another prompt for chosen than for rejected",
            "One of them may have thoughts and the other none; say which is meant with chat_template_kwargs",
        )
    return pair


def fits(pair: Pair, config: SFTConfig) -> bool:
    """Whether a shortened pair is short enough, in all and in its prompt."""
    most = config.max_length if config.max_prompt_length is None else config.max_prompt_length
    return len(pair) <= config.max_length and pair.prompt_length <= most


def shorten(conversation: Conversation, pair: Pair, renderer: Renderer, config: SFTConfig) -> Pair | None:
    """A pair that fits, as ``overlong`` says: the prompt loses its oldest turns, never an answer its end.

    Raises:
        DataError: ``overlong`` is ``error``.
    """
    if config.overlong == "error":
        raise DataError(
            f"{conversation.source}: {len(pair)} tokens ({pair.prompt_length} of them prompt), but max_length is "
            f"{config.max_length} and overlong is 'error'. Raise it, or choose overlong: drop or cut_start."
        )
    if config.overlong == "drop":
        return None
    if conversation.text is not None:
        return _cut_text(pair, config)
    for shorter in _without_oldest_turns(conversation):
        found = render_pair(shorter, renderer)
        if fits(found, config):
            return found
    return None


def group_pairs(num_examples: int) -> list[Pack]:
    """Which examples make a pair."""
    return [[first, first + 1] for first in range(0, num_examples, SIDES)]


def _until_the_end(example: Example) -> Example:
    """Without what the template writes behind the token that ends the answer; nothing is learned from it."""
    end = int(np.flatnonzero(example.loss_mask)[-1]) + 1
    return replace(example, input_ids=example.input_ids[:end], loss_mask=example.loss_mask[:end])


def _without_oldest_turns(conversation: Conversation) -> Iterator[Conversation]:
    """The pair with fewer and fewer exchanges before the last; the system turn stays."""
    messages, rejected = conversation.messages, conversation.rejected
    assert rejected is not None, "a pair has two sides"
    head = 1 if messages[0].role == "system" else 0
    for start in [index for index in range(head, len(messages)) if messages[index].role == "user"][1:]:
        worse = replace(rejected, messages=rejected.messages[:head] + rejected.messages[start:])
        yield replace(conversation, messages=messages[:head] + messages[start:], rejected=worse)


def _cut_text(pair: Pair, config: SFTConfig) -> Pair | None:
    """The end of the prompt of a plain text, at least one token of it."""
    most = config.max_length if config.max_prompt_length is None else config.max_prompt_length
    excess = max(len(pair) - config.max_length, pair.prompt_length - most)
    if excess >= pair.prompt_length:
        return None
    chosen, rejected = (
        replace(side, input_ids=side.input_ids[excess:], loss_mask=side.loss_mask[excess:])
        for side in (pair.chosen, pair.rejected)
    )
    return Pair(chosen, rejected)
