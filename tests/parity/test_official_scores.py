"""Our scores beside those of the packages that published scores are defined by."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft.tasks import TaskOptions, open_tasks
from sft.tasks.longbench import average_categories, make_longbench
from sft.tasks.metrics.bleu import bleu
from sft.tasks.metrics.chinese import chinese_words
from sft.tasks.metrics.code_sim import code_sim
from sft.tasks.metrics.porter import stem_word
from sft.tasks.metrics.rouge import DEEPEST_WALK, rouge
from sft.tasks.metrics.rouge_score import ROUGE_NAMES, rouge_l, rouge_scores
from sft.tasks.scoring import score_file


@pytest.fixture(scope="module")
def scored_file(shared_data: Path) -> Path:
    return shared_data / "minilongbench" / "predictions_scored.jsonl"


@pytest.fixture(scope="module")
def official(scored_file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in scored_file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def package_rouge() -> Callable[[str, str], float]:
    """F of rouge-l of `rouge` 1.0.1; 0 where it fails, as LongBench has it. Its recursion is given room."""
    from rouge import Rouge

    scorer = Rouge(metrics=["rouge-l"])

    def score(prediction: str, reference: str) -> float:
        try:
            return float(scorer.get_scores([prediction], [reference], avg=True)["rouge-l"]["f"])
        except ValueError:
            return 0.0

    return score


@pytest.fixture(scope="module")
def package_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGE_NAMES), use_stemmer=True)


# LongBench


def test_every_row_equals_the_official_score(scored_file: Path, official: list[dict[str, Any]]) -> None:
    scored = score_file("longbench", str(scored_file))
    assert len(scored.rows) == len(official) == 237
    assert [row["score"] for row in scored.rows] == [row["official_score"] for row in official]


def test_every_subset_equals_the_official_score(
    scored_file: Path, official: list[dict[str, Any]], tmp_path: Path
) -> None:
    by_subset: dict[str, list[dict[str, Any]]] = {}
    for row in official:
        by_subset.setdefault(row["dataset"], []).append(row)
    assert len(by_subset) == 21
    for subset, rows in by_subset.items():
        file = tmp_path / f"{subset}.jsonl"
        keys = ("pred", "answers", "all_classes", "length")
        file.write_text("".join(json.dumps({key: row[key] for key in keys}) + "\n" for row in rows), encoding="utf-8")
        total = 0.0
        for row in rows:
            total += row["official_score"]
        scored = score_file(subset, str(file))
        assert scored.score == round(100 * total / len(rows), 2), subset
        assert [row["score"] for row in scored.rows] == [row["official_score"] for row in rows], subset


def test_category_averages_are_those_of_the_published_table() -> None:
    """GPT-3.5-Turbo-16k and ChatGLM3-6B-32k in LongBench's README: scores per subset, then what it makes of them.

    Both are printed to one decimal there, so that they can be 0.1 apart.
    """
    order = (
        *("narrativeqa", "qasper", "multifieldqa_en", "multifieldqa_zh", "hotpotqa", "2wikimqa", "musique", "dureader"),
        *("gov_report", "qmsum", "multi_news", "vcsum", "trec", "triviaqa", "samsum", "lsht"),
        *("passage_count", "passage_retrieval_en", "passage_retrieval_zh", "lcc", "repobench-p"),
    )
    published = {
        (
            *(23.6, 43.3, 52.3, 61.2, 51.6, 37.7, 26.9, 28.7, 29.5, 23.4, 26.7, 16.0),
            *(68.0, 91.4, 41.7, 29.2, 4.5, 71.0, 77.5, 54.7, 53.6),
        ): ((44.0, 39.8, 38.7, 26.5, 67.1, 54.1, 37.8), (44.5, 61.2, 28.7, 16.0, 29.2, 54.1, 77.5)),
        (
            *(26.0, 43.3, 51.7, 62.3, 54.4, 44.9, 40.4, 44.78, 36.8, 23.9, 27.9, 17.8),
            *(79.0, 87.1, 38.2, 42.0, 2.0, 99.0, 94.0, 57.66, 54.76),
        ): ((48.5, 40.3, 46.6, 29.5, 68.1, 56.2, 50.5), (52.8, 62.3, 44.8, 17.8, 42.0, 56.2, 94.0)),
    }
    categories = ("single_doc_qa", "multi_doc_qa", "summarization", "few_shot", "code", "synthetic")
    for scores, wanted in published.items():
        found = average_categories(dict(zip(order, scores, strict=True)))
        for language, (average, *means) in zip(("english", "chinese"), wanted, strict=True):
            assert found[language]["average"] == pytest.approx(average, abs=0.1)
            for category, mean in zip(categories, means, strict=True):
                assert found[language]["categories"][category] == pytest.approx(mean, abs=0.1), category


def test_rouge_equals_the_package_on_real_summaries(
    official: list[dict[str, Any]], package_rouge: Callable[[str, str], float]
) -> None:
    """References of other rows as predictions: longer than what the model wrote."""
    texts = [row["answers"][0] for row in official if row["dataset"] in ("gov_report", "qmsum", "multi_news", "samsum")]
    for prediction, reference in itertools.pairwise(texts):
        assert rouge(prediction[:1500], reference[:1500]) == package_rouge(prediction[:1500], reference[:1500])


@settings(max_examples=300)
@given(st.text("ab.c \n", max_size=40), st.text("ab.c \n", max_size=40))
def test_rouge_equals_the_package_on_any_text(
    package_rouge: Callable[[str, str], float], prediction: str, reference: str
) -> None:
    assert rouge(prediction, reference) == package_rouge(prediction, reference)


def test_what_is_too_long_for_the_package_scores_what_it_scores_there() -> None:
    """In a process of its own, because how deep the package can go depends on who calls it."""
    official_stack = """
