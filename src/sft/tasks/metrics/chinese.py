"""Chinese text as words. jieba and its dictionary are what LongBench's Chinese scores are defined by."""

from __future__ import annotations

import functools
import warnings
from typing import Any

from sft.errors import ConfigError


@functools.lru_cache(maxsize=512)
def chinese_words(text: str) -> tuple[str, ...]:
    """Cut a text into words, white space and punctuation included; joined they are the text.

    Raises:
        ConfigError: jieba is not installed.
    """
    return tuple(_segmenter().cut(text, cut_all=False))


@functools.cache
def _segmenter() -> Any:
    """A segmenter of our own, so that words added to jieba's global one by other code change no score.

    Its dictionary is read from the package. jieba itself would first look for a marshalled copy under a fixed name in
    the machine's temporary folder, where anyone may have put one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba's own syntax and its use of pkg_resources
        try:
            import jieba
        except ImportError as error:
            raise ConfigError(
                "Chinese texts are scored by words, which needs the package jieba, and it is not installed: "
                "pip install 'sft-kit[eval]', or leave the Chinese subsets out."
            ) from error
        segmenter = jieba.Tokenizer()
        segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
        segmenter.initialized = True
    return segmenter
