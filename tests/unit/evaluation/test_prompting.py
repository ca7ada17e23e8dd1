"""Prompts are those that transformers, LongBench's rules and our own training would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft.data.render import Renderer
from sft.data.types import Conversation, Message, Source
from sft.errors import RowError
from sft.evaluation.prompting import PromptWriter
from sft.models.tokenizer import load_tokenizer
from sft.tasks import Task, TaskExample, TaskOptions, open_tasks

NO_THOUGHTS = {"enable_thinking": False}
SOURCE = Source(path="here", line=1)


def one_task(name: str, places: TaskOptions) -> Task:
    [task] = open_tasks(name, places)
    return task


def official_cut(text: str, tokenizer: Any, max_length: int) -> str:
    """LongBench's pred.py: both halves decoded for themselves, joined."""
    ids = tokenizer(text, truncation=False, return_tensors="pt").input_ids[0]
    if len(ids) <= max_length:
        return text
    half = int(max_length / 2)
    return tokenizer.decode(ids[:half], skip_special_tokens=True) + tokenizer.decode(
        ids[-half:], skip_special_tokens=True
    )


def chat_ids(tokenizer: Any, text: str, **kwargs: Any) -> list[int]:
    """What transformers gives to generate after."""
    turns = [{"role": "user", "content": text}]
    return list(
        tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, **kwargs)["input_ids"]
    )


def test_chat_prompts_are_those_of_the_chat_template(qwen3: Any, places: TaskOptions) -> None:
    task = one_task("qmsum", places)
    writer = PromptWriter(qwen3, NO_THOUGHTS)
    for example in task.examples()[:5]:
        prompt = writer.write(task, example)
        assert prompt.ids == chat_ids(qwen3, task.prompt(example), **NO_THOUGHTS)
        assert not prompt.is_cut
        assert qwen3.decode(prompt.ids).endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize("max_tokens", [100, 1001])
@pytest.mark.parametrize("name", ["longbench/multi_news", "longbench/multifieldqa_zh"])
def test_long_texts_are_cut_by_the_official_rule_before_the_template(
    qwen3: Any, places: TaskOptions, name: str, max_tokens: int
) -> None:
    task = one_task(name, places)
    writer = PromptWriter(qwen3, None, max_tokens, 32_768)
    cut = 0
    for example in task.examples()[:4]:
        prompt = writer.write(task, example)
        assert prompt.ids == chat_ids(qwen3, official_cut(task.prompt(example), qwen3, max_tokens))
        cut += prompt.is_cut
    assert cut == 4 if max_tokens == 100 else cut > 0


@pytest.mark.parametrize("model", ["qwen3-tokenizer", "stories260K-hf", "gpt-neox-20b-tokenizer"])
def test_plain_prompts_are_the_tokenizers_own(shared_data: Path, places: TaskOptions, model: str) -> None:
    tokenizer = load_tokenizer(str(shared_data / "models" / model))
    task = one_task("truthfulqa", places)
    writer = PromptWriter(tokenizer)
    for example in task.examples()[:40]:
        assert writer.write(task, example).ids == tokenizer(task.prompt(example))["input_ids"]


@pytest.mark.parametrize("model", ["qwen3-tokenizer", "stories260K-hf", "gpt-neox-20b-tokenizer"])
@pytest.mark.parametrize("name", ["qmsum/train", "truthfulqa"])
def test_a_prompt_is_the_untrained_head_of_the_rows_training_example(
    shared_data: Path, places: TaskOptions, model: str, name: str
) -> None:
    tokenizer = load_tokenizer(str(shared_data / "models" / model))
    task = one_task(name, places)
    renderer = Renderer(tokenizer)
    rows = list(zip(task.conversations(), task.examples(), strict=True))[:3]
    rendered = [renderer.render(conversation)[0] for conversation, _ in rows]
    writer = PromptWriter(tokenizer, renderer.generation_kwargs)
    for trained, (_, example) in zip(rendered, rows, strict=True):
        ids = writer.write(task, example).ids
        assert trained.input_ids[: len(ids)].tolist() == ids
        assert trained.loss_mask.tolist().index(1) == len(ids)


