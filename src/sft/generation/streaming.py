"""One answer, handed over piece by piece while it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sft.generation.batches import generation_arguments, left_padded, read_completion
from sft.generation.engine import Completion, Prompt, Sampling
from sft.generation.in_process import context_of, undisturbed
from sft.generation.prompts import answer_room, decode, encode_prompt

REPLACEMENT = "�"


class PieceDecoder:
    """Turns tokens into text as soon as the text is certain.

    A character may be spread over several tokens; until its last byte is there, decoding gives replacement characters
    at the end, which are held back. The pieces joined are the decoded answer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._written = ""

    def add(self, token: int) -> str:
        """Text that became certain with this token; often empty."""
        self._ids.append(token)
        return self._advance(decode(self._tokenizer, self._ids).rstrip(REPLACEMENT))

    def finish(self) -> str:
        """What was held back."""
        return self._advance(decode(self._tokenizer, self._ids))

    def _advance(self, text: str) -> str:
        if not text.startswith(self._written):  # the decoder changed its mind about a tail: wait until it has more
            return ""
        piece = text[len(self._written) :]
        self._written = text
        return piece


class _Streamer:
    """What ``model.generate`` calls with the prompt first, then with every new token, then at the end."""

    def __init__(self, tokenizer: Any, stop_token_ids: list[int], on_text: Callable[[str], None]) -> None:
        self.ids: list[int] = []
        self._stops = set(stop_token_ids)
        self._pieces = PieceDecoder(tokenizer)
        self._on_text = on_text
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self.ids.append(token)
            if token not in self._stops:
                self._say(self._pieces.add(token))

    def end(self) -> None:
        self._say(self._pieces.finish())

    def _say(self, piece: str) -> None:
        if piece:
            self._on_text(piece)


def stream(
    model: Any, tokenizer: Any, prompt: Prompt, sampling: Sampling, *, on_text: Callable[[str], None]
) -> Completion:
    """Answer one prompt, calling ``on_text`` with each piece of text as it comes.

    The pieces joined are the completion's text. An exception from ``on_text``, or a KeyboardInterrupt, ends the
    generation and leaves the model as it was.
    """
    ids = encode_prompt(tokenizer, prompt)
    room = answer_room(context_of(model), ids, sampling.max_new_tokens, 1)
    arguments = generation_arguments(model, tokenizer, sampling, room)
    stops = arguments["eos_token_id"] or []
    streamer = _Streamer(tokenizer, stops, on_text)
    input_ids, attention_mask = left_padded([ids], arguments["pad_token_id"], model.device)
    with undisturbed(model, seed=sampling.seed):
        model.generate(input_ids=input_ids, attention_mask=attention_mask, streamer=streamer, **arguments)
    return read_completion(tokenizer, streamer.ids, stops)
