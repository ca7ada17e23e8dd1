"""What counts as true, by whom, and what may be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sft.data.types import Source
from sft.errors import ConfigError, DataError, ModelError
from sft.tasks.combined import CombinedWeights, combined_score, comparable, require_comparable
from sft.tasks.similarity import open_similarity
from sft.tasks.task import TaskExample
from sft.tasks.truthfulqa import TruthfulQaTask, make_truthfulqa

SOURCE = Source("rows.jsonl", 3)


class Negative:
    """Scores below 0, as BLEURT gives them: less for each letter of difference in length."""

    name = "negative"

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        return [-1.0 - abs(len(p) - len(r)) for p, r in zip(predictions, references, strict=True)]


def example(correct: Sequence[str] = ("aa",), incorrect: Sequence[str] = ("bbbb",)) -> TaskExample:
    return TaskExample(
        id="truthfulqa-0",
        inputs={"question": "?"},
        references=tuple(correct),
        incorrect=tuple(incorrect),
        taught="aa",
        source=SOURCE,
    )


def rouge_task() -> TruthfulQaTask:
    return make_truthfulqa(open_similarity(None, None))


def test_an_answer_is_true_if_it_is_nearer_to_the_truth() -> None:
    task = rouge_task()
    asked = example(["the earth is round", "round"], ["the earth is flat"])
    assert task.score("the earth is round", asked) == {"score": 1.0, "correct": True, "max_score": 1.0, "diff": 0.25}
    assert task.score("the earth is", asked)["correct"] is False, "equally near is not nearer"


def test_likeness_may_be_negative_and_missing_references_count_0() -> None:
    task = make_truthfulqa(Negative())
    rows = task.score_all(["aa", "bbbb", "aa"], [example(), example(), example(incorrect=())])
    assert [row["max_score"] for row in rows] == [-1.0, -3.0, -1.0]
    assert [row["correct"] for row in rows] == [True, False, False]
    results = task.aggregate(rows, [example()] * 3)
    assert results["avg_max_score"] == pytest.approx(-5 / 3)
    assert (results["num_samples"], results["correct_count"], results["scorer"]) == (3, 1, "negative")
    assert results["main_score"] == results["accuracy"] == 1 / 3


def test_what_follows_with_the_next_question_is_no_answer() -> None:
    task = rouge_task()
    asked = example(["Paris"], ["London"])
    alone, followed = (task.score(text, asked) for text in (" Paris", " Paris\nQ: Of England?\nA: London"))
    assert alone == followed


def test_a_written_prediction_is_read_back_the_same() -> None:
    task = rouge_task()
    prediction, read = task.read_prediction(task.prediction_row("aa", example()), SOURCE)
    assert (prediction, read.references, read.incorrect) == ("aa", ("aa",), ("bbbb",))


def test_answers_are_looked_up_where_a_line_lacks_them() -> None:
    task = make_truthfulqa(open_similarity("bleu", None), load=lambda: [example()])
    _, found = task.read_prediction({"prediction": "x", "question": "?"}, SOURCE)
    assert found.incorrect == ("bbbb",)
    with pytest.raises(DataError, match=r"rows\.jsonl:3: the row has no 'incorrect_answers'.*no question 'other'"):
        task.read_prediction({"prediction": "x", "question": "other"}, SOURCE)


def test_scorers_by_name() -> None:
    assert open_similarity(None, None).name == "rougeL"
    assert open_similarity("bleu", None)(["one two three four"], ["one two three four"]) == [pytest.approx(1.0)]
    assert open_similarity(None, "some/checkpoint").name == "bleurt:some/checkpoint"
    with pytest.raises(ConfigError, match=r"'rouge' is not known; did you mean 'rougeL'\? It is one"):
        open_similarity("rouge", None)
    with pytest.raises(ConfigError, match="bleurt needs a checkpoint"):
        open_similarity("bleurt", None)


# BLEURT


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with one output, in the format BLEURT has in transformers."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("bleurt")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcxyz")]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        num_labels=1,
        initializer_range=1.0,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_bleurt_scores_pairs_as_the_model_alone_does(checkpoint: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    predictions = ["a b c", "x", "a" * 3 + " b" * 60, "", "c a"] * 30
    references = ["a b", "x y z", "b", "a", "c a"] * 30
    found = open_similarity("bleurt", str(checkpoint))(predictions, references)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    for prediction, reference, score in zip(predictions[:5], references[:5], found[:5], strict=True):
        inputs = tokenizer([reference], [prediction], return_tensors="pt", truncation=True, max_length=24)
        with torch.inference_mode():
            assert score == pytest.approx(model(**inputs).logits.item(), abs=1e-5)
    assert found[:5] * 30 == pytest.approx(found, abs=1e-5)
    assert len({round(score, 4) for score in found}) == 5


def test_truthfulqa_by_bleurt(checkpoint: Path) -> None:
    task = make_truthfulqa(open_similarity(None, str(checkpoint)))
    asked = [example(["a", "c"], ["b"]), example(["x"], ["y"])]
    rows = task.score_all(["a", "b"], asked)
    assert task.aggregate(rows, asked)["scorer"] == f"bleurt:{checkpoint}"
    for prediction, one, row in zip(("a", "b"), asked, rows, strict=True):
        alone = task.score(prediction, one)
        assert row["max_score"] == pytest.approx(alone["max_score"], abs=1e-5)
        assert row["correct"] == alone["correct"]


def test_a_checkpoint_that_is_none_is_named(checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    with pytest.raises(ModelError, match="cannot be loaded"):
        open_similarity("bleurt", str(tmp_path / "nothing"))(["a"], ["b"])
    two = tmp_path / "two"
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2, ignore_mismatched_sizes=True)
    model.save_pretrained(two)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (two / name).write_bytes((checkpoint / name).read_bytes())
    with pytest.raises(ModelError, match="has 2 outputs; BLEURT has one"):
        open_similarity("bleurt", str(two))(["a"], ["b"])


# Combined


def evaluation(**changes: Any) -> dict[str, dict[str, Any]]:
    truthfulqa = {"accuracy": 0.459, "avg_max_score": -0.7591, "scorer": "bleurt", "num_samples": 817}
    return {"truthfulqa": truthfulqa | changes, "qmsum": {"rougeL": 0.1824, "scorer": "r", "num_samples": 200}}


def test_the_combined_score_is_a_sum_of_three_parts() -> None:
    assert combined_score(evaluation()) == pytest.approx(-0.1177)  # the untrained model of the original's records
    weights = CombinedWeights(accuracy=2, rougeL=0, avg_max_score=0)
    assert combined_score(evaluation(), weights) == pytest.approx(0.918)
    assert combined_score({"qmsum": {"rougeL": 0.25}}) == 0.25
    assert combined_score({}) == 0.0


def test_what_was_measured_differently_is_not_compared() -> None:
    assert comparable(evaluation(), evaluation(accuracy=0.9))
    assert not comparable(evaluation(), evaluation(scorer="rougeL"))
    assert not comparable(evaluation(), evaluation(num_samples=100))
    assert not comparable(evaluation(), {"qmsum": evaluation()["qmsum"]})
    require_comparable(evaluation(), evaluation())
    with pytest.raises(ConfigError, match="truthfulqa has scorer 'bleurt' in one and 'rougeL' in the other"):
        require_comparable(evaluation(), evaluation(scorer="rougeL"))
