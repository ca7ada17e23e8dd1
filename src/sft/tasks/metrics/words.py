"""Word overlap between an answer and a reference, in English and Chinese (LongBench's ``qa_f1`` and ``qa_f1_zh``)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from sft.tasks.metrics.chinese import chinese_words

_CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃"
    "》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
)
"""As LongBench lists it; 《 is not in it."""

_DROP = str.maketrans("", "", string.punctuation)
_DROP_CHINESE = str.maketrans("", "", string.punctuation + _CHINESE_PUNCTUATION)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def qa_f1(prediction: str, reference: str) -> float:
    """F1 of the two bags of words: lower case, without ASCII punctuation and articles. 0 to 1."""
    return _f1(_normal_words(prediction), _normal_words(reference))


def qa_f1_zh(prediction: str, reference: str) -> float:
    """F1 of the two bags of Chinese words, without punctuation and white space. 0 to 1."""
    return _f1(_normal_chinese_words(prediction), _normal_chinese_words(reference))


def exact_match(prediction: str, reference: str) -> float:
    """1 if both are the same words after the normalising of ``qa_f1``, else 0."""
    return float(_normal_words(prediction) == _normal_words(reference))


def _normal_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_DROP)).split()


def _normal_chinese_words(text: str) -> list[str]:
    words = ("".join(word.lower().translate(_DROP_CHINESE).split()) for word in chinese_words(text))
    return [word for word in words if word]


def _f1(predicted: Sequence[str], wanted: Sequence[str]) -> float:
    num_same = sum((Counter(predicted) & Counter(wanted)).values())
    if not num_same:
        return 0.0
    precision = num_same / len(predicted)
    recall = num_same / len(wanted)
    return 2 * precision * recall / (precision + recall)
