"""Rows of tasks as training data, and the guard that keeps what evaluation will ask out of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.cache import hash_text
from sft.data.conversations import ConversationSet, MoreRows
from sft.data.types import Conversation, Message
from sft.tasks import Task, TaskExample, TaskOptions, open_tasks, resolve_task
from sft.tasks.longbench import read_subsets
from sft.tasks.overlap import AskedRows
from sft.tasks.prompts import MIN_PROMPT_TOKENS, cut_middle

ALL = "all"
SUBSETS = [f"longbench/{name}" for name in read_subsets()]

ASKED_QMSUM = ("qmsum", "longbench/qmsum")
"""LongBench's 200 rows of QMSum, or its test split."""


def task_options(config: SFTConfig) -> TaskOptions:
    """Where the rows of a config's tasks lie, and how they are scored."""
    return TaskOptions(
        longbench_dir=config.longbench_dir,
        qmsum_dir=config.qmsum_dir,
        truthfulqa_file=config.truthfulqa_file,
        truthfulqa_scorer=config.truthfulqa_scorer,
        bleurt_checkpoint=config.bleurt_checkpoint,
    )


def open_eval_tasks(config: SFTConfig) -> tuple[Task, ...]:
    """The tasks a config evaluates on."""
    return open_tasks(config.eval_tasks, task_options(config))


def open_train_tasks(config: SFTConfig) -> tuple[Task, ...]:
    """The tasks a config trains on, each from its original training split where that is at hand.

    ``all`` is the 21 subsets of LongBench. ``qmsum`` is QMSum's own training split where ``qmsum_dir`` has it, also
    among ``all``: LongBench's rows of it are what is asked.
    """
    options = task_options(config).with_environment()
    names = [one for name in config.train_tasks for one in (SUBSETS if name == ALL else [resolve_task(name)])]
    if ALL in config.train_tasks and options.qmsum_dir:
        names = ["qmsum" if name == "longbench/qmsum" else name for name in names]
    split = [f"{name}/train" if name == "qmsum" and options.qmsum_dir else name for name in names]
    return open_tasks(split, options)


def task_rows(config: SFTConfig, tokenizer: PreTrainedTokenizerBase) -> MoreRows | None:
    """What a config's tasks add to its data and keep out of it; None where it names no task."""
    if not config.train_tasks and not config.eval_tasks:
        return None
    trained, asked = open_train_tasks(config), open_eval_tasks(config)
    guard = AskedRows(asked)

    def read() -> ConversationSet:
        found = ConversationSet()
        for task in trained:
            found = found.join(_read_task(task, guard, tokenizer, config))
        return found

    def overlap(conversation: Conversation) -> str | None:
        texts = [message.content for message in conversation.messages] or [conversation.text or ""]
        if conversation.tokens is not None:
            texts = [str(tokenizer.decode(conversation.tokens.ids.tolist(), skip_special_tokens=True))]
        reason = guard.overlap(texts)
        return None if reason is None else str(reason)

    return MoreRows(fingerprint=_fingerprint(trained, asked), read=read, overlap=overlap)


def _read_task(task: Task, guard: AskedRows, tokenizer: PreTrainedTokenizerBase, config: SFTConfig) -> ConversationSet:
    found = ConversationSet(formats={task.name: "rows of the task, asked as evaluation asks them"})
    for example in task.examples():
        found.num_rows += 1
        overlap = guard.overlap(list(example.inputs.values()), row_id=example.id)
        if overlap is not None:
            found.overlapping[str(overlap)] += 1
        if overlap is None or config.allow_contamination:
            found.conversations.append(_conversation(task, example, tokenizer, config.max_length))
    if task.name in ASKED_QMSUM and not found.conversations:
        found.notes.append(
            f"{task.name}: evaluation asks the same rows, so none is trained; QMSum's own training rows are read as "
            "qmsum from the folder that --qmsum_dir names"
        )
    return found


def _conversation(
    task: Task, example: TaskExample, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Conversation:
    """One row as training data; a prompt that leaves no room for its answer loses its middle, as in evaluation."""
    answer = example.references[0] if example.taught is None else example.taught
    room = max_length - _num_tokens(tokenizer, answer) - _wrapper_tokens(tokenizer, task)
    prompt = task.prompt(example)
    if room >= MIN_PROMPT_TOKENS:
        prompt = cut_middle(prompt, tokenizer, room)
    if task.chat:
        turns = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
        return Conversation(messages=turns, source=example.source)
    text = prompt + task.answer_prefix + answer
    return Conversation(messages=(), text=text, prompt=prompt, source=example.source)


def _num_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _wrapper_tokens(tokenizer: PreTrainedTokenizerBase, task: Task) -> int:
    """Tokens around prompt and answer: what the chat template writes of an empty exchange, or bos and eos. And a few,
    because cutting and joining text can make a token more of it."""
    spare = 8
    if not task.chat:
        return 2 + spare
    empty = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
    return _num_tokens(tokenizer, str(tokenizer.apply_chat_template(empty, tokenize=False))) + spare


def _fingerprint(trained: Sequence[Task], asked: Sequence[Task]) -> str:
    """128 bits over all rows that are trained and all that are asked."""
    return hash_text(json.dumps([list(map(_content, tasks)) for tasks in (trained, asked)]))


def _content(task: Task) -> list[object]:
    rows: Iterable[TaskExample] = task.examples()
    return [task.name, [[row.id, *row.inputs.values(), *row.references] for row in rows]]