from rouge import Rouge

def rouge_score(prediction, reference):
    try:
        return Rouge().get_scores([prediction], [reference], avg=True)["rouge-l"]["f"]
    except RecursionError:
        return 0.0

def score(prediction, reference):
    return max(0.0, rouge_score(prediction, reference))

for length in (LENGTHS):
    print(score(" ".join(f"w{n}" for n in range(length)), "w0"))
"""
    lengths = (DEEPEST_WALK - 1, DEEPEST_WALK + 1)  # Python 3.10 gives up one step earlier
    script = official_stack.replace("LENGTHS", ", ".join(map(str, lengths)))
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    expected = [float(line) for line in printed.split()]
    assert expected[0] > 0
    assert expected[1] == 0
    assert [rouge(" ".join(f"w{n}" for n in range(length)), "w0") for length in lengths] == expected


@settings(max_examples=200)
@given(st.text("ab(=) 1", max_size=30), st.text("ab(=) 1", max_size=30))
def test_code_similarity_equals_fuzzywuzzy(line: str, reference: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that python-Levenshtein is not there is what we want
        from fuzzywuzzy import fuzz
    assert code_sim(line, reference) == fuzz.ratio(line, reference) / 100


def test_chinese_words_are_jiebas(official: list[dict[str, Any]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    jieba.setLogLevel(60)
    for row in official:
        if row["dataset"] in ("dureader", "vcsum", "multifieldqa_zh"):
            assert list(chinese_words(row["pred"])) == list(jieba.cut(row["pred"], cut_all=False))


def test_scoring_a_row_does_not_need_the_other_rows(official: list[dict[str, Any]]) -> None:
    """LongBench takes the classes of the last row for all of them; on real rows each row's own give the same."""
    rows = [row for row in official if row["dataset"] == "trec"]
    task = make_longbench("trec")
    from sft.data.types import Source

    last = rows[-1]["all_classes"]
    for row in rows:
        prediction, example = task.read_prediction({**row, "all_classes": last}, Source("f", 1))
        assert task.score(prediction, example)["score"] == row["official_score"]


# QMSum


def test_stems_equal_nltks_on_every_word_of_real_data(shared_data: Path) -> None:
    from nltk.stem.porter import PorterStemmer

    words: set[str] = set()
    for name in ("longbench/multi_news.jsonl", "qmsum/val.jsonl", "truthfulqa/TruthfulQA-817.csv"):
        words.update(re.findall("[a-z0-9]+", (shared_data / name).read_text(encoding="utf-8").lower()))
    stemmer = PorterStemmer()
    assert len(words) > 20_000
    assert [word for word in words if stem_word(word) != stemmer.stem(word)] == []


