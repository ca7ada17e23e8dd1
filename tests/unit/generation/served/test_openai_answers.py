"""An answer counts only if it fits its request: each fault is found, and named. Answers of real servers fit."""

from __future__ import annotations

from typing import Any

import pytest

from sft.errors import GenerationError
from sft.generation import Completion
from sft.generation.openai_answers import Asked, read_answer

ASKED = Asked(model="tiny", max_tokens=12, prompt_ids=(1, 2, 3), exact_room=True, exact_model=True)
GOOD_CHOICE = {"index": 0, "text": "yes", "finish_reason": "stop"}
GOOD = {"model": "tiny", "choices": [GOOD_CHOICE], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


class Letters:
    """Decodes 0 to "a", 1 to "b" ...; 25 is special."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(chr(97 + token) for token in ids if token != 25)


def choice(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "choices": [{**GOOD_CHOICE, **changes}]}


def usage(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "usage": {**GOOD["usage"], **changes}}  # type: ignore[dict-item]


def test_a_good_answer() -> None:
    assert read_answer(GOOD, ASKED, None).completion == Completion("yes", 4, "stop")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "an object with a list of choices"),
        ([], "an object with a list of choices"),
        ("busy", "an object with a list of choices"),
        ({"error": "overloaded"}, "overloaded"),
        ({**GOOD, "choices": "yes"}, "an object with a list of choices"),
        ({**GOOD, "choices": []}, "the number of answers is 0, but must be 1"),
        ({**GOOD, "choices": [GOOD_CHOICE, GOOD_CHOICE]}, "the number of answers is 2, but must be 1"),
        ({**GOOD, "choices": ["yes"]}, "the choice is yes, but must be an object"),
        (choice(text=None), "the text is None"),
        (choice(text=["y"]), "must be a string"),
        (choice(finish_reason=None), "finish_reason is None, but must be 'stop' or 'length'"),
        (choice(finish_reason="abort"), "finish_reason is abort"),
        (choice(finish_reason="content_filter"), "finish_reason is content_filter"),
        (choice(finish_reason="length"), "'length' after 4 tokens, but must be all 12"),
        ({**GOOD, "model": "other"}, "the model that answered is other, but must be 'tiny'"),
        ({**GOOD, "model": None}, "the model that answered is None"),
        ({**GOOD, "usage": None}, "completion_tokens is None"),
        (usage(completion_tokens=13), "completion_tokens is 13, but must be from 0 to 12"),
        (usage(completion_tokens=-1), "completion_tokens is -1"),
        (usage(completion_tokens=True), "completion_tokens is True"),
        (usage(completion_tokens="4"), "completion_tokens is 4"),
        (usage(prompt_tokens=4), "prompt_tokens is 4, but must be 3"),
        (choice(prompt_token_ids=[1, 2, 4]), "prompt_token_ids is [1, 2, 4]"),
        (choice(token_ids=[0, 1]), "token_ids is [0, 1], but must be a list of 4"),
        (choice(token_ids=[0, 1, 2, "d"]), "token_ids"),
        (choice(token_ids="abcd"), "token_ids"),
    ],
)
def test_a_fault_is_named(answer: Any, words: str) -> None:
    with pytest.raises(GenerationError) as caught:
        read_answer(answer, ASKED, Letters())
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_token_ids_are_decoded_here_without_the_stop_token() -> None:
    stopped = choice(text="whatever the server's own rules make of it", token_ids=[7, 8, 3, 25])
    assert read_answer(stopped, ASKED, Letters()).completion == Completion("hid", 4, "stop")
    ordinary_stop = choice(token_ids=[7, 8, 3, 4])
    assert read_answer(ordinary_stop, ASKED, Letters()).completion.text == "hid"
    cut = {**choice(token_ids=[0] * 12, finish_reason="length"), "usage": {"prompt_tokens": 3, "completion_tokens": 12}}
    assert read_answer(cut, ASKED, Letters()).completion == Completion("a" * 12, 12, "length")


def test_less_is_checked_where_less_is_known() -> None:
    asked = Asked(model="tiny", max_tokens=12, prompt_ids=None, exact_room=False, exact_model=False)
    answer = {**choice(finish_reason="length"), "model": "tiny-2026-11-22"}
    answer["usage"] = {"prompt_tokens": 99, "completion_tokens": 4}
    assert read_answer(answer, asked, None).completion == Completion("yes", 4, "length")


def test_the_first_log_probability() -> None:
    assert read_answer(GOOD, ASKED, None).first_logprob is None
    assert read_answer(choice(logprobs={"token_logprobs": [-0.5, -1.0]}), ASKED, None).first_logprob == -0.5
    assert read_answer(choice(logprobs={"token_logprobs": []}), ASKED, None).first_logprob is None
    assert read_answer(choice(logprobs={"token_logprobs": [None]}), ASKED, None).first_logprob is None
