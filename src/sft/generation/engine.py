"""The contract every engine keeps: prompts in, completions out, in the order asked.

A prompt is what the model reads, complete: text that a chat template has already written, or token ids. An engine adds
nothing to it, no beginning-of-sequence token and no template of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sft.errors import ConfigError

Prompt = str | Sequence[int]
"""Rendered text, encoded without adding special tokens; or token ids."""

Finished = Literal["stop", "length"]
Progress = Callable[[int, int], None]
"""Called with (completions done, completions asked) after each batch."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after one prompt."""

    text: str
    """The answer, without the stop token and other special tokens."""

    num_tokens: int
    """Tokens generated, the stop token included."""

    finished: Finished
    """stop: the model ended its answer. length: cut at ``max_new_tokens`` or at the end of the model's context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen and when an answer ends."""

    max_new_tokens: int
    """Most tokens in one answer, the stop token included."""

    min_new_tokens: int = 0
    """No token ends an answer before it has this many: until then the likeliest other token is taken."""

    temperature: float = 0.0
    """0: greedy, always the likeliest token. Else the softmax temperature."""

    top_p: float = 1.0
    """Draw only among the likeliest tokens that together reach this probability. 1: all."""

    top_k: int = 0
    """Draw only among this many likeliest tokens. 0: all."""

    seed: int = 0
    """The same prompts, options, device and versions draw the same answers."""

    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end an answer, beside the model's own."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value!r}, but it must be {rule}."
            for name, value, rule, fits in (
                ("max_new_tokens", self.max_new_tokens, "at least 1", self.max_new_tokens >= 1),
                (
                    "min_new_tokens",
                    self.min_new_tokens,
                    "from 0 to max_new_tokens",
                    0 <= self.min_new_tokens <= self.max_new_tokens,
                ),
                ("temperature", self.temperature, "0 (greedy) or more", self.temperature >= 0),
                ("top_p", self.top_p, "above 0 and at most 1", 0 < self.top_p <= 1),
                ("top_k", self.top_k, "0 (all tokens) or more", self.top_k >= 0),
            )
            if not fits
        ]
        if problems:
            raise ConfigError(problems)


class Engine(Protocol):
    """Anything that answers prompts. Results name it by its ``name`` where it has one, else by its class."""

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, on_progress: Progress | None = None
    ) -> list[Completion]:
        """Answer every prompt; result ``i`` belongs to prompt ``i``."""
        ...
