"""Porter's stemmer with the extensions of NLTK, which `rouge_score` stems with.

The algorithm is M. F. Porter's (An algorithm for suffix stripping, 1980). NLTK's extensions: a table of irregular
words; words of one or two letters stay; -ies and -ied of four letters become -ie; -y becomes -i after a consonant only;
-alli, -fulli and -logi; a stem of vowel and consonant counts as ending in consonant, vowel, consonant.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

_VOWELS = frozenset("aeiou")

_IRREGULAR = {
    "skies": "sky",
    "sky": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "news": "news",
    "inning": "inning",
    "innings": "inning",
    "outing": "outing",
    "outings": "outing",
    "canning": "canning",
    "cannings": "canning",
    "howe": "howe",
    "proceed": "proceed",
    "exceed": "exceed",
    "succeed": "succeed",
}

# Suffix and what takes its place, if the stem before it is long enough. The first suffix that fits decides.
_STEP_2 = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
    ("logi", "log"),
)
_STEP_3 = (
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
)
_STEP_4 = tuple(
    (suffix, "")
    for suffix in (
        *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent"),
        *("ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"),
    )
)


@functools.lru_cache(maxsize=1 << 17)
def stem_word(word: str) -> str:
    """Return the stem of a word in lower case."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    for step in (_plural, _past, _final_y, _step_2, _step_3, _step_4, _final_e, _final_l):
        word = step(word)
    return word


def _consonants(word: str) -> str:
    """The word with c for each consonant and v for each vowel; y is a vowel after a consonant."""
    kinds = ""
    for letter in word:
        is_vowel = letter in _VOWELS or (letter == "y" and kinds.endswith("c"))
        kinds += "v" if is_vowel else "c"
    return kinds


def _measure(stem: str) -> int:
    """How often a vowel is followed by a consonant."""
    return _consonants(stem).count("vc")


def _ends_closed(stem: str) -> bool:
    """Whether it ends in consonant, vowel, consonant, the last not w, x or y; or is a vowel and a consonant."""
    kinds = _consonants(stem)
    return (kinds.endswith("cvc") and stem[-1] not in "wxy") or kinds == "vc"


def _replace(word: str, rules: Iterable[tuple[str, str]], is_long: Callable[[str, str], bool]) -> str:
    """Exchange the first suffix that the word has, if ``is_long(stem, suffix)``."""
    for suffix, replacement in rules:
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            return stem + replacement if is_long(stem, suffix) else word
    return word


def _plural(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) else word
    for suffix in ("ed", "ing"):
        stem = word[: -len(suffix)]
        if word.endswith(suffix) and "v" in _consonants(stem):
            return _mend(stem)
    return word


def _mend(stem: str) -> str:
    """Give back what -ed or -ing took: hopp -> hop, conflat -> conflate, fil -> file."""
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if stem[-1:] == stem[-2:-1] and _consonants(stem)[-1] == "c":
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _ends_closed(stem) else stem


def _final_y(word: str) -> str:
    is_after_consonant = len(word) > 2 and word[-1] == "y" and _consonants(word[:-1])[-1] == "c"
    return word[:-1] + "i" if is_after_consonant else word


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]):
        return _step_2(word[:-2])
    # The l of -logi belongs to the stem whose length counts, so that short ones (geo, theo) are treated alike.
    return _replace(word, _STEP_2, lambda stem, suffix: _measure(stem + "l" if suffix == "logi" else stem) > 0)


def _step_3(word: str) -> str:
    return _replace(word, _STEP_3, lambda stem, _: _measure(stem) > 0)


def _step_4(word: str) -> str:
    return _replace(word, _STEP_4, lambda stem, suffix: _measure(stem) > 1 and (suffix != "ion" or stem[-1] in "st"))


def _final_e(word: str) -> str:
    if not word.endswith("e"):
        return word
    size = _measure(word[:-1])
    return word[:-1] if size > 1 or (size == 1 and not _ends_closed(word[:-1])) else word


def _final_l(word: str) -> str:
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
