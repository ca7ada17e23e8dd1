"""Preference rows -> pairs of examples: one prompt, two whole answers, and every other row counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft.config import SFTConfig
from sft.data.pairs import Pair
from sft.data.prepare import prepare
from sft.errors import DataError

QUESTION = {"role": "user", "content": "What is the capital of Spain?"}
LONG = [
    {"role": "system", "content": "Answer."},
    {"role": "user", "content": "What is the capital of France? " * 4},
    {"role": "assistant", "content": "It is Paris."},
    QUESTION,
]


def row(prompt: Any = None, chosen: str = "Madrid.", rejected: str = "It is Paris, of course it is.") -> dict[str, Any]:
    return {"prompt": prompt or [QUESTION], "chosen": chosen, "rejected": rejected}


class Prepared:
    """The pairs of a few rows, and what became of the rest."""

    def __init__(self, rows: list[dict[str, Any]], tokenizer_folder: Path, tmp_path: Path, **options: Any) -> None:
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
        settings = {"stage": "dpo", "data_path": str(path), "cache_dir": str(tmp_path / "cache"), **options}
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        part = prepare(SFTConfig(**settings), self.tokenizer, quiet=True).train
        self.report = part.report
        self.pairs = [Pair(part.examples[i], part.examples[i + 1]) for i in range(0, len(part.examples), 2)]

    def texts(self, number: int = 0) -> tuple[str, str, str]:
        """Prompt and answers of a pair."""
        pair = self.pairs[number]
        start = pair.prompt_length
        chosen, rejected = pair.chosen.input_ids, pair.rejected.input_ids
        assert chosen[:start].tolist() == rejected[:start].tolist()
        assert all(
            side.loss_mask[start:].all() and not side.loss_mask[:start].any() for side in (pair.chosen, pair.rejected)
        )
        return tuple(self.tokenizer.decode(ids) for ids in (chosen[:start], chosen[start:], rejected[start:]))


def test_prompt_and_answers_are_those_of_generation(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    prepared = Prepared([row()], tiny_tokenizer_folder, tmp_path)
    prompt = prepared.tokenizer.apply_chat_template([QUESTION], tokenize=False, add_generation_prompt=True)
    assert prepared.texts() == (prompt, "Madrid.<|im_end|>", "It is Paris, of course it is.<|im_end|>")
    assert (prepared.report.pairs, prepared.report.examples) == (1, 2)
    assert prepared.report.stop_token_ids == [prepared.tokenizer.convert_tokens_to_ids("<|im_end|>")]


def test_earlier_answers_are_not_compared(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    prompt, chosen, _ = Prepared([row(LONG)], tiny_tokenizer_folder, tmp_path).texts()
    assert "It is Paris.<|im_end|>" in prompt
    assert chosen == "Madrid.<|im_end|>"


def test_a_long_pair_is_dropped_and_counted(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    prepared = Prepared([row(), row(LONG)], tiny_tokenizer_folder, tmp_path, max_length=80)
    assert (prepared.report.pairs, dict(prepared.report.dropped)) == (1, {"longer than max_length 80": 1})
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: \d+ tokens .*max_length is 80 and overlong is 'error'"):
        Prepared([row(), row(LONG)], tiny_tokenizer_folder, tmp_path, max_length=80, overlong="error")


def test_a_long_prompt_loses_its_oldest_turns_and_no_answer_its_end(
    tiny_tokenizer_folder: Path, tmp_path: Path
) -> None:
    prepared = Prepared([row(LONG)], tiny_tokenizer_folder, tmp_path, max_length=80, overlong="cut_start")
    shorter = [LONG[0], QUESTION]
    prompt = prepared.tokenizer.apply_chat_template(shorter, tokenize=False, add_generation_prompt=True)
    assert prepared.texts() == (prompt, "Madrid.<|im_end|>", "It is Paris, of course it is.<|im_end|>")
    assert prepared.report.cut == 1


def test_what_is_left_of_a_cut_prompt_has_a_limit_of_its_own(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    """Two older exchanges; one of them would fit. A pair that fits whole is not cut, whatever its prompt."""
    earlier = [{"role": "user", "content": "Yes?"}, {"role": "assistant", "content": "Yes."}]
    prompt = [LONG[0], *LONG[1:3], *earlier, QUESTION]
    whole = Prepared([row(prompt)], tiny_tokenizer_folder, tmp_path)
    room = {"max_length": len(whole.pairs[0]) - 1, "overlong": "cut_start"}
    fitting = Prepared([row(prompt)], tiny_tokenizer_folder, tmp_path, **room)
    assert ("France" in fitting.texts()[0], "Yes?" in fitting.texts()[0]) == (False, True)
    limit = fitting.pairs[0].prompt_length - 1
    limited = Prepared([row(prompt)], tiny_tokenizer_folder, tmp_path, max_prompt_length=limit, **room)
    assert "Yes?" not in limited.texts()[0]
    wide = {"max_length": len(whole.pairs[0]), "overlong": "cut_start", "max_prompt_length": limit}
    assert Prepared([row(prompt)], tiny_tokenizer_folder, tmp_path, **wide).texts() == whole.texts()


def test_the_prompt_of_a_text_is_cut_by_tokens(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    text = row("The wind and the stars at night. " * 8, "Yes.", "No no no.")
    whole = Prepared([text], tiny_tokenizer_folder, tmp_path)
    cut = Prepared([text], tiny_tokenizer_folder, tmp_path, max_length=40, overlong="cut_start")
    assert len(cut.pairs[0]) == 40
    assert whole.texts()[0].endswith(cut.texts()[0])
    assert cut.texts()[1:] == whole.texts()[1:] == ("Yes.<|im_end|>", "No no no.<|im_end|>")


def test_equal_answers_teach_nothing_and_are_counted(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    report = Prepared([row(), row(chosen="Yes.", rejected="Yes.")], tiny_tokenizer_folder, tmp_path).report
    assert (report.pairs, dict(report.dropped)) == (1, {"chosen and rejected are the same": 1})


def test_a_weight_is_refused(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 x a weight, which stage dpo has no use for"):
        Prepared([row(), {**row(), "weight": 2}], tiny_tokenizer_folder, tmp_path)


def test_held_out_pairs_are_not_trained(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    rows = [row(chosen=f"{number}.") for number in range(10)]
    assert Prepared(rows, tiny_tokenizer_folder, tmp_path, validation_size=3).report.pairs == 7


@pytest.mark.parametrize("name", ["firefly/dummy_dpo.jsonl", "llamafactory/dpo_en_demo.json"])
def test_real_pairs_with_a_template_that_rewrites_history(shared_data: Path, tmp_path: Path, name: str) -> None:
    """Qwen3's template takes the thoughts out of earlier turns; the prompt is the one it writes for generation."""
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models" / "qwen3-tokenizer")
    path = shared_data / name
    config = SFTConfig(stage="dpo", data_path=str(path), max_length=2048, cache_dir=str(tmp_path / "cache"))
    part = prepare(config, tokenizer, quiet=True).train
    assert part.report.pairs + part.report.dropped.total() == part.report.rows
    assert part.report.pairs > 0.9 * part.report.rows
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for number in range(0, len(part.examples), 2):
        pair = Pair(part.examples[number], part.examples[number + 1])
        start = pair.prompt_length
        assert pair.chosen.input_ids[:start].tolist() == pair.rejected.input_ids[:start].tolist()
        assert pair.chosen.input_ids[-1] == pair.rejected.input_ids[-1] == end
        assert tokenizer.decode(pair.chosen.input_ids[:start]).endswith(
            "<|im_start|>assistant\n<think>\n\n</think>\n\n"
        )
