"""Every template: whatever is said, trained are the answers and the tokens that end them, after the very prompt that is
sent to generate each."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft.data.render import Renderer
from sft.data.templates import template_names
from sft.data.templates.catalogue import SHIPPED
from sft.data.types import Conversation, Message, Source

ENDS = {
    "chatglm3": "<|user|>",
    "chatml": "<|im_end|>",
    "firefly_llama3": "<|eot_id|>",
    "firefly_phi3": "<|end|>",
    "gemma": "<end_of_turn>",
    "internlm": "<eoa>",
    "llama3": "<|eot_id|>",
    "llama3.1": "<|eot_id|>",
    "phi3": "<|end|>",
    "phi4": "<|im_end|>",
    "phi4_mini": "<|end|>",
    "qwen": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "qwen3_nothink": "<|im_end|>",
}
"""The token that ends an answer, by file; elsewhere it is eos."""
SPLITTING = {"qwen3", "chatglm2", "deepseekr1"}
"""Files that write an answer otherwise once more follows."""
NO_SYSTEM = {"firefly_chatglm2", "firefly_deepseek", "firefly_gemma", "firefly_mistral", "firefly_phi3"}

TEXTS = {name: (shipped.file, tuple(shipped.variables)) for name, shipped in SHIPPED.items()}
DISTINCT = [name for name in template_names() if name == min(n for n in TEXTS if TEXTS[n] == TEXTS[name])]
PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["\n", "\n\n", " ", "\t", "é", "e\u0301", "👩‍🚀", "Assistant:", "[INST]", "<|im_", "end|>"]),
    st.sampled_from(["</s>", "<s>", "<|im_end|>", "<|user|>", "<end_of_turn>", "<|eot_id|>", "<eoa>", "[gMASK]"]),
)
CONTENT = st.lists(PIECES, max_size=5).map("".join).filter(lambda text: "think>" not in text)
SAID = CONTENT.map("Q{}".format)


@pytest.mark.parametrize("name", DISTINCT)
def test_trained_tokens_are_the_answers(tokenizer_of: Any, name: str) -> None:
    check_template(tokenizer_of(name), name, composed)


OLD_FAMILIES = [
    "deepseek", "empty", "firefly_default", "firefly_llama2", "firefly_mistral", "llama2", "minicpm", "mistral",
    "mistral_v1", "orion", "vicuna", "xverse", "zephyr", "ziya2",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["prepend", "metaspace"])
@pytest.mark.parametrize("name", OLD_FAMILIES)
def test_tokenizers_that_add_spaces(new_tokenizer: Any, kind: str, name: str) -> None:
    """Those of the first Llama and of Mistral; what they decode may have spaces more or less."""
    special = ("<s>", "</s>", "<用户>", "<AI>")
    tokenizer = new_tokenizer(name, kind=kind, special=special, bos="<s>", eos="</s>", begins_with_bos=True)
    check_template(tokenizer, name, lambda text: "".join(composed(text).split()))


def check_template(tokenizer: Any, name: str, normal: Callable[[str], str]) -> None:
    """Render conversations of every kind; texts are equal that ``normal`` makes so."""
    renderer = Renderer(tokenizer)
    file = SHIPPED[name].file
    end = ENDS.get(file, "</s>")
    questions = SAID if file == "empty" else CONTENT  # without any text before it, no answer is prompted

    @settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None)
    @given(
        st.lists(st.tuples(questions, CONTENT), min_size=1, max_size=3),
        st.none() if file in NO_SYSTEM else st.none() | CONTENT,
    )
    def check(exchanges: list[tuple[str, str]], system: str | None) -> None:
        messages = [] if system is None else [Message(role="system", content=system)]
        for question, answer in exchanges:
            messages += [Message(role="user", content=question), Message(role="assistant", content=answer)]
        examples = renderer.render(Conversation(messages=tuple(messages), source=Source("rows.jsonl", 1)))
        assert len(examples) == (len(exchanges) if file in SPLITTING else 1)
        trained: dict[int, str] = {}
        for example in examples:
            spans = runs(example.loss_mask)
            assert len(spans) == len(example.trained_turns)
            first = renderer.generation_ids(messages[: example.trained_turns[0]])
            assert example.input_ids[: spans[0][0]].tolist() == first
            for (start, stop), turn in zip(spans, example.trained_turns, strict=True):
                prompt = renderer.generation_prompt(messages[:turn])
                assert normal(tokenizer.decode(example.input_ids[:start])) == normal(prompt)
                assert example.input_ids[stop - 1] == tokenizer.convert_tokens_to_ids(end)
                trained[turn] = tokenizer.decode(example.input_ids[start:stop])
        answers = {turn: message.content for turn, message in enumerate(messages) if message.role == "assistant"}
        assert trained.keys() == answers.keys()
        for turn, content in answers.items():
            assert normal(trained[turn].removesuffix(end).strip()) == normal(content.strip())

    check()


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of each stretch of ones."""
    edges = np.flatnonzero(np.diff(mask.astype(bool), prepend=False, append=False)).reshape(-1, 2)
    return [(int(start), int(stop)) for start, stop in edges]


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