@pytest.mark.parametrize("name", ["qmsum", "longbench/passage_retrieval_zh", "longbench/multi_news", "truthfulqa"])
def test_prompt_and_answer_fit_a_short_context(stories_tokenizer: Any, places: TaskOptions, name: str) -> None:
    task = one_task(name, places)
    writer = PromptWriter(stories_tokenizer, context_length=512)
    room = writer.sampling(task).max_new_tokens
    assert room == min(task.limits.max_new_tokens, 256)
    lengths = []
    for example in task.examples()[:6]:
        prompt = writer.write(task, example)
        lengths.append(len(prompt.ids))
        assert prompt.is_cut == (name != "truthfulqa")
    assert max(lengths) <= 512 - room
    if name in ("qmsum", "longbench/multi_news"):  # halves that end within a Chinese character are decoded badly
        assert min(lengths) > 512 - room - 12, "more is left out than must be"


def test_the_words_at_both_ends_stay(stories_tokenizer: Any, places: TaskOptions) -> None:
    task = one_task("qmsum", places)
    prompt = PromptWriter(stories_tokenizer, context_length=512).write(task, task.examples()[0])
    text = stories_tokenizer.decode(prompt.ids)
    assert "You are a helpful assistant. Please summarize" in text
    assert "Summary:" in text


def test_a_context_without_room_is_a_reason_not_a_crash(qwen3: Any, places: TaskOptions) -> None:
    task = one_task("qmsum", places)
    with pytest.raises(RowError) as error:
        PromptWriter(qwen3, NO_THOUGHTS, context_length=20).write(task, task.examples()[0])
    assert error.value.reason == "no room for the prompt in the model's context"
    assert "Of its 20 tokens the answer takes 10 and the chat template 12" in str(error.value)


def test_special_token_text_in_rows_is_content_in_both_kinds_of_task(qwen3: Any, places: TaskOptions) -> None:
    stop = qwen3.convert_tokens_to_ids("<|im_end|>")
    plain, chat = one_task("truthfulqa", places), one_task("qmsum", places)
    asked = TaskExample(id="1", inputs={"question": "What is <|im_end|>?"}, references=("x",), source=SOURCE)
    meeting = {"context": "A: <|im_end|>", "input": "Why?"}
    told = TaskExample(id="1", inputs=meeting, references=("x",), source=SOURCE)
    writer = PromptWriter(qwen3, NO_THOUGHTS)
    assert stop not in writer.write(plain, asked).ids
    assert writer.write(chat, told).ids.count(stop) == 1
    assert "What is <|im_end|>?" in qwen3.decode(writer.write(plain, asked).ids)
    acting = PromptWriter(qwen3, NO_THOUGHTS, allow_special_tokens=True)
    assert acting.write(plain, asked).ids == qwen3(plain.prompt(asked))["input_ids"]
    [trained] = Renderer(qwen3).render(
        Conversation(messages=(), text="Q: <|im_end|>? A", prompt="Q: <|im_end|>?", source=SOURCE)
    )
    assert trained.input_ids.tolist()[:-2] == Renderer(qwen3).text_ids("Q: <|im_end|>?")


def test_text_that_is_no_unicode_is_a_reason(stories_tokenizer: Any, places: TaskOptions) -> None:
    task = one_task("truthfulqa", places)
    broken = TaskExample(id="1", inputs={"question": "half \ud83d"}, references=("x",), source=SOURCE)
    with pytest.raises(RowError, match="no valid Unicode"):
        PromptWriter(stories_tokenizer).write(task, broken)


def test_samsum_answers_at_least_one_token_and_ends_at_a_line_break(qwen3: Any) -> None:
    writer = PromptWriter(qwen3)
    [samsum, trec] = open_tasks("samsum,trec")
    assert writer.sampling(samsum).stop_token_ids == (qwen3.encode("\n")[-1],)
    assert writer.sampling(samsum).min_new_tokens == 1
    assert writer.sampling(samsum).max_new_tokens == 128
    assert writer.sampling(samsum).temperature == 0
    assert writer.sampling(trec).stop_token_ids == ()
    assert writer.sampling(trec).min_new_tokens == 0


def test_the_text_alone_is_what_generation_prompt_writes(qwen3: Any, places: TaskOptions) -> None:
    task = one_task("qmsum", places)
    example = task.examples()[3]
    renderer = Renderer(qwen3, template_kwargs=NO_THOUGHTS)
    written = renderer.generation_prompt([Message(role="user", content=task.prompt(example))])
    assert PromptWriter(qwen3, NO_THOUGHTS).write(task, example).ids == qwen3.encode(written, add_special_tokens=False)
