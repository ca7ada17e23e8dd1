from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft.generation import Sampling
from sft.generation.in_process import complete
from sft.generation.streaming import PieceDecoder, stream


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_the_pieces_are_the_answer_that_batched_generation_gives(stories: tuple[Any, Any], temperature: float) -> None:
    sampling = Sampling(max_new_tokens=60, temperature=temperature, seed=4)
    pieces: list[str] = []
    completion = stream(*stories, "<s>Once upon a time", sampling, on_text=pieces.append)
    assert completion == complete(*stories, ["<s>Once upon a time"], sampling)[0]
    assert "".join(pieces) == completion.text
    assert len(pieces) > 10


def test_a_stop_token_ends_the_stream_and_is_not_shown(stories: tuple[Any, Any]) -> None:
    _, tokenizer = stories
    [comma] = tokenizer.encode(",", add_special_tokens=False)[-1:]
    pieces: list[str] = []
    sampling = Sampling(max_new_tokens=60, stop_token_ids=(comma,))
    completion = stream(*stories, "<s>One day", sampling, on_text=pieces.append)
    assert completion.finished == "stop"
    assert "," not in "".join(pieces)
    assert "".join(pieces) == completion.text


def test_interrupting_leaves_the_model_as_it_was(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    model.train()
    seen: list[str] = []

    def interrupt(piece: str) -> None:
        seen.append(piece)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(model, tokenizer, "<s>Once", Sampling(max_new_tokens=60), on_text=interrupt)
    assert len(seen) == 3
    assert model.training
    model.eval()


TEXTS = [
    "Ein schöner Tag, größer als gestern",
    "模型说:你好,世界🌍!",
    "👩‍👩‍👧‍👦 family 🤦🏽‍♂️ and ქართული",
    "a lone � stays",
    "tail 🌍",
]


@pytest.mark.parametrize("name", ["qwen3-tokenizer", "stories260K-hf", "gpt-neox-20b-tokenizer"])
@pytest.mark.parametrize("text", TEXTS)
def test_characters_split_over_tokens_come_whole(shared_data: Path, name: str, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models" / name)
    ids = tokenizer.encode(text, add_special_tokens=False)
    decoder = PieceDecoder(tokenizer)
    pieces = [decoder.add(token) for token in ids]
    pieces.append(decoder.finish())
    assert "".join(pieces) == text
    if "�" not in text:
        assert not any("�" in piece for piece in pieces)
    assert sum(bool(piece) for piece in pieces) >= len(text.split())


def test_half_a_character_at_the_end_is_shown_as_what_it_is(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models" / "stories260K-hf")
    ids = tokenizer.encode("ok 🌍", add_special_tokens=False)[:-1]
    decoder = PieceDecoder(tokenizer)
    assert "".join(decoder.add(token) for token in ids).strip() == "ok"
    assert "�" in decoder.finish()
