"""QMSum: a meeting and a query, answered by a summary; ROUGE with stemmed words, as `evaluate` reports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft.data.types import Source
from sft.tasks.fields import text_field, texts_field
from sft.tasks.metrics.rouge_score import ROUGE_NAMES, rouge_scores
from sft.tasks.task import AnswerLimits, Loader, Results, Scored, Task, TaskExample, no_examples, require_rows

PROMPT = (
    "You are a helpful assistant. Please summarize the following meeting transcript based on the query.\n\n"
    "Transcript:\n{context}\n\nQuery: {input}\n\nSummary:"
)
MAX_NEW_TOKENS = 512
MAIN_METRIC = "rougeL"


@dataclass(frozen=True, kw_only=True)
class QmsumTask(Task):
    """Summaries scored against the first reference."""

    rows_of: str
    """Which rows they are: `longbench`, or a split of QMSum's own files. Part of ``dataset`` in results."""

    @property
    def scorer(self) -> str:
        return "rouge_score, stemmed"

    @property
    def answer_prefix(self) -> str:
        return " "

    def telling_inputs(self, example: TaskExample) -> tuple[str, ...]:
        """The meeting; many meetings are asked the same query."""
        return (example.inputs["context"],)

    def prompt(self, example: TaskExample) -> str:
        return PROMPT.format(context=example.inputs["context"], input=example.inputs["input"])

    def score(self, prediction: str, example: TaskExample) -> Scored:
        """``rouge1``, ``rouge2``, ``rougeL``, ``rougeLsum``, each 0 to 1; ``score`` is rougeL."""
        scores = rouge_scores(prediction, example.references[0])
        return {"score": scores[MAIN_METRIC], **scores}

    def aggregate(self, rows: Sequence[Scored], examples: Sequence[TaskExample]) -> Results:
        """Plain means. `evaluate` reports the middle of a random resampling, which differs by up to 0.0005."""
        require_rows(rows, self.name)
        means = {name: sum(row[name] for row in rows) / len(rows) for name in ROUGE_NAMES}
        return {
            "dataset": f"qmsum/{self.rows_of}",
            "num_samples": len(rows),
            **means,
            "per_sample_rougeL": [[example.id, row[MAIN_METRIC]] for example, row in zip(examples, rows, strict=True)],
            "main_metric": MAIN_METRIC,
            "main_score": means[MAIN_METRIC],
            "scorer": self.scorer,
        }

    def prediction_row(self, prediction: str, example: TaskExample) -> dict[str, Any]:
        return {"id": example.id, "prediction": prediction, "reference": example.references[0]}

    def read_prediction(self, values: Mapping[str, Any], source: Source) -> tuple[str, TaskExample]:
        """A line with ``prediction`` and ``reference``."""
        references = texts_field(values, ("reference", "references", "answers"), source)
        identity = str(values.get("id", source.line))
        example = TaskExample(id=identity, inputs={}, references=references, source=source)
        return text_field(values, ("prediction", "pred"), source), example


def make_qmsum(rows_of: str, *, load: Loader = no_examples, name: str = "qmsum") -> QmsumTask:
    """The task over some rows of QMSum."""
    return QmsumTask(
        name=name, limits=AnswerLimits(max_new_tokens=MAX_NEW_TOKENS), chat=True, load=load, rows_of=rows_of
    )
