"""The table of subsets, and what is made of rows and scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sft.data.types import Source
from sft.errors import DataError
from sft.tasks.longbench import average_categories, make_longbench, read_subsets
from sft.tasks.metrics import METRICS
from sft.tasks.task import TaskExample

SOURCE = Source("rows.jsonl", 1)


def example(**values: Any) -> TaskExample:
    given: dict[str, Any] = {"id": "1", "inputs": {"context": "", "input": ""}, "references": ("x",), "source": SOURCE}
    return TaskExample(**(given | values))


def test_the_table_equals_the_published_configuration(shared_data: Path) -> None:
    folder = shared_data / "longbench" / "config"
    prompts, limits = (
        json.loads((folder / f"dataset2{name}.json").read_text("utf-8")) for name in ("prompt", "maxlen")
    )
    subsets = read_subsets()
    assert list(subsets) == list(prompts)
    assert {name: subset.prompt for name, subset in subsets.items()} == prompts
    assert {name: subset.max_new_tokens for name, subset in subsets.items()} == limits


def test_the_table_holds_the_rules_of_the_published_code() -> None:
    """Lists of pred.py and eval.py, and the row counts of the paper."""
    subsets = read_subsets()
    plain = {"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"}
    first_line = {"trec", "triviaqa", "samsum", "lsht"}
    by_length = {"qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "gov_report", "multi_news", "trec", "triviaqa"}
    by_length |= {"samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p"}
    assert {name for name, subset in subsets.items() if not subset.chat} == plain
    assert {name for name, subset in subsets.items() if subset.first_line} == first_line
    assert {name for name, subset in subsets.items() if subset.longbench_e} == by_length
    assert {name for name, subset in subsets.items() if subset.stop_at_newline} == {"samsum"}
    assert sum(subset.num_rows for subset in subsets.values()) == 4750
    assert {subset.metric for subset in subsets.values()} - {"classification"} <= set(METRICS)
    for subset in subsets.values():
        assert set(re.findall(r"{(.*?)}", subset.prompt)) <= {"context", "input"}


def test_braces_in_a_row_are_text() -> None:
    task = make_longbench("repobench-p")
    asked = task.prompt(example(inputs={"context": "{input} {0} {", "input": "}}{context}"}))
    assert asked == "Please complete the code given below. \n{input} {0} {}}{context}Next line of code:\n"


def test_the_best_reference_counts_and_only_the_first_line() -> None:
    task = make_longbench("triviaqa")
    assert task.score("\n\nParis\nLondon is not", example(references=("Rome", "paris")))["score"] == 1.0
    assert make_longbench("hotpotqa").score("Paris\nLondon", example(references=("paris",)))["score"] < 1.0


def test_scores_are_put_together_as_published() -> None:
    task = make_longbench("lcc")
    rows = [{"score": score} for score in (0.1, 0.2, 0.4)]
    results = task.aggregate(rows, [example()] * 3)
    assert results == {
        "dataset": "longbench/lcc",
        "num_samples": 3,
        "score": 23.33,
        "main_metric": "score",
        "main_score": 23.33,
        "scorer": "code_sim",
    }


def test_longbench_e_scores_each_length_for_itself() -> None:
    task = make_longbench("trec", by_length=True)
    rows = [{"score": score} for score in (1.0, 0.0, 0.5)]
    results = task.aggregate(rows, [example(length=length) for length in (3999, 4000, 7999)])
    assert results["lengths"] == {"0-4k": 100.0, "4-8k": 25.0, "8k+": None}
    assert results["score"] == 50.0
    with pytest.raises(DataError, match=r"rows\.jsonl:1: 'length' is 'None', but it must be a whole number"):
        task.read_prediction({"pred": "", "answers": ["x"], "all_classes": ["x"]}, SOURCE)


def test_no_rows_are_no_score() -> None:
    with pytest.raises(DataError, match="no answers to score"):
        make_longbench("lcc").aggregate([], [])


def test_a_category_with_a_missing_subset_has_no_mean() -> None:
    scores = {name: 50.0 for name in read_subsets() if name != "vcsum"}
    averages = average_categories(scores)
    assert averages["english"]["average"] == 50.0
    assert averages["chinese"]["average"] is None
    assert averages["chinese"]["categories"]["summarization"] is None
    assert averages["chinese"]["categories"]["code"] == 50.0


def test_a_written_prediction_is_read_back_the_same() -> None:
    task = make_longbench("trec")
    asked = example(references=("Date",), classes=("Date", "Food"), length=12)
    line = json.loads(json.dumps(task.prediction_row("Date\n", asked)))
    assert {"pred", "answers", "all_classes", "length"} <= set(line), "what the authors' scorer reads"
    prediction, read = task.read_prediction(line, SOURCE)
    assert (prediction, read.references, read.classes, read.length) == ("Date\n", ("Date",), ("Date", "Food"), 12)
