"""What a task is: rows with references, the text that asks, a score for an answer. It serves training rows as well.

Nothing here reads a file, knows a tokenizer or runs a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sft.data.types import Conversation, Message, Source
from sft.errors import DataError

Scored = Mapping[str, Any]
"""The score of one answer: ``score``, higher is better, and what else the task says about it."""

Results = dict[str, Any]
"""The score of a whole set; ``main_metric`` names the key that counts, ``main_score`` repeats its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExample:
    """One thing to ask, and what counts as answered."""

    id: str
    """Stays the same from one reading to the next."""

    inputs: Mapping[str, str]
    """What the prompt is written from."""

    references: tuple[str, ...]
    """Each of them is a right answer."""

    source: Source
    incorrect: tuple[str, ...] = ()
    """Answers known to be wrong."""

    taught: str | None = None
    """The answer to train on; None: the first reference."""

    classes: tuple[str, ...] = ()
    """Names of all classes, where one is to be named."""

    length: int | None = None
    """Words or characters, as the data set counts them."""


Loader = Callable[[], Sequence[TaskExample]]


def no_examples() -> Sequence[TaskExample]:
    """The loader of a task that only scores."""
    raise DataError("this task was opened for scoring answers and has no rows of its own")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLimits:
    """When an answer ends, beside the model's own stop tokens."""

    max_new_tokens: int
    min_new_tokens: int = 0
    stop_at_newline: bool = False
    """The token of a line break ends the answer."""

    stop_text: str | None = None
    """What the model writes from here on belongs to a next question; ``Task.clean`` cuts it off."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """One set of rows, how they are asked, and how answers are scored. Decoding is greedy for all of them."""

    name: str
    limits: AnswerLimits
    chat: bool
    """True: the prompt is a user's turn under the chat template. False: it is plain text to be continued."""

    load: Loader = field(default=no_examples, repr=False)

    @property
    @abstractmethod
    def scorer(self) -> str:
        """The name of what scores. Scores of different scorers cannot be compared."""

    @property
    def answer_prefix(self) -> str:
        """What stands between prompt and answer where plain text is trained on."""
        return ""

    @abstractmethod
    def prompt(self, example: TaskExample) -> str:
        """The whole text that asks, before it is cut to a length or given to a chat template."""

    @abstractmethod
    def score(self, prediction: str, example: TaskExample) -> Scored:
        """Score one answer as it was generated."""

    @abstractmethod
    def aggregate(self, rows: Sequence[Scored], examples: Sequence[TaskExample]) -> Results:
        """Put the scores of ``examples`` together; plain means, the same on every call."""

    @abstractmethod
    def prediction_row(self, prediction: str, example: TaskExample) -> dict[str, Any]:
        """What a predictions file keeps of an answer: enough to score it again without the data set."""

    @abstractmethod
    def read_prediction(self, values: Mapping[str, Any], source: Source) -> tuple[str, TaskExample]:
        """Take a line of a predictions file apart; the opposite of ``prediction_row``.

        Raises:
            DataError: naming the line and what it lacks.
        """

    def examples(self) -> Sequence[TaskExample]:
        """The rows, in the order of the data set."""
        return self.load()

    def telling_inputs(self, example: TaskExample) -> tuple[str, ...]:
        """The texts of which each alone identifies an example. A query such as 'Summarize the meeting.' does not."""
        return tuple(example.inputs.values())

    def clean(self, prediction: str) -> str:
        """The part of a generated text that is the answer."""
        stop = self.limits.stop_text
        return prediction.split(stop, 1)[0] if stop else prediction

    def score_all(self, predictions: Sequence[str], examples: Sequence[TaskExample]) -> list[Scored]:
        """Score many answers; ``predictions[i]`` answers ``examples[i]``."""
        return [self.score(prediction, example) for prediction, example in zip(predictions, examples, strict=True)]

    def conversations(self) -> Iterator[Conversation]:
        """The rows as training data, asked as they are asked in evaluation."""
        for example in self.examples():
            prompt = self.prompt(example)
            answer = example.references[0] if example.taught is None else example.taught
            if self.chat:
                turns = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
                yield Conversation(messages=turns, source=example.source)
            else:
                text = prompt + self.answer_prefix + answer
                yield Conversation(messages=(), text=text, prompt=prompt, source=example.source)


def require_rows(rows: Sequence[Scored], task: str) -> None:
    """Refuse to make a score of nothing."""
    if not rows:
        raise DataError(f"{task}: there are no answers to score; the predictions hold no row")
