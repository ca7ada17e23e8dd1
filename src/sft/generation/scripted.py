"""An engine whose answers come from a table. For tests, ours and yours: no model, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from sft.errors import DataError
from sft.generation.engine import Completion, Progress, Prompt, Sampling


@dataclass
class ScriptedEngine:
    """Answers from a table or a function, and remembers what it was asked.

    >>> engine = ScriptedEngine({"2 + 2 =": "4"})
    >>> engine.complete(["2 + 2 ="], Sampling(max_new_tokens=8))[0].text
    '4'

    An answer counts one token per word and one for the stop token; past ``max_new_tokens`` words it is cut, as a
    model's would be.
    """

    name: ClassVar[str] = "scripted"

    answers: Mapping[str, str] | Callable[[str], str]
    """Answer per prompt, the prompt written exactly as it is asked (ids as their ``str(list)``)."""

    default: str | None = None
    """Answer to prompts that are not in the table. None: such a prompt is an error."""

    asked: list[tuple[Prompt, Sampling]] = field(default_factory=list)
    """Every prompt asked so far with its sampling, in order."""

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, on_progress: Progress | None = None
    ) -> list[Completion]:
        """Look every prompt up."""
        completions = []
        for prompt in prompts:
            self.asked.append((prompt, sampling))
            completions.append(_cut(self._answer(prompt), sampling.max_new_tokens))
            if on_progress is not None:
                on_progress(len(completions), len(prompts))
        return completions

    def _answer(self, prompt: Prompt) -> str:
        key = prompt if isinstance(prompt, str) else str(list(prompt))
        if not isinstance(self.answers, Mapping):
            return self.answers(key)
        if key in self.answers:
            return self.answers[key]
        if self.default is None:
            raise DataError(
                f"The scripted engine was asked {key!r}, which is not among its {len(self.answers)} answers. "
                "Add the prompt exactly as rendered, or set default."
            )
        return self.default


def _cut(answer: str, max_new_tokens: int) -> Completion:
    words = answer.split()
    if len(words) < max_new_tokens:
        return Completion(answer, len(words) + 1, "stop")
    return Completion(" ".join(words[:max_new_tokens]), max_new_tokens, "length")
