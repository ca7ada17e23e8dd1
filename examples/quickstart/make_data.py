"""Write data/train.jsonl, data/heldout.jsonl and data/questions.txt from words.txt.

Ten small things to do with a word, each asked in several ways. 150 words are held out: none of them appears
anywhere in the training data, as a question or as an answer, so that no held-out answer can come from memory.
Seven of their questions are those whose answers stand on the page of the run.
The files are a function of words.txt and this script only; a test holds that.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
NUM_HELDOUT_WORDS = 150
TRAIN_TASKS_PER_WORD = 5
HELDOUT_TASKS_PER_WORD = 3
MAX_QUESTIONS = 6
"""Questions in one training conversation."""

SHOWN_TASKS = ("backwards", "capitals", "dashes", "no_vowels", "count", "twice", "swapped")
"""Asked before, while and after the model is trained."""

VOWELS = "aeiou"


class Task(NamedTuple):
    """One thing to do with a word: how it is asked, and the right answer."""

    questions: tuple[str, ...]
    answer: Callable[[str], str]


class Turn(NamedTuple):
    """One question and its right answer."""

    task: str
    question: str
    answer: str


TASKS = {
    "backwards": Task(
        ("Spell {} backwards.", "Write {} in reverse.", "How is {} spelled from back to front?"),
        lambda word: word[::-1],
    ),
    "capitals": Task(
        ("Write {} in capital letters.", "Put {} in upper case.", "Shout {} as loud as you can!"),
        str.upper,
    ),
    "first": Task(
        ("What is the first letter of {}?", "Which letter does {} begin with?"),
        lambda word: word[0],
    ),
    "last": Task(
        ("What is the last letter of {}?", "Which letter does {} end with?"),
        lambda word: word[-1],
    ),
    "dashes": Task(
        ("Spell {} with dashes.", "Put a dash between the letters of {}.", "Spell {} out, letter by letter."),
        "-".join,
    ),
    "no_vowels": Task(
        ("Write {} without its vowels.", "Take the vowels out of {}.", "What is left of {} if all vowels go?"),
        lambda word: "".join(letter for letter in word if letter not in VOWELS),
    ),
    "hidden": Task(
        ("Hide the vowels of {} behind stars.", "Replace each vowel of {} with a star."),
        lambda word: "".join("*" if letter in VOWELS else letter for letter in word),
    ),
    "count": Task(
        ("How many letters are in {}?", "Count the letters of {}.", "How long is {}?"),
        lambda word: str(len(word)),
    ),
    "twice": Task(
        ("Say {} twice.", "Write {} two times.", "Say {} and then say it once more."),
        lambda word: f"{word} {word}",
    ),
    "swapped": Task(
        ("Swap the first and last letter of {}.", "Let the outer letters of {} trade places."),
        lambda word: word[-1] + word[1:-1] + word[0],
    ),
}


def ask(words: list[str], tasks_per_word: int, rng: random.Random) -> list[Turn]:
    """Ask ``tasks_per_word`` different things about each word, in random order."""
    turns = []
    for word in words:
        for name in rng.sample(sorted(TASKS), tasks_per_word):
            task = TASKS[name]
            turns.append(Turn(name, rng.choice(task.questions).format(word), task.answer(word)))
    rng.shuffle(turns)
    return turns


def as_messages(turns: list[Turn]) -> list[dict[str, str]]:
    return [
        {"role": role, "content": content}
        for turn in turns
        for role, content in (("user", turn.question), ("assistant", turn.answer))
    ]


def make_data() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The training rows, conversations of 1 to 6 questions; and the held-out rows, one question each."""
    words = (HERE / "words.txt").read_text(encoding="utf-8").split()
    rng = random.Random(2026)
    rng.shuffle(words)
    answers = {task.answer(word) for word in words for task in TASKS.values()}
    heldout_words = [word for word in words if word not in answers][
        :NUM_HELDOUT_WORDS
    ]  # not pool: it is loop backwards
    asked = ask([word for word in words if word not in heldout_words], TRAIN_TASKS_PER_WORD, rng)
    heldout = ask(heldout_words, HELDOUT_TASKS_PER_WORD, rng)
    train = []
    while asked:
        length = rng.randint(1, MAX_QUESTIONS)
        train.append({"messages": as_messages(asked[:length])})
        asked = asked[length:]
    return train, [{"task": turn.task, "messages": as_messages([turn])} for turn in heldout]


def choose_questions(heldout: list[dict[str, Any]]) -> list[str]:
    """The last held-out question of each task that is shown."""
    last = {row["task"]: row["messages"][0]["content"] for row in heldout}
    return [last[task] for task in SHOWN_TASKS]


def as_jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    made = make_data()
    for name, rows in zip(("train", "heldout"), made, strict=True):
        path = HERE / "data" / f"{name}.jsonl"
        path.write_text(as_jsonl(rows), encoding="utf-8")
        print(f"{len(rows):5d} rows  {path}")
    questions = choose_questions(made[1])
    path = HERE / "data" / "questions.txt"
    path.write_text("".join(f"{question}\n" for question in questions), encoding="utf-8")
    print(f"{len(questions):5d} lines {path}")
