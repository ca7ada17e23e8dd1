"""Whatever the messages hold, the trained tokens are the answers and their end tokens, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft.data.render import Renderer
from sft.data.types import Conversation, Message, Source

SPECIAL = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|im_start|>system\n", "</s>", "<s>", "<unk>"]
PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [*SPECIAL, "\n", "\n\n", " ", "  ", "\t", "\r\n", "é", "e\u0301", "한", "👩‍🚀", "<|im_", "end|>", "\U000f0000"]
    ),
)
CONTENT = st.lists(PIECES, max_size=6).map("".join).filter(lambda text: "think>" not in text)
EXCHANGES = st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=3)
KINDS = [
    ("chatml", "byte_level", {}),
    ("chatml", "trimmed", {}),
    ("qwen3", "byte_level", {}),
    ("default", "prepend", {"special": ("<s>", "</s>"), "bos": "<s>", "eos": "</s>"}),
    ("default", "metaspace", {"special": ("<s>", "</s>"), "bos": "<s>", "eos": "</s>"}),
    ("mistral", "metaspace", {"special": ("<s>", "</s>"), "bos": "<s>", "eos": "</s>"}),
]


@pytest.mark.parametrize(("template", "kind", "options"), KINDS, ids=[f"{t}-{k}" for t, k, _ in KINDS])
def test_trained_tokens_are_the_answers(new_tokenizer: Any, template: str, kind: str, options: dict[str, Any]) -> None:
    tokenizer = new_tokenizer(template, kind=kind, **options)
    renderer = Renderer(tokenizer)
    exact = kind in ("byte_level", "trimmed")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(EXCHANGES, st.none() | CONTENT)
    def check(exchanges: list[tuple[str, str]], system: str | None) -> None:
        messages = [] if system is None else [Message(role="system", content=system)]
        for question, answer in exchanges:
            messages += [Message(role="user", content=question), Message(role="assistant", content=answer)]
        examples = renderer.render(Conversation(messages=tuple(messages), source=Source("rows.jsonl", 1)))
        trained = {}
        for example in examples:
            last = len(messages) if example.turn is None else example.turn + 1
            turns = [message.for_template() for message in messages[:last]]
            assert example.text == tokenizer.apply_chat_template(turns, tokenize=False)
            assert same(tokenizer.decode(example.input_ids), example.text, exact)
            trained |= dict(zip(example.trained_turns, runs(example, tokenizer), strict=True))
            ends = [int(ids[-1]) for ids in id_runs(example)]
            assert set(ends) == {tokenizer.eos_token_id}
            first = example.trained_turns[0]
            prompt = renderer.generation_ids(messages[:first])
            assert example.input_ids[: len(prompt)].tolist() == prompt
            assert not example.loss_mask[: len(prompt)].any()
        answers = {turn: message.content for turn, message in enumerate(messages) if message.role == "assistant"}
        assert trained.keys() == answers.keys()
        for turn, content in answers.items():
            assert same(trained[turn].strip(), f"{content}{tokenizer.eos_token}".strip(), exact)

    check()


def same(found: str, expected: str, exact: bool) -> bool:
    """Equal, but for the composed forms that NFC makes, or for spaces where the tokenizer adds them."""
    import unicodedata

    if not exact:
        return "".join(found.split()) == "".join(expected.split())
    return unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", expected)


def id_runs(example: Any) -> list[np.ndarray]:
    edges = np.flatnonzero(np.diff(example.loss_mask.astype(bool), prepend=False, append=False))
    return [example.input_ids[start:end] for start, end in edges.reshape(-1, 2)]


def runs(example: Any, tokenizer: Any) -> list[str]:
    return [tokenizer.decode(ids) for ids in id_runs(example)]
