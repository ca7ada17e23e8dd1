"""Texts -> blocks: nothing is lost, nothing is trained twice, and what is left over is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from sft.config import SFTConfig
from sft.data.blocks import cut_blocks, group_blocks, join
from sft.data.prepare import prepare
from sft.data.types import Example, Source
from sft.errors import DataError

TEXTS = ["The capital of France is Paris.", "No.", "What is the capital of Spain? " * 6, "It is Madrid.\n\nYes."]


def document(first: int, length: int) -> Example:
    ids = np.arange(first, first + length, dtype=np.int32)
    return Example(input_ids=ids, loss_mask=np.ones(length, np.uint8), text="", source=Source("a.jsonl", first + 1))


def prepared(texts: list[str], tokenizer_folder: Path, tmp_path: Path, **options: Any) -> Any:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    settings = {"stage": "pretrain", "data_path": str(path), "cache_dir": str(tmp_path / "cache"), **options}
    return prepare(SFTConfig(**settings), AutoTokenizer.from_pretrained(tokenizer_folder), quiet=True)


@pytest.mark.parametrize("max_length", [2, 3, 7, 16, 50])
def test_every_token_stands_once_and_in_order(max_length: int) -> None:
    documents = [document(0, 5), document(5, 1), document(6, 20), document(26, 6)]
    blocks = list(cut_blocks(documents, max_length))
    assert np.concatenate([join(block).input_ids for block in blocks]).tolist() == list(range(32))
    assert [sum(map(len, block)) for block in blocks[:-1]] == [max_length] * (32 // max_length - (32 % max_length == 0))
    lengths = [len(stretch) for block in blocks for stretch in block]
    assert [len(pack) for pack in group_blocks(lengths, max_length)] == [len(block) for block in blocks]
    for block in blocks:
        assert join(block).loss_mask.tolist() == [0] + [1] * (sum(map(len, block)) - 1)
        assert all(stretch.loss_mask.tolist() == [0] + [1] * (len(stretch) - 1) for stretch in block)


def test_blocks_are_the_tokens_of_the_texts_with_an_end_token_behind_each(
    tiny_tokenizer_folder: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    whole = [token for text in TEXTS for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
    part = prepared(TEXTS, tiny_tokenizer_folder, tmp_path, max_length=16).train
    blocks = [example.input_ids.tolist() for example in part.examples]
    assert blocks == [whole[start : start + 16] for start in range(0, len(whole), 16)]
    assert (part.report.documents, part.report.blocks, part.report.examples) == (4, len(blocks), len(blocks))
    assert part.report.tokens == len(whole)
    assert part.report.trained_tokens == len(whole) - len(blocks)
    assert part.report.stop_token_ids == [tokenizer.eos_token_id]


def test_isolated_documents_are_stretches_of_the_same_blocks(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    plain = prepared(TEXTS, tiny_tokenizer_folder, tmp_path, max_length=16).train
    apart = prepared(TEXTS, tiny_tokenizer_folder, tmp_path, max_length=16, isolate_documents=True).train
    packs = group_blocks(apart.examples.lengths.tolist(), 16)
    joined = [np.concatenate([apart.examples[i].input_ids for i in pack]).tolist() for pack in packs]
    assert joined == [block.input_ids.tolist() for block in plain.examples]
    assert [apart.examples.source(pack[0]).line for pack in packs] == [
        plain.examples.source(i).line for i in range(len(plain.examples))
    ]
    assert apart.report.blocks == plain.report.blocks == len(packs)
    assert apart.report.trained_tokens == apart.report.tokens - len(apart.examples)


def test_one_token_left_over_is_dropped_and_counted(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    length = len(tokenizer(TEXTS[0])["input_ids"])  # the end token makes one more
    report = prepared(TEXTS[:1], tiny_tokenizer_folder, tmp_path, max_length=length).train.report
    assert (report.blocks, report.tokens) == (1, length)
    assert dict(report.dropped) == {"one token left over, with nothing before it": 1}


def test_a_weighted_document_keeps_its_weight_in_the_block(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "weighted.jsonl"
    path.write_text('{"text": "No."}\n{"text": "Yes.", "weight": 2}\n')
    config = SFTConfig(stage="pretrain", data_path=str(path), cache_dir=str(tmp_path / "cache"))
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    block = prepare(config, tokenizer, quiet=True).train.examples[0]
    first = len(tokenizer("No.")["input_ids"]) + 1
    assert block.weights is not None
    assert block.weights.tolist() == [1.0] * first + [2.0] * (len(block) - first)


def test_a_conversation_is_no_text(tiny_tokenizer_folder: Path, alpaca_file: Path, tmp_path: Path) -> None:
    config = SFTConfig(stage="pretrain", data_path=str(alpaca_file), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(DataError, match="40 x a conversation, where stage pretrain reads texts"):
        prepare(config, AutoTokenizer.from_pretrained(tiny_tokenizer_folder), quiet=True)


@pytest.mark.parametrize("name", ["firefly/dummy_pretrain.jsonl", "llamafactory/c4_demo.jsonl"])
def test_real_texts(shared_data: Path, tmp_path: Path, name: str) -> None:
    """Blocks against the tokenizer's own ids of each text, joined by hand."""
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models" / "qwen3-tokenizer")
    lines = (shared_data / name).read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    whole = [token for text in texts for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
    config = SFTConfig(
        stage="pretrain", data_path=str(shared_data / name), max_length=1024, cache_dir=str(tmp_path / "cache")
    )
    part = prepare(config, tokenizer, quiet=True).train
    assert [token for block in part.examples for token in block.input_ids.tolist()] == whole
    assert set(part.examples.lengths[:-1].tolist()) == {1024}
    assert part.report.documents == part.report.rows == len(texts)
