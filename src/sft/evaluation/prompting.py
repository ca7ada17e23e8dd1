"""From a row of a task to what an engine is asked: the ids that training would put before a trained answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sft.data.render import Renderer
from sft.data.types import Message
from sft.errors import DataError, RowError
from sft.generation import Sampling
from sft.tasks.prompts import MIN_PROMPT_TOKENS, cut_middle, stop_token_ids
from sft.tasks.task import Task, TaskExample

LIKELY_CHARACTERS = 8
"""Per token: a text with more may be taken to be too long, and is not encoded whole to find that it fits."""

NO_ROOM = "no room for the prompt in the model's context"


@dataclass(frozen=True, slots=True)
class WrittenPrompt:
    """What an engine is asked."""

    ids: list[int]
    """Token ids, complete: the chat template's and the beginning-of-sequence token included."""

    is_cut: bool
    """The middle of the row's text was left out."""


class PromptWriter:
    """Writes prompts for one tokenizer and one length of context.

    A text that is too long loses its middle before the chat template is put around it, as LongBench does it. The limit
    is ``max_prompt_tokens``, or less where the template's words and the answer need the room.

    Args:
        tokenizer: its chat template writes the chat tasks.
        generation_kwargs: variables for the template, those that the training data was rendered with.
        max_prompt_tokens: longest text of a row. None: what the context leaves.
        context_length: most tokens of prompt and answer together. None: no bound is known.
        stop_token_ids: tokens that end an answer beside the model's own: those that ended the trained answers.
        allow_special_tokens: special-token text in rows acts as control tokens, as the training data was read.
    """

    def __init__(
        self,
        tokenizer: Any,
        generation_kwargs: Mapping[str, Any] | None = None,
        max_prompt_tokens: int | None = None,
        context_length: int | None = None,
        *,
        stop_token_ids: Sequence[int] = (),
        allow_special_tokens: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.stop_token_ids = tuple(stop_token_ids)
        self.max_prompt_tokens = max_prompt_tokens
        self.context_length = context_length
        self._renderer = Renderer(
            tokenizer, template_kwargs=generation_kwargs, allow_special_tokens=allow_special_tokens
        )

    def write(self, task: Task, example: TaskExample) -> WrittenPrompt:
        """Write the prompt of one row.

        Raises:
            RowError: it does not fit whatever is left out of it, or the tokenizer cannot write it.
            TemplateError: the chat template refuses it.
        """
        text = task.prompt(example)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RowError(example.source, "the text is no valid Unicode", f"It holds {text[error.start]!a}") from error
        most, limit = self._most_tokens(task), self.text_limit(task)
        if limit is None or len(text) <= LIKELY_CHARACTERS * limit:
            ids = self._ids(task, text, example)
            if all(bound is None or len(ids) <= bound for bound in (most, self.max_prompt_tokens)):
                return WrittenPrompt(ids, is_cut=False)
        while limit is not None and limit >= MIN_PROMPT_TOKENS:
            cut = cut_middle(text, self.tokenizer, limit)
            ids = self._ids(task, cut, example)
            if most is None or len(ids) <= most:
                return WrittenPrompt(ids, is_cut=cut != text)
            limit -= len(ids) - most  # two halves joined can be more tokens than they were apart
        taken = f"the answer takes {self.answer_tokens(task)}"
        taken += f" and the chat template {self._wrapper_tokens}" if task.chat else ""
        raise RowError(example.source, NO_ROOM, f"Of its {self.context_length} tokens {taken}")

    def text_limit(self, task: Task) -> int | None:
        """Most tokens that a row's text may have before the template is put around it; None: any number."""
        most = self._most_tokens(task)
        if most is None:
            return self.max_prompt_tokens
        left = most - (self._wrapper_tokens if task.chat else 0)
        return left if self.max_prompt_tokens is None else min(left, self.max_prompt_tokens)

    def answer_tokens(self, task: Task) -> int:
        """Most tokens of an answer: the task's limit; at most half of the context, where that is so short."""
        limit = task.limits.max_new_tokens
        return limit if self.context_length is None else max(1, min(limit, self.context_length // 2))

    def sampling(self, task: Task) -> Sampling:
        """How answers of a task are decoded: greedily, until a stop token of the model or of the task."""
        most = self.answer_tokens(task)
        return Sampling(
            max_new_tokens=most,
            min_new_tokens=min(task.limits.min_new_tokens, most),
            stop_token_ids=(*self.stop_token_ids, *stop_token_ids(task, self.tokenizer)),
        )

    def _most_tokens(self, task: Task) -> int | None:
        """Most tokens of a whole prompt."""
        return None if self.context_length is None else self.context_length - self.answer_tokens(task)

    def _ids(self, task: Task, text: str, example: TaskExample) -> list[int]:
        try:
            return self._renderer.generation_ids([_user(text)]) if task.chat else self._renderer.text_ids(text)
        except DataError:
            raise
        except ValueError as error:  # special-token text that the tokenizer cannot write as content
            raise RowError(example.source, str(error)) from error

    @cached_property
    def _wrapper_tokens(self) -> int:
        """What the chat template writes around a user's words."""
        return len(self._renderer.generation_ids([_user("a")])) - 1


def _user(text: str) -> Message:
    return Message(role="user", content=text)
