"""Templates that come with models' own tokenizers, of which TRL keeps copies: each trains answers and their ends as it
is, so that no name is needed for these families."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sft.data.render import Renderer
from sft.data.types import Conversation, Message, Source

ENDS = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "cohere2": "<|END_RESPONSE|>",
    "gemma3": "<end_of_turn>",
    "gemma4": "<turn|>",
    "gptoss": "<|return|>",
    "lfm2": "<|im_end|>",
    "llama3_1": "<|eot_id|>",
    "llama3_2": "<|eot_id|>",
    "nemotron_3_nano": "<|im_end|>",
    "phi3_5": "<|end|>",
    "qwen2_5_vl": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "qwen3_5_nothink": "<|im_end|>",
    "qwen3_5_think": "<|im_end|>",
    "qwen3_6": "<|im_end|>",
    "qwen3_vl": "<|im_end|>",
}
MESSAGES = (
    Message(role="system", content="S"),
    Message(role="user", content="Q1"),
    Message(role="assistant", content="one, two"),
    Message(role="user", content="Q2"),
    Message(role="assistant", content="three"),
)
MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|<(?:start|end)_of_turn>|<\|turn>|<turn\|>|<\|channel>|<channel\|>")


def tokenizer_with(template: str) -> PreTrainedTokenizerFast:
    """Bytes, and one token for each marker in the template."""
    alphabet = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>", "</s>", *sorted(set(MARK.findall(template)))])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("name", ENDS)
def test_a_model_s_own_template(name: str) -> None:
    spec = importlib.util.find_spec("trl")
    folder = Path(spec.origin).parent / "chat_templates" if spec is not None and spec.origin else Path("missing")
    if not (folder / f"{name}.jinja").is_file():
        pytest.skip(f"the installed TRL has no {name}.jinja")
    renderer = Renderer(tokenizer_with((folder / f"{name}.jinja").read_text(encoding="utf-8")))
    examples = renderer.render(Conversation(messages=MESSAGES, source=Source("rows.jsonl", 1)))
    trained = [text for example in examples for text in example.trained_text]
    opening = "<|channel|>final<|message|>" if name == "gptoss" else ""
    assert trained == [f"{opening}{answer}{ENDS[name]}" for answer in ("one, two", "three")]
    for example in examples:
        prompt = renderer.generation_ids(MESSAGES[: example.trained_turns[0]])
        assert example.input_ids[: len(prompt)].tolist() == prompt
        assert not example.loss_mask[: len(prompt)].any()