@settings(max_examples=500)
@given(
    st.text("aeiouylstz", min_size=1, max_size=6),
    st.sampled_from(
        (
            *("", "s", "ies", "sses", "ied", "eed", "ed", "ing", "y", "ational", "alli", "fulli", "logi", "bli"),
            *("ness", "ement", "ion", "able", "ize", "e", "ll", "izations", "ously", "icates", "iveness"),
        )
    ),
)
def test_stems_equal_nltks_on_made_up_words(head: str, suffix: str) -> None:
    from nltk.stem.porter import PorterStemmer

    assert stem_word(head + suffix) == PorterStemmer().stem(head + suffix)


def test_qmsum_rows_equal_rouge_score_bit_for_bit(shared_data: Path, package_scorer: Any) -> None:
    (task,) = open_tasks("qmsum", TaskOptions(longbench_dir=str(shared_data / "longbench")))
    examples = task.examples()
    assert len(examples) == 200
    random_order = random.Random(0)
    predictions = [
        random_order.choice(examples).references[0].replace(". ", ".\n", 2) + example.inputs["context"][:300]
        for example in examples
    ]
    rows = task.score_all(predictions, examples)
    for prediction, example, row in zip(predictions, examples, rows, strict=True):
        expected = package_scorer.score(example.references[0], prediction)
        assert {name: row[name] for name in ROUGE_NAMES} == {name: expected[name].fmeasure for name in ROUGE_NAMES}
    results = task.aggregate(rows, examples)
    assert results["rougeL"] == pytest.approx(sum(row["rougeL"] for row in rows) / 200)
    assert results["per_sample_rougeL"] == [[e.id, row["rougeL"]] for e, row in zip(examples, rows, strict=True)]


@settings(max_examples=300)
@given(st.text("ab .\n5é", max_size=40), st.text("ab .\n5é", max_size=40))
def test_rouge_scores_equal_the_package_on_any_text(package_scorer: Any, prediction: str, reference: str) -> None:
    expected = package_scorer.score(reference, prediction)
    assert rouge_scores(prediction, reference) == {name: expected[name].fmeasure for name in ROUGE_NAMES}


# TruthfulQA


def test_truthfulqa_equals_a_loop_over_rouge_score(shared_data: Path) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    (task,) = open_tasks("truthfulqa", TaskOptions(truthfulqa_file=str(shared_data / "truthfulqa/TruthfulQA-817.csv")))
    examples = task.examples()
    assert len(examples) == 817
    predictions = [str(example.taught) for example in (*examples[1:], examples[0])]
    results = task.aggregate(task.score_all(predictions, examples), examples)
    bests, num_correct = [], 0
    for prediction, example in zip(predictions, examples, strict=True):
        true, false = (
            max(scorer.score(reference, prediction)["rougeL"].fmeasure for reference in references)
            for references in (example.references, example.incorrect)
        )
        bests.append(true)
        num_correct += true > false
    assert results["correct_count"] == num_correct
    assert results["accuracy"] == num_correct / 817
    assert results["avg_max_score"] == pytest.approx(sum(bests) / 817, abs=1e-12)
    assert results["scorer"] == "rougeL"


@settings(max_examples=300)
@given(st.text("ab c.,5$€ém\n", max_size=40), st.text("ab c.,5$€ém\n", max_size=40))
def test_bleu_equals_sacrebleu_on_any_text(prediction: str, reference: str) -> None:
    assert bleu(prediction, reference) == pytest.approx(_sacrebleu(prediction, reference), abs=1e-9)


def test_bleu_equals_sacrebleu_on_real_answers(shared_data: Path) -> None:
    (task,) = open_tasks("truthfulqa", TaskOptions(truthfulqa_file=str(shared_data / "truthfulqa/TruthfulQA-817.csv")))
    for example in task.examples()[:200]:
        for reference in example.references:
            expected = _sacrebleu(str(example.taught), reference)
            assert bleu(str(example.taught), reference) == pytest.approx(expected, abs=1e-9)
            assert rouge_l(reference, reference, stem=False) == 1.0


def _sacrebleu(prediction: str, reference: str) -> float:
    import sacrebleu

    score = sacrebleu.corpus_bleu(
        [prediction], [[reference]], smooth_method="exp", tokenize="intl", use_effective_order=False
    )
    return float(score.score)
