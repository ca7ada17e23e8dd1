"""Files, order, counts and scores of an evaluation; the scores are held against those of other programs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer

from sft.errors import DataError, GenerationError
from sft.evaluation.files import result_stem
from sft.evaluation.progress import EvaluationProgress
from sft.evaluation.prompting import PromptWriter
from sft.evaluation.run import evaluate_tasks
from sft.generation import Completion, Progress, Prompt, Sampling
from sft.generation.in_process import InProcessEngine, generate
from sft.generation.scripted import ScriptedEngine
from sft.tasks import TaskOptions, open_tasks
from sft.tasks.scoring import score_file

STEM = "Qwen_Qwen3-0.6B_step20"


@dataclass
class InOrder:
    """Gives prepared answers in the order it is asked."""

    answers: list[str]
    name: str = "prepared"

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, on_progress: Progress | None = None
    ) -> list[Completion]:
        given, self.answers = self.answers[: len(prompts)], self.answers[len(prompts) :]
        return [Completion(text, len(text.split()), "stop") for text in given]


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_qmsum_scores_are_those_of_rouge_score_and_files_hold_them(
    stories_tokenizer: Any, places: TaskOptions, tmp_path: Path
) -> None:
    [task] = open_tasks("qmsum", places)
    references = [example.references[0] for example in task.examples()[:6]]
    answers = [reference.upper()[: 40 * place] for place, reference in enumerate(references)]
    prompts = PromptWriter(stories_tokenizer, context_length=512)
    facts = {"step": 20, "model_name": "Qwen/Qwen3-0.6B"}
    found = evaluate_tasks([task], InOrder(answers), prompts, samples=6, folder=tmp_path, stem=STEM, facts=facts)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    expected = [
        scorer.score(reference, answer)["rougeL"].fmeasure
        for reference, answer in zip(references, answers, strict=True)
    ]
    results = found["qmsum"]
    assert [score for _, score in results["per_sample_rougeL"]] == expected
    assert results["main_score"] == results["rougeL"] == pytest.approx(sum(expected) / 6, abs=1e-12)
    assert {key: results[key] for key in ("num_samples", "num_available", "partial", "main_metric", "scorer")} == {
        "num_samples": 6,
        "num_available": 200,
        "partial": True,
        "main_metric": "rougeL",
        "scorer": "rouge_score, stemmed",
    }
    assert (results["engine"], results["prompts_cut"], results["answers_cut"]) == ("prepared", 6, 0)
    assert results["max_new_tokens"] == 256
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{STEM}_qmsum_temp0.0_predictions.jsonl",
        f"{STEM}_qmsum_temp0.0_results.json",
    ]
    written = json.loads((tmp_path / f"{STEM}_qmsum_temp0.0_results.json").read_text())
    assert written.pop("timestamp").startswith("20")
    assert written == {**json.loads(json.dumps(results)), **facts}
    lines = read_lines(tmp_path / f"{STEM}_qmsum_temp0.0_predictions.jsonl")
    assert [(line["id"], line["prediction"], line["reference"]) for line in lines] == [
        (example.id, answer, example.references[0])
        for example, answer in zip(task.examples()[:6], answers, strict=True)
    ]


def test_a_predictions_file_scores_as_it_was_scored(
    stories_tokenizer: Any, places: TaskOptions, tmp_path: Path
) -> None:
    tasks = open_tasks("truthfulqa,longbench/multi_news", places)
    engine = ScriptedEngine(lambda prompt: f" It is known: {sum(map(ord, prompt)) % 97}\nQ: And then?\nA: 5")
    prompts = PromptWriter(stories_tokenizer, context_length=512)
    found = evaluate_tasks(tasks, engine, prompts, samples=9, folder=tmp_path, stem="m_step0")
    truthful = score_file("truthfulqa", str(tmp_path / "m_step0_truthfulqa_temp0.0_predictions.jsonl"))
    news = score_file("multi_news", str(tmp_path / "m_step0_longbench_multi_news_temp0.0_predictions.jsonl"))
    for name, scored in (("truthfulqa", truthful), ("longbench/multi_news", news)):
        kept = scored.results[name]
        assert {key: found[name][key] for key in kept} == kept
    assert found["truthfulqa"]["engine"] == "scripted"
    assert found["truthfulqa"]["num_samples"] == 9


def test_the_whole_of_longbench_has_the_official_scores_and_averages(
    qwen3: Any, shared_data: Path, tmp_path: Path
) -> None:
    rows = shared_data / "minilongbench" / "rows_longbench_schema.jsonl"
    tasks = open_tasks("longbench", TaskOptions(longbench_dir=str(rows)))
    scored = defaultdict(list)
    for line in read_lines(shared_data / "minilongbench" / "predictions_scored.jsonl"):
        scored[line["dataset"]].append((line["pred"], line["official_score"]))
    engine = InOrder([text for task in tasks for text, _ in scored[task.name.split("/")[1]][:2]])
    found = evaluate_tasks(tasks, engine, PromptWriter(qwen3, None, 64), samples=2, folder=tmp_path, stem="m")
    expected = {name: round(100 * sum(score for _, score in lines[:2]) / 2, 2) for name, lines in scored.items()}
    assert {name: found[f"longbench/{name}"]["score"] for name in expected} == expected
    synthetic = (expected["passage_count"] + expected["passage_retrieval_en"]) / 2
    averages = found.pop("longbench")
    assert averages["english"]["categories"]["synthetic"] == round(synthetic, 2)
    assert averages["main_score"] == averages["english"]["average"]
    assert averages["partial"]
    assert averages["num_samples"] == 42
    assert len(list(tmp_path.glob("*_results.json"))) == 22
    assert len(list(tmp_path.glob("*_predictions.jsonl"))) == 21
    some = evaluate_tasks(
        tasks[:20], InOrder([""] * 40), PromptWriter(qwen3, None, 64), samples=2, folder=None, stem=""
    )
    assert "longbench" not in some


def test_a_real_model_answers_in_the_order_of_the_data(
    stories_model: Any, stories_tokenizer: Any, places: TaskOptions, tmp_path: Path
) -> None:
    tasks = [
        replace(task, limits=replace(task.limits, max_new_tokens=8)) for task in open_tasks("qmsum,truthfulqa", places)
    ]
    prompts = PromptWriter(stories_tokenizer, context_length=512)
    engine = InProcessEngine(stories_model, stories_tokenizer)
    found = evaluate_tasks(tasks, engine, prompts, samples=5, folder=tmp_path, stem="m_step0")
    for task in tasks:
        lines = read_lines(tmp_path / f"m_step0_{task.name}_temp0.0_predictions.jsonl")
        assert [line["id"] for line in lines] == [example.id for example in task.examples()[:5]]
        for line, example in zip(lines, task.examples()[:5], strict=True):
            alone = generate(stories_model, stories_tokenizer, [prompts.write(task, example).ids], max_new_tokens=8)
            assert [line["prediction"]] == alone
    assert found["qmsum"]["engine"] == "in_process"
    assert found["qmsum"]["answers_cut"] == 5


def test_rows_that_cannot_be_asked_count_as_wrong_with_their_reason(
    stories_tokenizer: Any, places: TaskOptions, tmp_path: Path
) -> None:
    [task] = open_tasks("truthfulqa", places)
    rows = list(task.examples()[:4])
    rows[1] = replace(rows[1], inputs={"question": "half \ud83d"})
    task = replace(task, load=lambda: rows)
    engine = ScriptedEngine(lambda prompt: rows[0].references[0])
    prompts = PromptWriter(stories_tokenizer)
    results = evaluate_tasks([task], engine, prompts, samples=None, folder=tmp_path, stem="m")["truthfulqa"]
    assert results["num_samples"] == 4
    assert results["unanswered"] == {"the text is no valid Unicode": 1}
    assert len(engine.asked) == 3
    lines = read_lines(tmp_path / "m_truthfulqa_temp0.0_predictions.jsonl")
    assert [line.get("unanswered") for line in lines] == [None, "the text is no valid Unicode", None, None]
    assert lines[1]["prediction"] == ""
    assert lines[1]["question"] == "half \ud83d"


def test_a_task_of_which_no_row_can_be_asked_is_an_error(qwen3: Any, places: TaskOptions, tmp_path: Path) -> None:
    [task] = open_tasks("qmsum", places)
    prompts = PromptWriter(qwen3, context_length=16)
    with pytest.raises(DataError, match="qmsum: not one of 3 rows can be asked: no room for the prompt"):
        evaluate_tasks([task], InOrder([]), prompts, samples=3, folder=tmp_path, stem="m")
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_loses_an_answer_is_not_believed(
    stories_tokenizer: Any, places: TaskOptions, tmp_path: Path
) -> None:
    [task] = open_tasks("truthfulqa", places)
    with pytest.raises(GenerationError, match="3 prompts were asked, 2 answers came"):
        evaluate_tasks(
            [task], InOrder(["a", "b"]), PromptWriter(stories_tokenizer), samples=3, folder=tmp_path, stem="m"
        )
    assert list(tmp_path.iterdir()) == []


def test_missing_rows_are_found_before_anything_is_generated(
    stories_tokenizer: Any, places: TaskOptions, shared_data: Path
) -> None:
    tasks = [*open_tasks("truthfulqa", places), *open_tasks("hotpotqa", places)]
    engine = ScriptedEngine({}, default="")
    with pytest.raises(DataError, match="hotpotqa"):
        evaluate_tasks(tasks, engine, PromptWriter(stories_tokenizer), samples=1, folder=None, stem="m")
    assert engine.asked == []


def test_progress_says_how_fast_and_how_long(stories_tokenizer: Any, places: TaskOptions) -> None:
    [task] = open_tasks("truthfulqa", places)
    told: list[EvaluationProgress] = []
    engine = ScriptedEngine({}, default="It is so.")
    evaluate_tasks(
        [task], engine, PromptWriter(stories_tokenizer), samples=4, folder=None, stem="", on_progress=told.append
    )
    assert [(one.done, one.total) for one in told] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[-1].samples_per_second == pytest.approx(4 / told[-1].seconds)
    assert told[-1].seconds_left == 0
    line = EvaluationProgress(task="qmsum", done=50, total=200, seconds=25.0)
    assert str(line) == "qmsum: 50/200 answered, 2.00 samples/s, 01:15 left"
    assert str(replace(line, done=0)) == "qmsum: 200 rows are asked"
    assert str(replace(line, done=0, total=1)) == "qmsum: 1 row is asked"


def test_stems_are_the_models_name_without_what_no_file_name_holds() -> None:
    assert result_stem("Qwen/Qwen3-0.6B", 20) == STEM
    assert result_stem("Qwen/Qwen3-0.6B") == "Qwen_Qwen3-0.6B"
    assert result_stem("C:\\models\\my model", -1) == "C__models_my_model_step-1"
    assert len(result_stem("/".join(["folder"] * 100), 5)) < 200
