"""Token ids and trained tokens of a run from a Firefly file, against Firefly's own rule for the same rows.

Its rule: system, question and answer pieces, each stripped, put into the template's form and encoded alone; every
answer piece is trained; what lies beyond max_seq_length is cut off. Mended on purpose: a line end after the end token
is not trained, and what is cut off are whole exchanges.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sft.cli.options import config_from_words
from sft.data.prepare import prepare
from sft.models.tokenizer import load_tokenizer, load_tokenizer_for

OWN_ROWS = [
    {"conversation": [{"human": " What is the capital of Spain? ", "assistant": "Madrid, of course.\n"}], "id": 1},
    {
        "conversation": [
            {"human": "one\n\ntwo", "assistant": "three"},
            {"human": "four  five", "assistant": "It is\n\nParis."},
        ]
    },
    {"conversation": [{"human": "\tWhat?", "assistant": " one two three "}] * 12},
]
LLAMA2 = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\nIf a question does not make "
    "any sense, or is not factually coherent, explain why instead of answering something not correct. If you don't "
    "know the answer to a question, please don't share false information."
)


class Form(NamedTuple):
    """What Firefly registers under a name: the system piece of a row without one, question, answer."""

    special: dict[str, str]
    head: str
    question: str
    answer: str
    more: tuple[str, ...] = ()


FORMS = {
    "default": Form({"eos_token": "</s>", "pad_token": "<pad>"}, "", "User: {}\nAssistant: ", "{} </s>"),
    "llama2": Form(
        {"bos_token": "<s>", "eos_token": "</s>"}, f"<<SYS>>\n{LLAMA2}\n<</SYS>>\n\n", "[INST]{}[/INST]", "{} </s>"
    ),
    "gemma": Form(
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        "<bos>",
        "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n",
        "{}<eos>\n",
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    "qwen": Form(
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
        "{}<|im_end|>\n",
        ("<|im_start|>", "<|im_end|>"),
    ),
}


def encode(tokenizer: Any, form: Form, row: dict[str, Any]) -> tuple[list[int], list[int], list[int]]:
    """Ids and target mask of a whole row, by the rule, and where its exchanges end."""
    ids = tokenizer.encode(form.head, add_special_tokens=False) if form.head else []
    mask, ends = [0] * len(ids), []
    for pair in row["conversation"]:
        asked = tokenizer.encode(form.question.format(pair["human"].strip()), add_special_tokens=False)
        answered = tokenizer.encode(form.answer.format(pair["assistant"].strip()), add_special_tokens=False)
        ids = ids + asked + answered
        mask += [0] * len(asked) + [1] * (len(answered) - form.answer.endswith("\n"))
        mask += [0] * form.answer.endswith("\n")
        ends.append(len(ids))
    return ids, mask, ends


def save_tokenizer(folder: Path, form: Form, texts: list[str]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=list(dict.fromkeys([*form.special.values(), *form.more])),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **form.special).save_pretrained(folder)


@pytest.fixture
def compare(tmp_path: Path) -> Callable[[str, list[dict[str, Any]], int], int]:
    """Prepare rows as a Firefly file says, hold each against the rule; returns how many were shortened."""

    def compare(template: str, rows: list[dict[str, Any]], too_short_by: int) -> int:
        form = FORMS[template]
        texts = [text for row in rows for pair in row["conversation"] for text in pair.values()]
        save_tokenizer(tmp_path / "model", form, texts)
        tokenizer = load_tokenizer(str(tmp_path / "model"))
        expected = [encode(tokenizer, form, row) for row in rows]
        longest = max(len(ids) for ids, _, _ in expected) - too_short_by
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        values = {
            "output_dir": str(tmp_path / "out"),
            "model_name_or_path": str(tmp_path / "model"),
            "train_file": str(tmp_path / "rows.jsonl"),
            "template_name": template,
            "max_seq_length": longest,
        }
        (tmp_path / "args.json").write_text(json.dumps(values), encoding="utf-8")
        config = config_from_words([str(tmp_path / "args.json"), "--cache_dir", str(tmp_path / "cache")])
        examples = list(prepare(config, load_tokenizer_for(config), quiet=True).train.examples)
        assert len(examples) == len(rows)
        for (ids, mask, ends), example in zip(expected, examples, strict=True):
            kept = max(end for end in ends if end <= longest)
            assert example.input_ids.tolist() == ids[:kept]
            assert example.loss_mask.tolist() == mask[:kept]
        return sum(ends[-1] > longest for _, _, ends in expected)

    return compare


@pytest.mark.parametrize("template", FORMS)
def test_ids_and_trained_tokens(template: str, compare: Any) -> None:
    assert compare(template, OWN_ROWS, 0) == 0
    assert compare(template, OWN_ROWS, 20) == 1


@pytest.mark.parametrize("template", FORMS)
def test_ids_and_trained_tokens_of_real_rows(template: str, compare: Any, shared_data: Path) -> None:
    path = shared_data / "firefly" / "dummy_data.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][:12]
    assert compare(template, rows, 0) == 0
    assert compare(template, rows, 500) > 0
