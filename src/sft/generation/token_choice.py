"""The next token of every row, as ``model.generate`` would choose it, from what is known of that row alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from sft.generation.engine import Sampling

RowState = dict[str, torch.Tensor]
"""What is kept per row; the first dimension of every tensor is the row.

token: int64 (rows,), read next. position: int64 (rows,), of that token in its own text. generated: int64 (rows,).
alive: int64 (rows,), 0 where nothing counts any more. seen: bool (rows, vocabulary), where repetition is penalised.
draws: float32 (rows, longest answer) from 0 to below 1, where tokens are drawn.
"""


@dataclass(frozen=True)
class TokenChoice:
    """Greedy or drawn."""

    sampling: Sampling
    stop_token_ids: tuple[int, ...]
    """All that end an answer, the model's own included."""

    repetition_penalty: float = 1.0
    """Logits of tokens that the prompt or the answer has already are made smaller by this factor."""

    def first_state(
        self, logits: torch.Tensor, prompts: Sequence[Sequence[int]], numbers: Sequence[int], longest: int
    ) -> RowState:
        """The state of rows whose prompts were just read, their first token chosen.

        Args:
            logits: float32 (rows, vocabulary), after the last token of each prompt.
            prompts: their ids.
            numbers: of the prompts; with the seed, they fix what is drawn, whoever the neighbours are.
            longest: most tokens that any answer may have.
        """
        device = logits.device
        lengths = [len(prompt) for prompt in prompts]
        state = {
            "position": torch.tensor(lengths, device=device),
            "generated": torch.zeros(len(prompts), dtype=torch.int64, device=device),
            "alive": torch.ones(len(prompts), dtype=torch.int64, device=device),
        }
        if self.repetition_penalty != 1.0:
            seen = torch.zeros(logits.shape, dtype=torch.bool)
            for row, prompt in enumerate(prompts):
                seen[row, list(prompt)] = True
            state["seen"] = seen.to(device)
        if self.sampling.temperature > 0:
            state["draws"] = torch.stack([_draws(self.sampling.seed, number, longest) for number in numbers]).to(device)
        self._choose(logits, state)
        return state

    def advance(self, logits: torch.Tensor, state: RowState) -> None:
        """Choose the next token of every row, in place; rows that are not alive stand still."""
        state["position"] += state["alive"]
        self._choose(logits, state)

    def _choose(self, logits: torch.Tensor, state: RowState) -> None:
        scores = self._scores(logits, state)
        token = scores.argmax(-1) if self.sampling.temperature == 0 else self._drawn(scores, state)
        state["token"] = token
        state["generated"] += state["alive"]
        if "seen" in state:
            state["seen"].scatter_(1, token[:, None], True)

    def _scores(self, logits: torch.Tensor, state: RowState) -> torch.Tensor:
        if "seen" in state:
            penalty = self.repetition_penalty
            logits = torch.where(
                state["seen"], torch.where(logits < 0, logits * penalty, logits / penalty), logits
            )  # fmt: skip
        if self.sampling.min_new_tokens > 0 and self.stop_token_ids:
            too_early = (state["generated"] < self.sampling.min_new_tokens)[:, None]
            stops = list(self.stop_token_ids)
            logits[:, stops] = logits[:, stops].masked_fill(too_early, -torch.inf)
        return logits

    def _drawn(self, scores: torch.Tensor, state: RowState) -> torch.Tensor:
        """Where the cumulated probabilities first exceed each row's own number."""
        for warper in self._warpers():
            scores = warper(None, scores)
        reached = scores.softmax(-1).cumsum(-1)
        total = reached[:, -1:]
        place = state["generated"].clamp(max=state["draws"].shape[1] - 1)[:, None]
        wanted = state["draws"].gather(1, place) * total
        below = torch.nextafter(total, torch.zeros_like(total))  # rounding must not lead past the last possible token
        return torch.searchsorted(reached, torch.minimum(wanted, below), right=True)[:, 0]

    def _warpers(self) -> list[Any]:
        """The library's own, in its order."""
        sampling = self.sampling
        warpers = [TemperatureLogitsWarper(float(sampling.temperature))] if sampling.temperature != 1.0 else []
        if sampling.top_k > 0:
            warpers.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1.0:
            warpers.append(TopPLogitsWarper(sampling.top_p))
        return warpers


def _draws(seed: int, number: int, count: int) -> torch.Tensor:
    """Numbers from 0 to below 1 that depend on the seed and the prompt's number only."""
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))  # it uses 32 bits
    return torch.rand(count, generator=generator)
