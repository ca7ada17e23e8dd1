"""What a run will compute, counted before it does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft.config import SFTConfig
from sft.data.prepare import prepare
from sft.training.plan import Plan, make_plan
from sft.training.plan_text import describe_formats, describe_plan


@pytest.fixture
def plan(tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path) -> Any:
    """The plan of forty rows, whose template writes a newline behind the token that ends an answer."""

    def make(**changes: Any) -> Plan:
        config = SFTConfig(
            model_name_or_path=str(tiny_model_folder),
            data_path=str(alpaca_file),
            cache_dir=str(tmp_path / "cache"),
            **{"max_length": 128, "gradient_accumulation_steps": 1, "num_train_epochs": 1, **changes},
        )
        tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
        return make_plan(config, prepare(config, tokenizer, quiet=True), row_groups=1)

    return make


def test_the_newline_behind_each_answer_is_left_out_and_counted(plan: Any) -> None:
    for packing in (False, True):
        found = plan(packing=packing)
        assert found.tokens_left_out == 40
        assert found.to_dict()["tokens_left_out"] == 40
        assert "40 tokens behind the last trained one" in describe_plan(found)
    assert sum(found.train_computed[i] for pack in found.train_packs for i in pack) == found.train_computed.sum()


def test_experts_that_count_every_token_see_every_token(plan: Any) -> None:
    found = plan(router_aux_loss=True)
    assert found.tokens_left_out == 0
    assert "behind the last trained one" not in describe_plan(found)


def test_steps_of_batches_by_tokens_are_known_beforehand(plan: Any) -> None:
    found = plan(tokens_per_batch=512)
    assert found.steps == len(found.batches) < 40
    widest = [max(found.train_computed[row] for row in batch) * len(batch) for batch in found.batches]
    assert max(widest) <= 512
    assert f"{len(found.batches)} by tokens" in describe_plan(found)
    assert f"{found.steps} of 1 batch each" in describe_plan(found)


def test_many_sources_of_one_format_share_a_line() -> None:
    """LongBench's 21 subsets took 21 lines that said the same."""
    tasks = {f"longbench/{number}": "rows of the task" for number in range(21)}
    assert describe_formats({**tasks, "a.json": "alpaca"}) == [
        "longbench/0 and 20 others: rows of the task",
        "a.json: alpaca",
    ]
    few = {"a.json": "alpaca", "b.json": "alpaca"}
    assert describe_formats(few) == ["a.json: alpaca", "b.json: alpaca"]


@pytest.mark.parametrize("overlong", ["drop", "cut_start"])
def test_a_length_that_keeps_more_is_named_where_many_rows_are_too_long(
    plan: Any, alpaca_file: Path, overlong: str
) -> None:
    """Only the number of those that were dropped was said."""
    words = [2] * 30 + [150] * 9 + [400]
    rows = [{"instruction": f"{at}", "output": "one " * many} for at, many in enumerate(words)]
    alpaca_file.write_text(json.dumps(rows), encoding="utf-8")
    text = describe_plan(plan(overlong=overlong))
    (said,) = re.findall(r"max_length (\d+) would keep (\d+)% of all 40, (\d+) every one", text)
    enough, share, every = map(int, said)
    assert share == 97  # 39 of 40
    assert plan(overlong=overlong, max_length=enough).data.train.report.examples == 39
    assert plan(overlong=overlong, max_length=every).data.train.report.examples == 40
    assert plan(overlong=overlong, max_length=every - 1).data.train.report.examples == 39
    assert "would keep" not in describe_plan(plan(overlong=overlong, max_length=enough))
