"""Metrics on cases small enough to work out by hand; tests/parity holds them against the packages."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

from sft.errors import ConfigError, DataError
from sft.tasks.metrics import METRICS, chinese, classification
from sft.tasks.metrics.bleu import bleu
from sft.tasks.metrics.porter import stem_word
from sft.tasks.metrics.rouge import DEEPEST_WALK, rouge


@pytest.mark.parametrize(
    ("metric", "prediction", "reference", "score"),
    [
        ("qa_f1", "The cat, a dog!", "cat dog", 1.0),
        ("qa_f1", "cat cat", "cat", 2 / 3),
        ("qa_f1", "the", "a", 0.0),  # nothing is left of either, and that is no match
        ("exact_match", "An Apple.", "apple", 1.0),
        ("exact_match", "apples", "apple", 0.0),
        ("qa_f1_zh", "北京。", "北京", 1.0),
        ("qa_f1_zh", "《", "《", 1.0),  # a sign that is missing in the authors' list
        ("qa_f1_zh", "。", "。", 0.0),
        ("count", "There are 7, not 8.", "7", 0.5),
        ("count", "seven", "7", 0.0),
        ("count", "07", "7", 0.0),  # compared as text
        ("retrieval", "Paragraph 3", "Paragraph 3", 1.0),
        ("retrieval", "3 or 4", "Paragraph 3", 0.5),
        ("retrieval_zh", "段落13", "段落13", 1.0),
        ("code_sim", "\n```python\n# note\nx = 1\ny", "x = 1", 1.0),
        ("code_sim", "`", "x", 0.0),
        ("code_sim", "ab", "abcd", 0.67),
        ("rouge", "", "a b", 0.0),
        ("rouge", "...", "a b", 0.0),
        ("rouge", "a b", "a b", pytest.approx(1.0, abs=1e-8)),
        ("rouge", "A b", "a b", pytest.approx(0.5, abs=1e-8)),  # case counts
        ("rouge", "a a a", "a", pytest.approx(1.0, abs=1e-8)),  # different words count
    ],
)
def test_scores_of_small_texts(metric: str, prediction: str, reference: str, score: Any) -> None:
    assert METRICS[metric](prediction, reference) == score


def test_classification_keeps_the_class_behind_one_that_was_taken_out() -> None:
    """ "Food" and "Food item" are parts of the wanted name; the second is skipped while the first is taken out."""
    classes = ["Food", "Food item", "Food item list", "Date"]
    assert classification("Food item list", "Food item list", classes) == 1 / 2
    assert classification("Food", "Food item list", classes) == 0.0
    assert classification("Date or Food item list", "Date", classes) == 1 / 4
    assert classification("nothing", "Date", classes) == 0.0


def test_a_reference_without_a_paragraph_is_an_error_that_shows_it() -> None:
    with pytest.raises(DataError, match="'page 3' names no paragraph; it must read like 'Paragraph 7'"):
        METRICS["retrieval"]("3", "page 3")


def test_a_walk_that_is_too_deep_scores_nothing() -> None:
    words = [f"w{number}" for number in range(DEEPEST_WALK + 1)]
    assert rouge(" ".join(words[:-1]), "w0") > 0
    assert rouge(" ".join(words), "w0") == 0.0
    assert rouge(". ".join(words), "w0") > 0, "sentences are walked one by one"
    assert METRICS["rouge_zh"](" ".join(words[:-2]), "w0") > 0
    assert METRICS["rouge_zh"](" ".join(words[:-1]), "w0") == 0.0, "one function deeper"


def test_bleu_of_a_text_with_itself_needs_four_words() -> None:
    assert bleu("one two three four", "one two three four") == pytest.approx(100)
    assert bleu("one two three", "one two three") == 0.0
    assert bleu("", "one") == 0.0


@pytest.mark.parametrize(
    ("word", "stem"),
    [("caresses", "caress"), ("hopping", "hop"), ("relational", "relat"), ("skies", "sky"), ("enjoy", "enjoy")],
)
def test_stems_as_porter_gives_them(word: str, stem: str) -> None:
    assert stem_word(word) == stem


def test_without_jieba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "jieba":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "jieba", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'sft-kit\[eval\]'"):
        chinese._segmenter.__wrapped__()


def test_words_added_to_jieba_elsewhere_change_nothing() -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    jieba.setLogLevel(60)
    sentence = "模型微调很重要"
    before = chinese._segmenter.__wrapped__().lcut(sentence)
    jieba.add_word("模型微调")
    try:
        assert jieba.lcut(sentence)[0] == "模型微调"
        assert chinese._segmenter.__wrapped__().lcut(sentence) == before
        assert before[0] == "模型"
    finally:
        jieba.del_word("模型微调")
