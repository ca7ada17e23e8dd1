"""Every number on the page is one of the run's own files, and what a run did not record is called so."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft.report.names import PAGE
from sft.report.page import write_page

from .conftest import record, write_json
from .reading_pages import Page, read_page

MakeRun = Callable[..., Path]


def page_of(*folders: Path, output: Path) -> Page:
    return read_page(write_page(folders, output).read_text(encoding="utf-8"))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def logged(folder: Path, name: str) -> tuple[list[float], list[float]]:
    lines = [line for line in read_lines(folder / "metrics.jsonl") if name in line]
    return [line["step"] for line in lines], [line[name] for line in lines]


@pytest.fixture(params=["by hand", "trained"])
def folder(request: pytest.FixtureRequest) -> Path:
    if request.param == "trained":
        return Path(request.getfixturevalue("trained_run"))
    return Path(request.getfixturevalue("make_run")())


def test_curves_are_the_logged_figures(folder: Path, tmp_path: Path) -> None:
    page = page_of(folder, output=tmp_path / "page.html")
    for name in ("loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gib"):
        curve = page.chart(name)["curves"][0]
        steps, values = logged(folder, name)
        if name == "memory_gib":  # drawn in GB, as the terminal says it
            values = [value * 2**30 / 1e9 for value in values]
        assert curve["x"] == steps
        assert curve["y"] == pytest.approx(values, rel=1e-12, abs=0), name
        assert curve["of"] == len(curve["x"])


def test_losses_of_sources_and_answers_share_a_chart_each(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    lines = [
        {"step": step, "loss_of/a.jsonl": 1.0 + step, "loss_of/other_sources": 3.0, "loss_of_answer/1": 4.0}
        for step in range(1, 9)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    page = page_of(folder, output=tmp_path / "page.html")
    curves = page.chart("loss_of/")["curves"]
    assert [curve["name"] for curve in curves] == ["a.jsonl", "other sources"]
    assert (curves[0]["x"], curves[0]["y"]) == logged(folder, "loss_of/a.jsonl")
    assert [curve["name"] for curve in page.chart("loss_of_answer/")["curves"]] == ["answer 1"]
    assert [chart["id"] for chart in page.data["charts"] if "loss_of" in chart["id"]] == ["loss_of/", "loss_of_answer/"]


def test_losses_before_and_after(folder: Path, tmp_path: Path) -> None:
    result = read_json(folder / "run.json")["result"]
    (table,) = page_of(folder, output=tmp_path / "page.html").root.part("better").classed("losses")
    before, after, change = [float(cell.all("data")[0].attributes["value"]) for cell in table.all("td")[:3]]
    assert (before, after) == (result["eval_loss_before"], result["eval_loss"])
    assert change == pytest.approx(after - before)
    counted = table.all("caption")[0].numbers()
    assert counted == [logged(folder, "eval_trained_tokens")[1][-1]]


def test_numbers_of_data_and_course_are_those_of_the_record(folder: Path, tmp_path: Path) -> None:
    """Whatever stands as a number in these parts is a value of the run's files, or one of a few sums and shares."""
    page, record = page_of(folder, output=tmp_path / "page.html"), read_json(folder / "run.json")
    plan = record["plan"]
    known = set(numbers_in(record)) | set(numbers_in(read_json(folder / "data_summary.json")))
    known |= {value for line in read_lines(folder / "metrics.jsonl") for value in numbers_in(line)}
    dropped = sum(plan["dropped_tokens"].values())
    parts = [plan["trained_tokens"], plan["tokens"] - plan["trained_tokens"], plan["cut_tokens"], dropped]
    assert sum(parts) == plan["rendered_tokens"], "the account of tokens is the run's own"
    known |= {*parts, *(part / sum(parts) for part in parts)}
    known |= {sum(plan[name].values()) for name in ("rejected", "dropped")}
    marks = [mark["step"] for mark in page.data["marks"]]
    known |= {*marks, *page.data["counts"].values(), 2.0}  # rows of the spike that are not named
    known |= {float(len(page.data["charts"]) - 6)}
    shown = [*page.root.part("data").numbers(), *page.root.part("course").numbers()]
    assert len(shown) > 20
    assert [value for value in shown if not any(math.isclose(value, other) for other in known)] == []


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for one in value.values() for number in numbers_in(one)]
    if isinstance(value, list):
        return [number for one in value for number in numbers_in(one)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_counts_are_read_as_they_are_written(folder: Path, tmp_path: Path) -> None:
    """What stands between the tags says what the exact value says."""
    for element in page_of(folder, output=tmp_path / "page.html").root.all("data"):
        value, text = float(element.attributes["value"]), element.text
        if text.replace(",", "").replace("+", "").lstrip("-").isdigit():
            assert float(text.replace(",", "")) == value
        elif text.endswith("%"):
            assert float(text[:-1]) == pytest.approx(100 * value, abs=0.051)
        elif text.replace(",", "").replace(".", "").replace("-", "").replace("+", "").isdigit():
            assert float(text.replace(",", "")) == pytest.approx(value, rel=5e-3, abs=5e-5)


def test_scores_stand_against_step_0(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    better = page_of(folder, output=tmp_path / "page.html").root.part("better")
    entries = {entry["step"]: entry for entry in read_json(folder / "eval_history.json")["history"]}
    (table,) = better.classed("scores")
    steps = [head.all("data")[0].attributes["value"] for head in table.all("th", scope="col")[5:7]]
    assert steps == ["20", "40"], "the best step and the last one"
    shown = {row.all("td")[0].words: row for row in table.all("tr")[1:]}
    for task, metric in (("qmsum", "rougeL"), ("qmsum", "rouge1"), ("truthfulqa", "accuracy")):
        values = [entries[step]["results"][task][metric] for step in (0, 20, 40)]
        cells = [float(cell.all("data")[0].attributes["value"]) for cell in shown[metric].all("td")[3:]]
        assert cells == pytest.approx([*values, values[1] - values[0]])
    assert shown["rougeL"].all("td")[1].words == "2 of 200"
    assert shown["rougeL"].all("td")[2].words == "rouge_score, stemmed"
    combined = [entries[step]["combined_score"] for step in (0, 20, 40)]
    assert table.classed("total")[0].numbers() == pytest.approx([*combined, combined[1] - combined[0]])
    assert better.classed("verdict")[0].words == (
        "Yes. Combined score: 0.4750 untrained, 1.1500 at step 20, the best of 3 evaluations. "
        "The last model, of step 40, is below the best: 1.0500."
    )


def test_a_last_model_that_is_worse_is_said_and_comes_second(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    (folder / "best_adapter").mkdir()
    history = read_json(folder / "eval_history.json")
    history["history"][-1]["combined_score"] = 0.1
    (folder / "eval_history.json").write_text(json.dumps(history), encoding="utf-8")
    page = page_of(folder, output=tmp_path / "page.html")
    said = page.root.part("better").classed("verdict")[0].words
    assert said.endswith("is worse than the untrained one: 0.1000. The best is kept in best_adapter.")
    lines = [line.text for line in page.root.part("repeat").all("code") if line.text.startswith("sft")]
    assert lines[1:] == [
        "sft chat --model out/best_adapter",
        "sft chat --model out/final_model",
        "sft merge --base_model maker/small-model --adapter_path out/best_adapter --output_path out/merged",
    ]


def test_answers_stand_side_by_side(make_run: MakeRun, tmp_path: Path) -> None:
    (task,) = page_of(make_run(), output=tmp_path / "page.html").data["answers"][0]
    assert [(model["title"], model["step"]) for model in task["models"]] == [
        ("untrained", 0),
        ("best", 20),
        ("last", 40),
    ]
    asked = ["q1", "What was said?", "the reference of q1"]
    assert task["rows"] == [
        [*asked, ["the old words", "the new words", "the last words"], [0.1, 0.9, 0.5]],
        ["q2", None, "the reference of q2", ["nothing", "something", "nothing"], [0.3, 0.2, 0.3]],
    ]
    assert task["counts"] == {"better": 1, "worse": 1, "same": 0}


def own_answers(folder: Path, step: int, **outputs: str) -> None:
    """As a run writes them: a file a step, a list of questions with their answers."""
    write_json(
        folder / "gen_results" / f"gen_step_{step}.json",
        [{"question": f"{name}?", "output": text} for name, text in outputs.items()],
    )


def test_own_questions_stand_beside_the_tasks(make_run: MakeRun, tmp_path: Path) -> None:
    """Untrained, best and last; steps between are not shown, and nothing scores them."""
    folder = make_run()
    for step in (0, 10, 20, 40):
        own_answers(folder, step, Who=f"I, of step {step}", Why="because")
    task, own = page_of(folder, output=tmp_path / "page.html").data["answers"][0]
    assert task["task"] == "qmsum"
    assert (own["task"], own["metric"], own["asked"], own["counts"]) == ("your questions", None, 2, None)
    titles = [("untrained", 0), ("best", 20), ("last", 40)]
    assert [(model["title"], model["step"]) for model in own["models"]] == titles
    nothing = [None, None, None]
    assert own["rows"] == [
        ["question 1", "Who?", None, ["I, of step 0", "I, of step 20", "I, of step 40"], nothing],
        ["question 2", "Why?", None, ["because", "because", "because"], nothing],
    ]


def test_own_questions_alone_fill_their_section(make_run: MakeRun, tmp_path: Path) -> None:
    """A run without tasks; numbers count as numbers, and a question that was added later was not asked before."""
    folder = make_run()
    (folder / "eval_history.json").unlink()
    own_answers(folder, 0, Who="nobody")
    own_answers(folder, 9, Who="somebody")
    own_answers(folder, 10, Who="I", Why="because")
    page = page_of(folder, output=tmp_path / "page.html")
    (own,) = page.data["answers"][0]
    assert [(model["title"], model["step"]) for model in own["models"]] == [("untrained", 0), ("last", 10)]
    assert [row[3] for row in own["rows"]] == [["nobody", "I"], [None, "because"]]
    assert "was asked" not in page.root.part("says").words


@pytest.mark.parametrize("content", ["", "[", "3", '{"question": "Who?"}', '[{"question": "Who?"}]', '["Who?"]'])
def test_own_answers_that_cannot_be_read_are_told(content: str, make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    own_answers(folder, 0, Who="nobody")
    (folder / "gen_results" / "gen_step_40.json").write_text(content, encoding="utf-8")
    page = page_of(folder, output=tmp_path / "page.html")
    assert [row[3] for row in page.data["answers"][0][1]["rows"]] == [["nobody", None]]
    assert "gen_step_40.json" in page.root.words


def test_marks_and_their_rows(make_run: MakeRun, tmp_path: Path) -> None:
    page = page_of(make_run(), output=tmp_path / "page.html")
    marks = {(mark["kind"], mark["step"]) for mark in page.data["marks"]}
    assert marks == {("checkpoint", 20), ("resume", 20), ("spike", 31)}
    course = page.root.part("course").words
    assert "loss 0.9, grad_norm 7.5" in course
    assert "a.jsonl:1 and 2 more" in course
    assert "checkpoint-20: 3.0 MB in 1 files" in course


def test_examples_with_trained_tokens_marked(make_run: MakeRun, tmp_path: Path) -> None:
    (example,) = page_of(make_run(), output=tmp_path / "page.html").root.classed("example")
    (text,) = example.all("pre")
    assert text.text == "user: hello trained: good day"
    assert [mark.text for mark in text.classed("trained")] == ["trained: good day"]


def test_special_tokens_stand_back(make_run: MakeRun, tmp_path: Path) -> None:
    """They are told from words, and a trained answer stays one stretch with its end token."""
    folder = make_run()
    summary = read_json(folder / "data_summary.json")
    segments = [["<|im_start|>user\nhello<|im_end|>\n", False], ["good day<|im_end|>", True]]
    summary["examples"][0].update(segments=segments, special=["<|im_end|>", "<|im_start|>"])
    (folder / "data_summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (example,) = page_of(folder, output=tmp_path / "page.html").root.classed("example")
    (text,) = example.all("pre")
    assert text.text == "<|im_start|>user\nhello<|im_end|>\ntrained: good day<|im_end|>"
    assert [one.text for one in text.classed("special")] == ["<|im_start|>", "<|im_end|>", "<|im_end|>"]
    assert [one.text for one in text.classed("trained")] == ["trained: good day<|im_end|>"]


def test_rows_of_a_task_have_its_format(make_run: MakeRun, tmp_path: Path) -> None:
    """The plan names them by the task, the data by their file."""
    folder = make_run()
    run = read_json(folder / "run.json")
    run["plan"]["formats"] = {"longbench/hotpotqa": "rows of the task, asked as evaluation asks them"}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (table,) = page_of(folder, output=tmp_path / "page.html").root.part("data").classed("sources")
    assert next(cell.words for cell in table.all("td")) == "rows of the task, asked as evaluation asks them"


def test_options_with_their_origins_and_commands(make_run: MakeRun, tmp_path: Path) -> None:
    repeat = page_of(make_run(), output=tmp_path / "page.html").root.part("repeat")
    (options,) = repeat.all("table", id="options")
    assert options.rows()["learning_rate"] == ["0.001", "--learning_rate"]
    assert options.rows()["seed"] == ["42", "default"]
    lines = [line.text for line in repeat.all("code") if " " in line.text]
    assert lines == [
        "sft train run.yaml",
        "sft chat --model out/final_model",
        "sft merge --base_model maker/small-model --adapter_path out/final_model --output_path out/merged",
        "vllm serve out/merged",
        "transformers serve out/merged",
    ]


def test_a_killed_run_gives_a_true_page(make_run: MakeRun) -> None:
    folder = make_run(result=None)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 41, "loss": 0.0')
    page = page_of(folder, output=folder / PAGE)
    assert "Not finished" in page.root.words
    assert (
        "metrics.jsonl: 1 line could not be read; the last line is half written, as a kill leaves it" in page.root.words
    )
    assert page.chart("loss")["curves"][0]["x"][-1] == 40
    assert page.data["renews"], "the run may go on, and would write it anew"
    (table,) = page.root.part("better").classed("losses")
    assert table.numbers()[1:3] == [5.928102300942016, 5.9 - 0.4], "the latest one that was logged"
    assert "There is no saved model yet" in page.root.part("repeat").words


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "data_summary.json", "eval_history.json", "eval_step_0"])
def test_what_is_missing_is_called_so(name: str, make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    (folder / name).rename(tmp_path / "away")
    page = page_of(folder, output=tmp_path / "page.html")
    page.refuse_foreign_scripts()
    assert "not recorded" in page.root.words or name in ("eval_history.json", "eval_step_0")
    if name == "eval_step_0":
        assert [answer[3][0] for answer in page.data["answers"][0][0]["rows"]] == [None, None]


@pytest.mark.parametrize(
    "name", ["run.json", "data_summary.json", "eval_history.json", "metrics.jsonl", "incidents.jsonl"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'"text"', b"\xff\xfe\x00", b'{"step": "x"}\n{"a": NaN}'])
def test_a_damaged_file_breaks_nothing(name: str, content: bytes, make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    (folder / name).write_bytes(content)
    page_of(folder, output=tmp_path / "page.html").refuse_foreign_scripts()


@pytest.mark.parametrize("value", [None, 7, "text", [], [1], {"a": None}, {"a": [{"b": 1}]}], ids=repr)
def test_values_of_other_kinds_break_nothing(value: Any, make_run: MakeRun, tmp_path: Path) -> None:
    """A record of another version, or of another program, may hold anything anywhere."""
    parts = (
        "plan",
        "config",
        "versions",
        "processes",
        "device",
        "kernels",
        "memory",
        "parameters",
        "command",
        "starts",
    )
    page_of(make_run(**dict.fromkeys(parts, value)), output=tmp_path / "page.html")
    within = {name: dict.fromkeys(part, value) for name, part in record().items() if isinstance(part, dict)}
    page_of(make_run("within", **within), output=tmp_path / "page.html")


def test_no_score_beats_the_untrained_model(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    path = folder / "eval_history.json"
    history = read_json(path)
    history["history"][0]["combined_score"] = 2.0
    path.write_text(json.dumps(history), encoding="utf-8")
    said = page_of(folder, output=tmp_path / "page.html").root.part("better").classed("verdict")[0].words
    assert said.startswith("No. No evaluated step beats the untrained model.")


def test_several_runs_are_laid_over_each_other(make_run: MakeRun, tmp_path: Path) -> None:
    first, second = make_run("first"), make_run("second")
    config = read_json(second / "run.json")
    config["config"]["learning_rate"]["value"] = 0.5
    (second / "run.json").write_text(json.dumps(config), encoding="utf-8")
    page = page_of(first, second, output=tmp_path / "page.html")
    assert page.data["runs"] == ["first", "second"]
    assert [curve["run"] for curve in page.chart("loss")["curves"]] == [0, 1]
    assert len(page.root.classed("scores")) == 2
    (table,) = page.root.part("better").classed("compared")
    assert [row.all("th")[0].words for row in table.all("tr")[1:3]] == ["Better than untrained?", "Evaluation loss"]
    rows = [row for row in page.root.all("table", id="options")[0].all("tr")[1:] if not row.attributes.get("class")]
    shown = [[cell.words for cell in [*row.all("th"), *row.all("td")]] for row in rows]
    assert shown == [["learning_rate", "0.001", "0.5"]], "what differs is shown at first"
    labels = [one.attributes["aria-label"] for one in page.root.all("div", role="region")]
    assert len(set(labels)) == len(labels)


def test_a_page_elsewhere_or_of_a_finished_run_does_not_renew(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(result=None)
    assert page_of(folder, output=tmp_path / "page.html").data["renews"] is None
    done = make_run("done")
    assert page_of(done, output=done / PAGE).data["renews"] is None


def test_a_page_is_there_whole_or_not_at_all(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    (tmp_path / "page.html").write_text("before", encoding="utf-8")
    write_page([folder], tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir() if "page.html" in path.name] == ["page.html"]
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_page([folder], tmp_path / "taken")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
