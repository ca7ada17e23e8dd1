"""A conversation with a model: its history, written with the model's own chat template and continued by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from sft.cli.loaded_model import load_for_use, name_pair, on_usual_device
from sft.data.control import Shield
from sft.data.render import Renderer
from sft.data.templates import template_names
from sft.errors import ModelError
from sft.generation import Completion, Sampling
from sft.generation.streaming import stream
from sft.models.tokenizer import choose_template


@dataclass
class ChatSession:
    """Questions and answers in turn. What the user writes is content: a ``<|im_end|>`` in it controls nothing."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    sampling: Sampling
    system: str | None = None
    history: list[dict[str, str]] = field(default_factory=list)

    def ask(self, question: str, on_text: Callable[[str], None]) -> Completion:
        """Answer a question in the light of those before, handing over each piece of text as it comes.

        An answer that is interrupted stays in the history as far as it came; a question that cannot be asked does not.
        """
        turns = [*self.history, {"role": "user", "content": question}]
        prompt = self.prompt_ids(turns)
        said: list[str] = []

        def hear(piece: str) -> None:
            said.append(piece)
            on_text(piece)

        sampling = replace(self.sampling, seed=self.sampling.seed + len(self.history))
        try:
            completion = stream(self.model, self.tokenizer, prompt, sampling, on_text=hear)
        except KeyboardInterrupt:
            if said:
                self.history = [*turns, {"role": "assistant", "content": "".join(said)}]
            raise
        self.history = [*turns, {"role": "assistant", "content": completion.text}]
        return completion

    def reset(self) -> None:
        """Forget everything but the system message."""
        self.history = []

    def prompt_ids(self, turns: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of the conversation and the head of the next answer, as training rendered them."""
        opening = [{"role": "system", "content": self.system}] if self.system is not None else []
        renderer = Renderer(self.tokenizer)
        messages = [*opening, *turns]
        shield = Shield.over(renderer.control, messages)
        text = renderer.generation_prompt(shield.cover(renderer.control, messages))
        written = shield.uncover(text)
        return renderer.encoder.encode(written.text, owned=written.owned).ids


def load_for_chat(
    model: str,
    *,
    adapter: str | None = None,
    dtype: str = "auto",
    bits: int | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """A model and its tokenizer, ready to answer, on the GPU where there is one.

    Args:
        model: folder or hub name of a model, or folder of an adapter.
        adapter: folder or hub name of an adapter for ``model``.
        dtype: precision of the weights; auto: as saved.
        bits: 4 or 8, to hold the base in as many; None: in full.
        chat_template: in place of the model's own; a shipped name, a file or text.
        trust_remote_code: run Python code that the model brings along.

    Raises:
        UserError: one of them cannot be loaded, they do not fit, or there is no chat template.
    """
    base, adapter = name_pair(model, adapter)
    loaded, tokenizer = load_for_use(base, adapter, dtype=dtype, bits=bits, trust_remote_code=trust_remote_code)
    if chat_template is not None:
        choose_template(tokenizer, chat_template)
    if tokenizer.chat_template is None:
        raise ModelError(
            f"{adapter or model!r} has no chat template, so it is not known how it expects to be asked. Choose one "
            f"with --chat_template: {', '.join(template_names())}, or a .jinja file."
        )
    return on_usual_device(loaded), tokenizer
